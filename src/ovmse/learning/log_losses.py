"""A method's losses on a log without an update: how well what was learned fits other episodes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ovmse.config import LearnerConfig
from ovmse.learning import learner as learning, replay as replays
from ovmse.learning.learner import Batch, Learner, Losses, Objective
from ovmse.learning.replay import BLOCK, Replay


def log_losses(config: LearnerConfig, objective: Objective, learner: Learner, data: Replay, steps: int) -> Losses:
    """The means of the losses over all steps of a log, computed in blocks of episodes.

    steps: those of the log's longest episode. What is random in a loss is drawn alike at every call.
    """
    count, total = data.index.start.shape[0], data.index.length.sum()
    if config.value_normalisation:
        objective = objective._replace(error_scale=learner.target_square)

    def add(sums: Losses, first: Int[Array, ""]) -> tuple[Losses, None]:
        number = first + jnp.arange(min(BLOCK, count))
        episodes, remembered = replays.read_all(data, jnp.minimum(number, count - 1), steps)
        valid = episodes.valid & (number < count)[:, None]  # the last episode fills the last block up
        batch = Batch(episodes._replace(valid=valid), remembered, jnp.ones(valid.shape, bool))
        key = jax.random.fold_in(jax.random.key(0), first)
        means = learning.batch_loss(config, objective, learner.team, learner.target, batch, key, total)[1][0]
        return jax.tree.map(jnp.add, sums, means), None

    return jax.lax.scan(add, learning.no_losses(jnp.float32), jnp.arange(0, count, BLOCK))[0]
