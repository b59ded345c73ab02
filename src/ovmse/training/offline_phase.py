"""The offline phase as the loop runs it: gradient updates on the dataset."""

import jax
import numpy as np
from jaxtyping import Array

from ovmse.config import Config
from ovmse.learning.lengths import offline_lengths
from ovmse.learning.parallel import SeedBatches, over_seeds
from ovmse.learning.phases import Phase, SeedState, learn_offline
from ovmse.learning.replay import Replay
from ovmse.methods.method import Method
from ovmse.system.clock import Chunk
from ovmse.training.loop import PhaseLoop
from ovmse.training.run import Run, updates_of


def offline_phase(run: Run) -> PhaseLoop:
    """The phase, counted in updates; every seed does as many as the others."""
    config, spec, method = run.task.config, run.task.env.spec, run.task.method
    assert run.data is not None
    lengths = offline_lengths(config, spec, method, run.data)

    def learn_some(config: Config, method: Method, state: SeedState, data: Replay, updates: Array) -> SeedState:
        return learn_offline(config, spec, method, state, data, updates, lengths)

    learn = over_seeds(learn_some, config.seeds, settings=(config, method))

    def done(states: SeedBatches) -> int:
        return int(updates_of(run, states)[0])

    def advance(states: SeedBatches, mark: int, until: int, chunk: Chunk) -> SeedBatches:
        updates = until - done(states)
        chunk.updates = config.seeds * updates
        return jax.block_until_ready(learn(states, run.data, np.int32(updates)))

    return PhaseLoop(Phase.OFFLINE, config.offline_updates, config.evaluate_every_updates, 20, done, advance)
