"""Setting JAX up: all cores of a CPU, and compiled programs kept on disk."""

import contextlib
import gc
import os
import tempfile
import warnings
from pathlib import Path

import jax

from ovmse.core.errors import UserError
from ovmse.system.cores import usable_cores

SELDOM = (50_000, 20, 50)  # tracing makes objects by the million, and nearly all of them stay: it took a seventh longer


def use() -> None:
    """Set JAX up once: each core of a CPU a device, and compiled programs kept in the user's cache directory; from then
    on Python looks for garbage less often.

    ``OVMSE_COMPILATION_CACHE`` names another directory, or is ``off``. Where nothing can be written there, a warning
    says so, and nothing is kept. Raises `UserError` where JAX computes in double precision.
    """
    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise UserError("ovmse computes in single precision: unset JAX_ENABLE_X64 (jax_enable_x64), which is on.")
    with contextlib.suppress(RuntimeError):  # after JAX's first computation it is too late, and nothing changes
        jax.config.update("jax_num_cpu_devices", len(usable_cores()))
    if 0 < gc.get_threshold()[0] < SELDOM[0]:
        gc.set_threshold(*SELDOM)
    where = os.environ.get("OVMSE_COMPILATION_CACHE", "")
    if where != "off":
        base = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        where = where or str(base / "ovmse" / "compiled")
        try:
            Path(where).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=where).close()
        except OSError as error:
            warnings.warn(
                f"compiled programs can't be kept in {where} ({error.strerror}): each process compiles its own. "
                "OVMSE_COMPILATION_CACHE names another directory.",
                stacklevel=2,
            )
            return
        jax.config.update("jax_compilation_cache_dir", where)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # the many small ones take a second, too
