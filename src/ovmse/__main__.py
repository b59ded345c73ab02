"""``python -m ovmse``, and the installed command."""

import os
import signal
import sys
import threading
from types import CodeType, FrameType

AGAIN_SECONDS = 0.05


class Patient:
    """A handler of Ctrl-C that waits while something is imported: an import that is interrupted raises anything, or
    crashes. A second Ctrl-C meanwhile ends the process at once."""

    waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        place = frame
        while place is not None and not _is_deaf(place.f_code):
            place = place.f_back
        if place is None:
            signal.default_int_handler(number, frame)
        if self.waits:
            os._exit(130)
        self.waits = True
        timer = threading.Timer(AGAIN_SECONDS, self._again, (number,))
        timer.daemon = True
        timer.start()

    def _again(self, number: int) -> None:
        self.waits = False
        os.kill(os.getpid(), number)


def _is_deaf(code: CodeType) -> bool:
    """Whether what is raised in a function is lost: in an import, and where Python calls back and prints what comes."""
    return code.co_filename.startswith("<frozen importlib") or code.co_name in ("_xla_gc_callback", "__del__")


def run() -> None:
    """Run the command line and exit with its code; 130 where Ctrl-C came before it was there."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as after nohup
        signal.signal(signal.SIGINT, Patient())
    for number in range(3):  # a closed one would be the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        from ovmse.cli.main import main  # here, since Ctrl-C may come while it is imported
        from ovmse.system import background

        background.leave(main())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
