"""What a run or a dataset was made on: the code's revision, versions, the processor, and the command.

Where bits may depend on it, so that a run can be gone on with exactly and a dataset made again, it is compared.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovmse.system.cores import usable_cores

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "equinox", "optax", "jaxmarl", "pettingzoo", "mpe2", "zarr", "numpy")
"""What a run's bits may depend on, where it is installed."""
DATASET_PACKAGES = ("ovmse", "jax", "jaxlib", "jaxmarl", "equinox", "optax", "numpy")
"""What the bits of a collected dataset may depend on."""
JAX_SETTINGS = (
    "jax_threefry_partitionable", "jax_default_prng_impl", "jax_enable_x64", "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
)  # fmt: skip
"""Settings of JAX that change what is computed."""


def run_versions() -> dict[str, str]:
    """What a run runs on, for its `versions.json`."""
    return {
        "ovmse": version_of("ovmse"),
        "git_revision": git_revision(),
        **_installed(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": devices(),
        "command": command_line(),
    }


def run_conditions() -> dict[str, Any]:
    """All that a run's bits depend on beside its settings and data: where one differs they may not be the same."""
    import jax  # here, since the catalogue of datasets does without

    return {
        "source": source_checksum(),
        **_installed(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()} {cpu_name()}".strip(),
        "device": devices(),
        "cores": jax.local_device_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        **{name: str(jax.config.values[name]) for name in JAX_SETTINGS},
    }


def dataset_versions() -> dict[str, str]:
    """Everything that the bits of a collected dataset depend on beside its recipe; empty text where unknown.

    The number of cores is among it: it decides how sums are split.
    """
    return {
        **{name: version_of(name) for name in DATASET_PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": str(len(usable_cores())),
        "device": devices(),
        "git_revision": git_revision(),
    }


def differing_versions(recorded: Mapping[str, Any], now: Mapping[str, str]) -> tuple[str, ...]:
    """The versions that differ, each as ``name: recorded, now found``; one that was never recorded differs too."""
    return tuple(
        f"{name}: {recorded.get(name) or 'not recorded'}, now {now[name] or 'unknown'}"
        for name in now
        if recorded.get(name) != now[name]
    )


@functools.cache
def source_checksum() -> str:
    """The beginning of the SHA-256 of the package's source."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def git_revision() -> str:
    """The revision of the source that runs, with ``+changes`` where files differ from it; empty if unknown."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(PACKAGE))
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def command_line() -> str:
    """The command as a user would type it again."""
    program = Path(sys.argv[0]).name
    return " ".join(["ovmse" if program in ("ovmse", "__main__.py") else program, *sys.argv[1:]])


def version_of(package: str) -> str:
    """The version of an installed package; empty text where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def devices() -> str:
    """The kinds of device that JAX computes on."""
    import jax  # here, since the catalogue of datasets does without

    return ", ".join(sorted({device.device_kind for device in jax.local_devices()}))


def cpu_name() -> str:
    """The processor's name as its maker gives it, or at least its kind."""
    with contextlib.suppress(OSError):
        if named := re.search(r"^model name[^:]*:(.*)", Path("/proc/cpuinfo").read_text(errors="replace"), re.M):
            return named[1].strip()
    apple = ["sysctl", "-n", "machdep.cpu.brand_string"]
    told = subprocess.run(apple, capture_output=True, text=True).stdout if platform.system() == "Darwin" else ""
    return told.strip() or platform.processor() or platform.machine()


def _installed() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := version_of(name))}
