"""The phases that play nothing as the loop runs them: the offline phase, and a batch round."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from ovmse.config import Config
from ovmse.learning.lengths import offline_lengths
from ovmse.learning.parallel import SeedBatches, over_seeds
from ovmse.learning.phases import Phase, SeedState, learn_offline
from ovmse.learning.replay import Replay
from ovmse.learning.rounds import learn_from_logs
from ovmse.methods.method import Method
from ovmse.system.clock import Chunk
from ovmse.training.loop import PhaseLoop
from ovmse.training.run import Run, updates_of


def offline_phase(run: Run) -> PhaseLoop:
    """The offline phase: gradient updates on the dataset."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    assert run.data is not None
    lengths = offline_lengths(config, spec, method, run.data)

    def learn_some(config: Config, method: Method, state: SeedState, data: Replay, updates: Array) -> SeedState:
        return learn_offline(config, spec, method, state, data, updates, lengths)

    return counted_in_updates(run, Phase.OFFLINE, config.offline_updates, learn_some)


def batch_round(run: Run) -> PhaseLoop:
    """A batch round: gradient updates by the online objective on new and earlier logs."""
    config, spec, method, earlier = run.task.config, run.task.spec, run.task.method, run.task.earlier
    assert run.data is not None and config.round is not None
    lengths = offline_lengths(config, spec, method, run.data)

    def learn_some(config: Config, method: Method, state: SeedState, data: Replay, updates: Array) -> SeedState:
        return learn_from_logs(config, spec, method, state, data, updates, lengths, earlier)

    return counted_in_updates(run, Phase.ROUND, config.round.updates, learn_some)


def counted_in_updates(run: Run, name: Phase, budget: int, learn_some: Callable[..., SeedState]) -> PhaseLoop:
    """A phase counted in updates; every seed does as many as the others.

    learn_some: (configuration, method, state, data, updates) → the state after so many updates.
    """
    config, method = run.task.config, run.task.method
    learn = over_seeds(learn_some, config.seeds, settings=(config, method))

    def done(states: SeedBatches) -> int:
        return int(updates_of(run, states)[0])

    def advance(states: SeedBatches, mark: int, until: int, chunk: Chunk) -> SeedBatches:
        updates = until - done(states)
        chunk.updates = config.seeds * updates
        return jax.block_until_ready(learn(states, run.data, np.int32(updates)))

    return PhaseLoop(name, budget, config.evaluate_every_updates, 20, done, advance)
