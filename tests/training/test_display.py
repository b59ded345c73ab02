"""The time that is left: by hand, from the work, the evaluations and what was compiled."""

import io

import pytest
from rich.console import Console

from ovmse.learning.phases import Phase
from ovmse.system.clock import Chunk, Clock
from ovmse.training.display import Display
from ovmse.training.loop import PhaseLoop


def shown(clock, done, first=0, evaluations=0):
    display = Display(Console(file=io.StringIO(), width=100))
    display.phase("offline", first, 100, "updates")
    display.last_line -= 60
    display.advance(done, clock, evaluations)
    return display.console.file.getvalue().strip()


def test_compiling_and_the_first_evaluation_tell_nothing_of_the_work_to_come():
    """20 of 100 updates in 2 s beside 30 s of compilation, one evaluation of 5 s: 80 at 0.1 s, and four evaluations."""
    clock = Clock(spent={"offline": Chunk(seconds=32.0, compiling=30.0), "evaluation": Chunk(0, 0, 45.0, 40.0, 1)})
    assert shown(clock, 20, evaluations=4) == "offline: 20/100 updates, 28 s left"


def test_a_resumed_run_tells_the_time_by_its_own_pace():
    clock = Clock()
    clock.restore({"spent": {"offline": vars(Chunk(seconds=500.0, stretches=9))}})
    clock.spent["offline"].seconds += 3
    assert clock.here("offline") == Chunk(seconds=3.0)
    assert shown(clock, 60, first=50) == "offline: 60/100 updates, 12 s left"
    assert clock.here("evaluation") == Chunk()


@pytest.mark.parametrize(("done", "left"), [(0, 4), (1, 4), (30, 3), (60, 2), (75, 2), (90, 1), (100, 0), (104, 0)])
def test_evaluations_to_come(done, left):
    phase = PhaseLoop(Phase.ONLINE, budget=100, evaluate_every=30, first=1, done=len, advance=lambda *_: [])
    assert phase.evaluations_left(done) == left
