"""Work beside the main thread's that nobody has to wait for, such as compiling what is needed later."""

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable

_threads: list[threading.Thread] = []


def start(work: Callable[[], object]) -> threading.Thread:
    """Do some work in a thread of its own, whose errors are dropped.

    The interpreter waits for it before it ends, since a compiler whose memory is taken away crashes; see `leave`.
    """

    def quietly() -> None:
        with contextlib.suppress(Exception):
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    atexit.register(thread.join)
    _threads.append(thread)
    thread.start()
    return thread


def leave(code: int) -> None:
    """End the process with this code, at once where a thread is still at work."""
    if any(thread.is_alive() for thread in _threads):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)
