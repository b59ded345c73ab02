"""Shared by all tests: figures without a screen; two devices on any CPU, light compilation, no cache left behind."""

import atexit
import os
import shutil
import tempfile

import jax
import matplotlib
import pytest

matplotlib.use("Agg")

if "OVMSE_COMPILATION_CACHE" not in os.environ:
    os.environ["OVMSE_COMPILATION_CACHE"] = tempfile.mkdtemp(prefix="ovmse-tests-")
    atexit.register(shutil.rmtree, os.environ["OVMSE_COMPILATION_CACHE"], ignore_errors=True)

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)
jax.devices()  # from here on the number of devices is fixed


@pytest.fixture(scope="module")
def one_length():
    """Every batch at full length: fewer programs to compile; `test_phases` tells that it changes nothing."""
    from ovmse.learning import phases

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases, "lengths_within", lambda limit: [limit])
        yield
