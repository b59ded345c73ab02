"""The command line. Nothing here may start JAX: the cores of a process are chosen before that."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

Part = Literal["update", "rollout", "online", "compiling", "memory", "scaling", "workers", "peer"]
PARTS: tuple[Part, ...] = ("update", "rollout", "online", "scaling", "compiling", "memory", "workers", "peer")


@dataclass(frozen=True)
class Options:
    """Measure the machine's own ceilings, and then the library against them."""

    only: tuple[Part, ...] = PARTS
    """parts to measure; the ceilings always are"""
    maps: tuple[str, ...] = ("3m", "2s3z", "5m_vs_6m", "6h_vs_8z", "27m_vs_30m")
    """SMAX maps"""
    batches: tuple[int, ...] = (32, 128)
    """episodes in a training batch"""
    seeds: tuple[int, ...] = (1, 4, 8)
    """seeds side by side (on an accelerator also 32)"""
    repeats: int = 5
    """repeats of every measurement"""
    seconds: float = 0.5
    """how long one repeat lasts, about"""
    quick: bool = False
    """a glance in about two minutes: one map, one batch, few parts, short repeats"""
    out: Path = Path("benchmarks.json")
    """where the figures go"""
    figure: Path | None = None
    """where the scaling figure goes (.svg or .png); none if not given"""
    cores: int | None = None
    """only the process that has so many cores (0: an accelerator); by default one with one core and one with all"""

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.seconds <= 0:
            raise SystemExit("--repeats must be at least 1 and --seconds above 0.")


QUICK: dict[str, Any] = {
    "only": ("update", "rollout", "online"),
    "maps": ("3m",),
    "batches": (32,),
    "seeds": (1, 8),
    "seconds": 0.1,
}


def shortened(options: Options) -> Options:
    """With `quick`, less of everything that was not chosen by hand."""
    if not options.quick:
        return options
    usual = Options()
    return dataclasses.replace(options, **{k: v for k, v in QUICK.items() if getattr(options, k) == getattr(usual, k)})


def as_json(options: Options) -> dict[str, Any]:
    """The options for another process."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items()}


def from_json(found: dict[str, Any]) -> Options:
    """Options from their JSON."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    return Options(**{**fields, "out": Path(fields["out"])})


def read(words: list[str] | None = None) -> Options:
    """The options of a command line."""
    return shortened(tyro.cli(Options, args=words, prog="python -m benchmarks", description=Options.__doc__))
