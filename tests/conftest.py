"""Shared by all tests: figures without a screen; two devices on any CPU, light compilation, programs kept on disk."""

import os
from pathlib import Path

import jax
import matplotlib
import pytest

KEPT = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ovmse" / "tests"
"""Compiled programs, kept from run to run and shared by all processes of one; OVMSE_COMPILATION_CACHE overrides it."""

# Compilation is most of the tests' time, and without these passes takes a quarter of it (updates are a fifth slower).
LIGHT = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {LIGHT}"  # also for the processes that tests start

matplotlib.use("Agg")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)
jax.devices()  # from here on the number of devices is fixed

cache = os.environ.setdefault("OVMSE_COMPILATION_CACHE", str(KEPT))
# With a limit JAX locks the directory, so that no process reads what another has half written.
limit = os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))
if cache != "off":
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_compilation_cache_max_size", int(limit))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def pytest_configure(config: pytest.Config) -> None:
    """Throw away what a killed process left half written in the cache: an entry without its time stamp."""
    if not hasattr(config, "workerinput"):
        for entry in Path(cache).glob("*-cache"):
            if not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists():
                entry.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def one_length():
    """Every batch at full length: fewer programs to compile; `test_phases` tells that it changes nothing."""
    from ovmse.learning.lengths import longest_lane
    from ovmse.training import online_phase

    def longest(config, spec, method, data):
        return [longest_lane(config, spec, method, spec.episode_limit)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online_phase, "online_lengths", longest)
        yield
