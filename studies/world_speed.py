"""What the time of a run went into: on the host by its own account, of a compiled world by a round that is timed alone.

from world_speed import seconds
"""

import time
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from ovmse.config import Config
from ovmse.core import action_selection
from ovmse.envs.protocol import Environment
from ovmse.envs.settings import make_by_options
from ovmse.learning import learner
from ovmse.learning.rollout import Teams, collect
from ovmse.methods import find
from ovmse.runs.metrics_file import RunRecord
from ovmse.runs.saved_config import read_config
from ovmse.system import jax_setup

PARTS = ("environment", "acting", "learning", "compiling")
TIMED = 2.0  # seconds that a round is repeated for


def seconds(run: RunRecord) -> dict[str, float]:
    """What each of `PARTS` took, evaluations included, in seconds of one core; what is left of the run is neither."""
    summary, config = run.summary, read_config(run.path, trusted=True)
    env = None if "playing_s" in summary else make_by_options(str(config.env), config.env_settings, config.env_python)
    work = sum(summary.get(f"{kind}_s", 0.0) for kind in ("offline", "online", "evaluation")) - summary["compile_s"]
    if env is None:
        playing, acting = summary["playing_s"], summary["acting_s"]
    else:
        playing, acting = (rounds(run, config) * x for x in round_seconds(cast(Environment, env), config))
    parts = playing - acting, acting, work - playing, summary["compile_s"]
    return {name: round(x, 1) for name, x in zip(PARTS, parts, strict=True)}


def rounds(run: RunRecord, config: Config) -> float:
    """How many rounds of `episodes_per_collect` episodes a run played, all seeds together."""
    evaluations = sum(len(trace.columns["env_steps"]) for trace in run.all_traces)
    online = sum(float(trace.columns["episodes"][-1]) for trace in run.online)
    return (online + evaluations * config.evaluate_episodes) / config.episodes_per_collect


def round_seconds(env: Environment, config: Config) -> tuple[float, float]:
    """How long a round takes, and how much of that is acting: a new team's play less the same steps at random.

    Both go to the time limit or until all of the episodes are over.
    """
    jax_setup.use()
    spec, keys = env.spec, jax.random.split(jax.random.key(0), config.episodes_per_collect)
    team = learner.init(config.learner, spec, jax.random.key(1), find(config.method).parts).team

    def random(key: jax.Array, inputs: Any) -> jax.Array:
        return action_selection.epsilon_greedy(key, inputs.q, inputs.avail, jnp.float32(1.0))

    def alone(key: jax.Array) -> jax.Array:
        def step(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], jax.Array]:
            state, observation = carry
            nothing = jnp.zeros(observation.avail.shape)
            action = action_selection.epsilon_greedy(key, nothing, observation.avail, jnp.float32(1.0))
            state, observation, result = env.step(key, state, action.astype(jnp.int32))
            return (state, observation), result.reward

        return jax.lax.scan(step, env.reset(key), jax.random.split(key, spec.episode_limit))[1].sum()

    with_team = timed(lambda: collect(env, Teams(team), random, keys).won)
    without = timed(lambda: jax.vmap(alone)(keys))
    return with_team, max(0.0, with_team - without)


def timed(function: Callable[[], jax.Array]) -> float:
    """Seconds that a compiled call takes, the mean of as many as go into `TIMED`."""
    compiled = jax.jit(function)
    compiled().block_until_ready()
    began, count = time.monotonic(), 0
    while time.monotonic() - began < TIMED:
        compiled().block_until_ready()
        count += 1
    return (time.monotonic() - began) / count
