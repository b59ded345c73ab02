"""Setting JAX up: all cores of a CPU, and compiled programs kept on disk."""

import os
from pathlib import Path

import jax


def use_all_cores() -> None:
    """Let JAX see each core of a CPU as a device; after JAX's first computation it is too late, and nothing changes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        return


def use() -> None:
    """Set JAX up once: all cores, and compiled programs kept in the user's cache directory.

    ``OVMSE_COMPILATION_CACHE`` names another directory, or is ``off``.
    """
    use_all_cores()
    where = os.environ.get("OVMSE_COMPILATION_CACHE", "")
    if where != "off":
        base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", where or str(base / "ovmse" / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
