"""Ray, on this machine alone or at an address."""

import re
import signal
import socket
import threading
import warnings
from typing import Any

from ovmse.core.errors import UserError

LOCAL = "local"
"""The address that stands for a Ray of this machine alone, which ends with this process."""
SECONDS = 10.0
"""How long an address may take to answer; Ray by itself would ask for minutes."""


def connect(address: str, cores: int) -> Any:
    """The module of Ray, connected.

    address: `LOCAL`, ``auto`` for one that this machine is part of, or a host and port. cores: those of a local one.
    Raises `UserError` where Ray is not installed, or can't be reached.
    """
    try:
        import ray  # here: an extra, and a second
    except ImportError as error:
        raise UserError("--ray needs the package ray: pip install 'ovmse[ray]'.") from error
    check_answers(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    here = {"num_cpus": cores, "include_dashboard": False} if address == LOCAL else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called")  # JAX's: what is forked is replaced at once
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="error", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"Ray at {address!r} can't be used: {' '.join(str(error).split()).rstrip('.')}.") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray has put one in place that aborts on SIGTERM
            signal.signal(number, handler)
    return ray


def check_answers(address: str) -> None:
    """Raise `UserError` where nothing answers at a host and port; other addresses are Ray's to understand."""
    if found := re.fullmatch(r"(?:ray://)?\[?([^/\s]+?)\]?:(\d{1,5})", address):
        try:
            socket.create_connection((found[1], int(found[2])), SECONDS).close()
        except (OSError, OverflowError, UnicodeError) as error:
            raise UserError(f"no Ray answers at {address!r} ({error}). Is it started, and is this its port?") from error
