"""Wall time, processor time, compile time and memory of a process."""

import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import jax


@dataclass
class Chunk:
    """Measured work. seconds: its wall time; compiling: the part of it that compiled; stretches: in how many parts."""

    updates: int = 0
    env_steps: int = 0
    seconds: float = 0.0
    compiling: float = 0.0
    stretches: int = 0

    @property
    def busy(self) -> float:
        """Seconds without those that compiled."""
        return self.seconds - self.compiling


class SavedClock(TypedDict, total=False):
    """What a clock leaves in a checkpoint; what it lacks is none."""

    before: float
    before_cpu: float
    spent: dict[str, Chunk]


PARTS = ("waiting_for_play", "playing", "acting")
"""Kinds of work that lie within others, so that their compiling is counted there."""


@dataclass
class Clock:
    """Wall time, processor time, compile time and work done, the latter two by kind of work."""

    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    before_cpu: float = 0.0
    started_cpu: float = field(default_factory=time.process_time)
    spent: dict[str, Chunk] = field(default_factory=dict)
    restored: dict[str, Chunk] = field(default_factory=dict)

    def elapsed(self) -> float:
        """Seconds since the run began, earlier parts of a resumed run included."""
        return self.before + time.monotonic() - self.started

    def elapsed_cpu(self) -> float:
        """Seconds that the cores have worked for this process since then, all threads together."""
        return self.before_cpu + time.process_time() - self.started_cpu

    @contextmanager
    def measure(self, kind: str) -> Iterator[Chunk]:
        """Add a stretch of work; the caller notes in the chunk how much was done."""
        chunk, began, compiled = Chunk(stretches=1), time.monotonic(), _thread.compiling
        yield chunk
        chunk.seconds, chunk.compiling = time.monotonic() - began, _thread.compiling - compiled
        total = self.spent.setdefault(kind, Chunk())
        for name, value in vars(chunk).items():
            setattr(total, name, getattr(total, name) + value)

    def here(self, kind: str) -> Chunk:
        """The work of a kind that this process has done, without what was done before a run was resumed."""
        now, before = (vars(part.get(kind, Chunk())) for part in (self.spent, self.restored))
        return Chunk(**{name: now[name] - before[name] for name in now})

    def saved(self) -> dict[str, Any]:
        """The clock as JSON, for a run that will be resumed."""
        spent = {kind: vars(chunk) for kind, chunk in self.spent.items()}
        return {"before": self.elapsed(), "before_cpu": self.elapsed_cpu(), "spent": spent}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a saved clock."""
        self.before, self.before_cpu = saved.get("before", 0.0), saved.get("before_cpu", 0.0)
        self.spent = {kind: Chunk(**chunk) for kind, chunk in saved.get("spent", {}).items()}
        self.restored = {kind: replace(chunk) for kind, chunk in self.spent.items()}

    def summary(self) -> dict[str, Any]:
        """Speed and memory as `summary.json` holds them; rates leave compile time out."""

        def rate(kind: str, unit: str) -> float | None:
            chunk = self.spent.get(kind)
            return round(getattr(chunk, unit) / chunk.busy, 2) if chunk and chunk.busy > 0 else None

        def ratio(kind: str) -> float | None:
            chunk = self.spent.get(kind)
            return round(chunk.updates / chunk.env_steps, 5) if chunk and chunk.env_steps else None

        return {
            "wall_s": round(self.elapsed(), 3),
            "cpu_s": round(self.elapsed_cpu(), 3),
            "compile_s": round(sum(c.compiling for kind, c in self.spent.items() if kind not in PARTS), 3),
            **{f"{kind}_s": round(c.busy if kind in PARTS else c.seconds, 3) for kind, c in self.spent.items()},
            "offline_updates_per_s": rate("offline", "updates"),
            "online_updates_per_s": rate("online", "updates"),
            "online_env_steps_per_s": rate("online", "env_steps"),
            "online_updates_per_env_step": ratio("online"),
            "peak_memory_bytes": peak_memory(),
        }


class _Thread(threading.local):
    """What JAX has spent on tracing and compiling in this thread, and what this thread has waited for another's."""

    compiling = 0.0


_thread = _Thread()


def _note_compiling(event: str, duration_secs: float, **_: Any) -> None:
    if event.startswith("/jax/core/compile/"):
        _thread.compiling += duration_secs


jax.monitoring.register_event_duration_secs_listener(_note_compiling)


@contextmanager
def waiting_for(compiler: threading.Lock) -> Iterator[None]:
    """Hold a lock under which another thread may be compiling; the wait for that counts as compile time."""
    began = time.monotonic()
    with compiler:
        _thread.compiling += time.monotonic() - began
        yield


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
        self.seconds, self.next = seconds, float(first)

    def amount(self) -> int:
        """Units of work for the next chunk."""
        return max(1, int(self.next))

    def note(self, done: int, chunk: Chunk) -> None:
        """Learn from a chunk; compiling does not count."""
        self.next = min(done * self.seconds / max(chunk.busy, 1e-3), self.next * 4)


def peak_memory() -> int:
    """The most bytes that this process has held: on the device if it is an accelerator, else in main memory."""
    device = jax.local_devices()[0]
    if device.platform != "cpu" and (stats := device.memory_stats()):
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
