"""A phase as `ovmse.train` runs it, chunk by chunk: the seconds and the work of each."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from ovmse.config import Config
from ovmse.system.clock import Chunk, Clock
from ovmse.training.display import Display
from ovmse.training.setup import setup
from ovmse.training.train import run_phases

UNCOUNTED = 3  # chunks at the start, in which the run compiles and learns how much work makes a chunk


class Enough(Exception):
    """Ends a run whose chunks have been seen."""


class Watch(Display):
    """Keeps what the run's clock says after every chunk of a phase, and ends the run when it has seen enough."""

    def __init__(self, kind: str, chunks: int):
        super().__init__()
        self.kind, self.left, self.clocks = kind, chunks + UNCOUNTED, [Chunk()]

    def advance(self, done: int, clock: Clock, evaluations: int = 0) -> None:
        if self.kind in clock.spent:
            self.clocks.append(dataclasses.replace(clock.spent[self.kind]))
            self.left -= 1
            if self.left == 0:
                raise Enough


def phase_chunks(config: Config, kind: str, chunks: int) -> list[Chunk]:
    """So many chunks of a run's phase, offline or online, compiling left out; the run is then given up."""
    watch = Watch(kind, chunks)
    with tempfile.TemporaryDirectory() as folder:
        try:
            run_phases(setup(dataclasses.replace(config, out=Path(folder) / "run")), watch)
        except Enough:
            pass
        else:
            raise ValueError(f"the {kind} phase ended before {chunks} chunks were seen: its budget is too small.")
    pairs = list(zip(watch.clocks, watch.clocks[1:], strict=False))[UNCOUNTED:]
    return [difference(before, after) for before, after in pairs]


def difference(before: Chunk, after: Chunk) -> Chunk:
    """What was done between two readings of a clock. seconds: without compiling."""
    d: dict[str, Any] = {name: getattr(after, name) - getattr(before, name) for name in vars(after)}
    return Chunk(**{**d, "seconds": d["seconds"] - d["compiling"]})
