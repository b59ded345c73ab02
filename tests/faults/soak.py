"""A long run: once the replay is full, the memory that the process holds must stay where it is."""

import time
from collections import Counter
from pathlib import Path

import psutil

from faults import runs

REPLAYS = 10
ALLOWED = 1.02


def trial(folder: Path, data: str, env_steps: int) -> Counter[str]:
    """A run of ten replays; its memory after the first two (the fill, and the first checkpoint after it) and later."""
    out, log = folder / f"soak-{env_steps}", folder / f"soak-{env_steps}.log"
    more = {
        "online-env-steps": env_steps, "replay-env-steps": env_steps // REPLAYS, "checkpoint-minutes": 0.05,
        "evaluate-every-env-steps": env_steps // 20, "offline-updates": 20, "evaluate-every-updates": 20,
    }  # fmt: skip
    words = [word for name, value in more.items() for word in (f"--{name}", str(value))]
    process = runs.start([w for w in runs.train(out, data, *words) if w != "--keep-experience"], log)
    watched, held = psutil.Process(process.pid), []
    while process.is_alive():
        done = evaluations(out)
        held.append((done, watched.memory_info().rss))
        time.sleep(0.25)
    assert runs.end(process) == 0, log.read_text()[-2000:]
    filled = [rss for done, rss in held if 2 / REPLAYS <= done < 4 / REPLAYS]
    later = [rss for done, rss in held if done >= 4 / REPLAYS and rss > 0]
    growth = max(later) / max(filled)
    assert growth < ALLOWED, f"memory grew {growth:.3f} times: {max(filled):,} to {max(later):,} bytes"
    return Counter({"soak: memory later, per mille of after the fill": round(1000 * growth)})


def evaluations(out: Path) -> float:
    """The share of the online evaluations that a run has behind it."""
    rows = out / "metrics.jsonl"
    lines = rows.read_text().count('"online"') if rows.exists() else 0
    return max(0, lines - 2) / (2 * 20)
