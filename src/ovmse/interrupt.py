"""Ctrl-C: the first asks the run to stop where it can be resumed, the second stops at once."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """The user stopped the run; it is saved in `out` and can be resumed, in the way that `how` says."""

    def __init__(self, out: Path, how: str = ""):
        super().__init__(f"stopped; the run is saved in {out}. Go on with: {how or f'ovmse train --resume {out}'}")
        self.out = out


class Stop:
    """While entered, Ctrl-C sets `asked` and calls `tell` once; after that it works as usual."""

    def __init__(self, tell: Callable[[], None]):
        self.asked, self._tell = False, tell

    def __enter__(self) -> "Stop":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._previous)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._previous)
        self._tell()
