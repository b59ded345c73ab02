"""What a dataset was made on, so that making it again can be judged: versions, the processor, the code's revision."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ovmse", "jax", "jaxlib", "jaxmarl", "equinox", "optax", "numpy")


def versions() -> dict[str, str]:
    """Everything that the bits of a collected dataset depend on beside its recipe; empty text where unknown.

    The number of cores is among it: it decides how sums are split.
    """
    import jax

    from ovmse import rundir  # imports jax, which the catalogue does without

    return {
        **{name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or ""),
        "device": ", ".join(sorted({device.device_kind for device in jax.local_devices()})),
        "git_revision": rundir.git_revision(),
    }


def differing(recorded: dict[str, Any], now: dict[str, str]) -> tuple[str, ...]:
    """The versions that differ, each as ``name: recorded, now found``; one that was never recorded differs too."""
    return tuple(
        f"{name}: {recorded.get(name) or 'not recorded'}, now {now[name] or 'unknown'}"
        for name in now
        if recorded.get(name) != now[name]
    )


def cpu_name() -> str:
    """The processor's name as its maker gives it, or at least its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named or [_apple_cpu() or platform.processor() or platform.machine()])[0]


def _apple_cpu() -> str:
    """What macOS calls the processor; empty elsewhere."""
    if platform.system() != "Darwin":
        return ""
    done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
