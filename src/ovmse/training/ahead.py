"""The online phase's program, the longest to compile, compiled beside what comes before it."""

import jax

from ovmse.learning.parallel import SeedBatches, batched
from ovmse.learning.phases import Phase, SeedState, handover
from ovmse.system import background
from ovmse.system.cores import usable_cores
from ovmse.training import memory
from ovmse.training.loop import PhaseLoop
from ovmse.training.run import Run


def compile_ahead(run: Run, states: SeedBatches, online: PhaseLoop) -> None:
    """Begin to compile what the online phase runs, in a thread of its own; the phase waits for it.

    Nothing is begun where the phase is over, where there is one core alone, which would do the first evaluation later,
    where memory is short, and on an accelerator. An error is dropped, since the phase meets it, too.
    """
    if online.compile is None or online.done(states) >= online.budget or batched() or len(usable_cores()) < 2:
        return
    if not memory.has_room_to_compile(run.task.needed_bytes):
        return
    compile_phase, state = online.compile, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), states[0])
    background.start(lambda: compile_phase(handed_over(run, state)))


def handed_over(run: Run, state: SeedState) -> SeedState:
    """The shapes of a batch of states as they are in the online phase, by those that they have now."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    if state.phase is Phase.ONLINE:
        return state
    one = jax.vmap(lambda state, data: handover(config, spec, method, state, data), in_axes=(0, None))
    return jax.eval_shape(one, state, run.data)
