"""Setting JAX up: all cores of a CPU, and compiled programs kept on disk."""

import contextlib
import os
from pathlib import Path

import jax

from ovmse.core.errors import UserError


def use() -> None:
    """Set JAX up once: each core of a CPU a device, and compiled programs kept in the user's cache directory.

    ``OVMSE_COMPILATION_CACHE`` names another directory, or is ``off``. Raises `UserError` where JAX computes in double
    precision.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise UserError("ovmse computes in single precision: unset JAX_ENABLE_X64 (jax_enable_x64), which is on.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # after JAX's first computation it is too late, and nothing changes
        jax.config.update("jax_num_cpu_devices", cores)
    where = os.environ.get("OVMSE_COMPILATION_CACHE", "")
    if where != "off":
        base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", where or str(base / "ovmse" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
