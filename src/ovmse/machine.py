"""The machine that a run is on: its cores, its memory, its clock, and JAX's compilation cache."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import psutil

from ovmse import phases, replay
from ovmse.config import Config
from ovmse.data import Dataset
from ovmse.errors import UserError
from ovmse.method import Method
from ovmse.seeds import batched, slots, use_all_cores, width
from ovmse.types import EnvSpec
from ovmse.updates import group_size

GIB = 2**30
# Measured on SMAX maps, on a CPU:
PROGRAM_BYTES = int(0.4 * GIB)  # JAX's own memory and the loaded programs
COMPILING_BYTES = int(0.4 * GIB)  # what the compiler takes, and keeps, to play and to evaluate
COMPILING_PHASE_BYTES = int(0.17 * GIB)  # and for the updates of each phase


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


def needed_bytes(config: Config, spec: EnvSpec, dataset: Dataset | None, method: Method) -> dict[str, int]:
    """What a run will hold at its peak, in bytes.

    program: Python, JAX, the environment's library and the compiled programs. dataset: its padded copy, one for all
    seeds. replay: every seed's. learning: what the seeds that run at the same time need for an update and a round of
    play. compiling: what the compiler takes beside, where the programs are not yet in the cache. In the main memory
    `program` begins with what this process holds already, less the dataset as it was read.
    """
    row, together = replay.row_bytes(spec), width(config.seeds)
    read = 0 if dataset is None else dataset.nbytes
    data = 0 if dataset is None else (len(dataset.obs) + spec.episode_limit + 1) * row
    size, rows = config.learner, spec.episode_limit + 1
    inputs = spec.obs_size + spec.n_agents + spec.n_actions
    group = group_size(config.batch_episodes, spec.n_agents)
    # measured: an update keeps about 3 numbers per input and 18 per recurrent unit, for each agent and row
    update = 4 * group * rows * spec.n_agents * (3 * inputs + 18 * size.hidden)
    online = method.online_target is not None
    play = 2 * config.episodes_per_collect * rows * row
    stored = phases.replay_rows(config, spec) if online else 0
    learned_phases = online + (method.offline_loss is not None and config.pretrained is None)
    return {
        "program": PROGRAM_BYTES + (0 if batched() else psutil.Process().memory_info().rss - read),
        "dataset": data,
        "replay": slots(config.seeds) * stored * row,
        "learning": together * update + slots(config.seeds) * play,
        "compiling": 0 if batched() else COMPILING_BYTES + learned_phases * COMPILING_PHASE_BYTES,
    }


def check_memory(config: Config, spec: EnvSpec, dataset: Dataset | None, method: Method) -> dict[str, int]:
    """The bytes that a run needs. Raises `UserError` where the machine has less, what compiling takes left out."""
    needed = needed_bytes(config, spec, dataset, method)
    held = psutil.Process().memory_info().rss
    if batched():
        stats = jax.local_devices()[0].memory_stats() or {"bytes_limit": sum(needed.values()), "bytes_in_use": 0}
        available = stats["bytes_limit"] - stats["bytes_in_use"]
    else:
        available = psutil.virtual_memory().available + held
    # a dataset is there twice while it is prepared
    total = max(sum(needed.values()) - needed["compiling"], held + needed["dataset"])
    if total > available:
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in needed.items())
        raise UserError(
            f"this run needs about {total / GIB:.1f} GiB ({parts}) and {available / GIB:.1f} GiB are available. "
            f"Lower --replay-env-steps (now {config.replay_env_steps}) or --seeds (now {config.seeds})."
        )
    return needed


@dataclass
class Chunk:
    """One measured stretch of work. seconds: its wall time; compiling: the part of it that compiled."""

    updates: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    compiling: float = 0.0


@dataclass
class Clock:
    """Wall time, compile time and work done, by kind of work."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    spent: dict[str, Chunk] = field(default_factory=dict)
    before_compiling: dict[str, float] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Seconds since the run began, earlier parts of a resumed run included."""
        return self.before + time.monotonic() - self.started

    @contextmanager
    def measure(self, kind: str) -> Iterator[Chunk]:
        """Add a stretch of work; the caller notes in the chunk how much was done."""
        chunk, began, compiled = Chunk(), time.monotonic(), _compiling.seconds
        yield chunk
        chunk.seconds, chunk.compiling = time.monotonic() - began, _compiling.seconds - compiled
        total = self.spent.setdefault(kind, Chunk())
        for name, value in vars(chunk).items():
            setattr(total, name, getattr(total, name) + value)

    def saved(self) -> dict[str, Any]:
        """The clock as JSON, for a run that will be resumed."""
        return {"before": self.elapsed(), "spent": {kind: vars(chunk) for kind, chunk in self.spent.items()}}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a saved clock."""
        self.before = saved["before"]
        self.spent = {kind: Chunk(**chunk) for kind, chunk in saved["spent"].items()}
        self.before_compiling = {kind: chunk.compiling for kind, chunk in self.spent.items()}

    def summary(self) -> dict[str, Any]:
        """Speed and memory as `summary.json` holds them; rates leave compile time out."""

        def rate(kind: str, unit: str) -> float | None:
            chunk = self.spent.get(kind)
            busy = chunk.seconds - chunk.compiling if chunk else 0.0
            return round(getattr(chunk, unit) / busy, 2) if busy > 0 else None

        seconds = {f"{kind}_s": round(chunk.seconds, 3) for kind, chunk in self.spent.items()}
        return {
            "wall_s": round(self.elapsed(), 3),
            "compile_s": round(sum(c.compiling for c in self.spent.values()), 3),
            **seconds,
            "offline_updates_per_s": rate("offline", "updates"),
            "online_updates_per_s": rate("online", "updates"),
            "online_env_steps_per_s": rate("online", "env_steps"),
            "peak_memory_bytes": peak_memory(),
        }


@dataclass
class _Compiling:
    """Seconds that JAX has spent on tracing and compiling in this process."""

    seconds: float = 0.0

    def __call__(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            self.seconds += duration_secs


_compiling = _Compiling()
jax.monitoring.register_event_duration_secs_listener(_compiling)


class Interval:
    """Time that passes until something is due again."""

    def __init__(self, seconds: float):
        self.seconds, self.began = seconds, time.monotonic()

    def is_over(self) -> bool:
        """Whether it is due."""
        return time.monotonic() - self.began >= self.seconds

    def restart(self) -> None:
        """It was done; count anew."""
        self.began = time.monotonic()


class Pace:
    """How much work makes a chunk of about the wanted seconds, learned from the chunks so far."""

    def __init__(self, seconds: float, first: int):
        self.seconds, self.next, self.runs = seconds, float(first), 0

    def amount(self) -> int:
        """Units of work for the next chunk."""
        return max(1, int(self.next))

    def note(self, done: int, chunk: Chunk) -> None:
        """Learn from a chunk; compiling does not count."""
        busy = max(chunk.seconds - chunk.compiling, 1e-3)
        self.next = min(done * self.seconds / busy, self.next * 4)


def peak_memory() -> int:
    """The most bytes that this process has held: on the device if it is an accelerator, else in main memory."""
    device = jax.local_devices()[0]
    if device.platform != "cpu" and (stats := device.memory_stats()):
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
