"""Asked to stop, by Ctrl-C, a scheduler's SIGTERM or a terminal that closes: once to stop where a run can go on, twice
to stop at once."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """The run was stopped; what `out` holds can be gone on with, in the way that `how` says.

    code: the exit code, 128 and the signal's number. at_once: it was not saved where it stood.
    """

    def __init__(self, out: Path, how: str, code: int = 130, at_once: bool = False):
        saved = "stopped at once; what was saved before is" if at_once else "stopped; the run is saved"
        super().__init__(f"{saved} in {out}. Go on with: {how}")
        self.out, self.code = out, code


class Stop:
    """While entered, the first Ctrl-C, SIGTERM or SIGHUP sets `asked` to its number and calls `tell`; a second one
    works as usual, but SIGHUP, which shells and the system send both. Where it is ignored (nohup) it stays so."""

    def __init__(self, tell: Callable[[], None]):
        self.asked, self._tell = 0, tell

    @property
    def code(self) -> int:
        """The exit code of a process that was asked to stop."""
        return 128 + (self.asked or signal.SIGINT)

    def __enter__(self) -> "Stop":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            asked_by = (signal.SIGINT, signal.SIGTERM) if ignored else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            self._previous = {number: signal.signal(number, self._ask) for number in asked_by}
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = number
        self._restore()
        if number == signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        self._tell()
