"""Ray, on this machine alone or at an address."""

import signal
import threading
import warnings
from typing import Any

from ovmse.core.errors import UserError

LOCAL = "local"
"""The address that stands for a Ray of this machine alone, which ends with this process."""


def connect(address: str, cores: int) -> Any:
    """The module of Ray, connected.

    address: `LOCAL`, ``auto`` for one that this machine is part of, or a host and port. cores: those of a local one.
    Raises `UserError` where Ray is not installed, or can't be reached.
    """
    try:
        import ray  # here: an extra, and a second
    except ImportError as error:
        raise UserError("--ray needs the package ray: pip install 'ovmse[ray]'.") from error
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    here = {"num_cpus": cores, "include_dashboard": False} if address == LOCAL else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called")  # JAX's: what is forked is replaced at once
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="error", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"Ray at {address!r} can't be used: {' '.join(str(error).split())}.") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray has put one in place that aborts on SIGTERM
            signal.signal(number, handler)
    return ray
