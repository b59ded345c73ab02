"""The loop that both phases share: evaluate, save, run a compiled chunk, show it, check it, save."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ovmse.learning.parallel import SeedBatches
from ovmse.learning.phases import Phase, SeedState
from ovmse.runs.metrics_file import PROGRESS
from ovmse.system.clock import Chunk, Pace
from ovmse.training import failure_report, listeners
from ovmse.training.resume import save_when_due
from ovmse.training.run import Run, evaluate

SECONDS_PER_CHUNK = 2.0  # how long a compiled chunk runs before the display and Ctrl-C are served


@dataclass(frozen=True)
class PhaseLoop:
    """What one phase is to the loop; `budget`, `evaluate_every` and `first` are in the phase's unit.

    first: how much the first compiled chunk does, before its pace is known.
    done: the states → how much the slowest seed has done.
    advance: (states, mark of the next evaluation, how far to go now, the chunk to note the work in) → new states.
    compile: compiles what `advance` runs, by the shapes of a batch of states; None where that can't be done ahead.
    """

    name: Phase
    budget: int
    evaluate_every: int
    first: int
    done: Callable[[SeedBatches], int]
    advance: Callable[[SeedBatches, int, int, Chunk], SeedBatches]
    compile: Callable[[SeedState], None] | None = None

    def next_mark(self, done: int) -> int:
        """Where the next evaluation is due."""
        return min(self.budget, (done // self.evaluate_every + 1) * self.evaluate_every)

    def evaluations_left(self, done: int) -> int:
        """How many evaluations are to come, that at the end included."""
        marks = -(-self.budget // self.evaluate_every)
        return marks - done // self.evaluate_every if done < self.budget else 0

    def is_due(self, rows: list[dict[str, Any]], done: int) -> bool:
        """Whether an evaluation is due: at the phase's beginning, and whenever a mark was passed since the last one."""
        last = {row["seed"]: row[PROGRESS[self.name]] for row in rows if row["phase"] == self.name}
        before = min(last.values(), default=-1)
        return before < done and (before < 0 or self.next_mark(before) <= done)


def run_phase(run: Run, states: SeedBatches, phase: PhaseLoop) -> SeedBatches:
    """Run a phase to the end of its budget, from wherever the states are in it.

    Raises `Interrupted` with the run saved where it is asked to stop, `UserError` where learning came to a halt.
    """
    done, pace = phase.done(states), Pace(SECONDS_PER_CHUNK, first=phase.first)
    run.display.phase(phase.name, done, phase.budget, PROGRESS[phase.name].replace("_", " "))
    while True:
        if phase.is_due(run.rows, done):
            states = evaluate(run, states, lambda: save_when_due(run, states))  # noqa: B023
            listeners.tell(run, states)
        if done >= phase.budget:
            return states
        save_when_due(run, states)
        mark = phase.next_mark(done)
        with run.clock.measure(phase.name) as chunk:
            states = phase.advance(states, mark, min(mark, done + pace.amount()), chunk)
        was, done = done, phase.done(states)
        pace.note(done - was, chunk)
        run.display.advance(min(phase.budget, done), run.clock, phase.evaluations_left(done))
        failure_report.check(run, states)
        save_when_due(run, states)
