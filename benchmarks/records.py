"""What the benchmark leaves: records, ratios and a description of the machine, all of them plain JSON."""

import datetime
import importlib.metadata
import platform
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.floors import Ceiling, Floor
from benchmarks.timing import Spread

MEASURED_WITH = ("ovmse", "jax", "jaxlib", "jaxmarl", "equinox", "optax")


class Record(NamedTuple):
    """One measured figure.

    part: which part of the benchmark (update, rollout, …); name: what was measured; env: map or sizes; batch:
    episodes; seeds: how many side by side; cores: cores of the process (0: an accelerator); unit: of `value`;
    floor_seconds: the least time of the same work on this machine; share: floor ÷ measured, at the median;
    notes: further numbers, by name.
    """

    part: str
    name: str
    env: str
    batch: int
    seeds: int
    cores: int
    unit: str
    value: Spread
    floor_seconds: float | None = None
    share: float | None = None
    notes: dict[str, float | str] = {}


class Ratio(NamedTuple):
    """Two figures side by side. goal: what it should be, in words."""

    part: str
    name: str
    env: str
    cores: int
    value: Spread
    goal: str


def timed(seconds: Spread, floor: Floor, ceiling: Ceiling, **which: Any) -> Record:
    """A record of seconds against a floor; `which` fills the other fields."""
    least = floor.seconds(ceiling)
    return Record(
        unit="s",
        value=seconds,
        floor_seconds=least,
        share=least / seconds.median,
        **{**which, "notes": {"products": floor.products, "moved_bytes": floor.moved, **which.get("notes", {})}},
    )


def as_json(record: Record | Ratio) -> dict[str, Any]:
    """A record as JSON keeps it."""
    kind = "record" if isinstance(record, Record) else "ratio"
    return {"kind": kind, **record._asdict(), "value": record.value._asdict()}


def from_json(found: dict[str, Any]) -> Record | Ratio:
    """A record from its JSON."""
    fields = {name: value for name, value in found.items() if name != "kind"}
    fields["value"] = Spread(**fields["value"])
    return Record(**fields) if found["kind"] == "record" else Ratio(**fields)


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine(cores: int) -> dict[str, Any]:
    """What the figures were measured on. cores: cores of the process, 0 on an accelerator."""
    device = jax.local_devices()[0]
    return {
        "processor": processor(),
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.local_device_count(),
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in MEASURED_WITH},
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
