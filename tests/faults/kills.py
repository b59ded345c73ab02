"""Processes killed, at random times and at named points, and asked to stop: every run must end as if nothing had been.

Each trial is a chain on one run: kill, go on, kill, …, until it is let go to its end and compared with the reference.
"""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from faults import crash, runs

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
SECONDS_TO_STOP = 10.0


def reference(folder: Path, data: str) -> dict[str, str]:
    """The fingerprint of a run that nothing happens to."""
    process = runs.start(runs.train(folder / "reference", data), folder / "reference.log")
    assert runs.end(process) == 0, (folder / "reference.log").read_text()
    return runs.fingerprint(folder / "reference")


def finish(out: Path, data: str, log: Path, expected: dict[str, str]) -> None:
    """Let a run go to its end (it may be there already), and compare."""
    if not (out / "summary.json").exists():
        process = runs.start(runs.train(out, data), log)
        assert runs.end(process) == 0, f"{out} did not go on: {log.read_text()[-2000:]}"
    found = runs.fingerprint(out)
    assert found == expected, f"{out} ended otherwise: {[k for k in expected if found.get(k) != expected[k]]}"


def random_kills(folder: Path, data: str, expected: dict[str, str], seed: int, kills: int) -> Counter[str]:
    """So many kill −9 at random times after a run has begun to work; the counts by where they hit."""
    rng, counts, done, number = random.Random(seed), Counter(), 0, 0
    while done < kills:
        out, log = folder / f"kill-{seed}-{number}", folder / f"kill-{seed}-{number}.log"
        number += 1
        for _ in range(min(8, kills - done)):
            process = runs.start(runs.train(out, data), log)
            if rng.random() < 0.85:
                runs.wait_for_work(process, out)
            time.sleep(rng.random() ** 2 * 2.5)
            if not process.is_alive():
                break
            os.kill(process.pid, signal.SIGKILL)
            runs.end(process)
            done += 1
            counts[phase_of(out)] += 1
            if (out / "summary.json").exists():
                break
        finish(out, data, log, expected)
        counts["runs compared"] += 1
    return counts


def phase_of(out: Path) -> str:
    """Where a run was when it was killed."""
    parts = list((out / "checkpoints").glob(".*")) if (out / "checkpoints").exists() else []
    if parts:
        return "killed within a save"
    if (out / "summary.json").exists():
        return "killed after the end"
    if (out / "handover.json").exists():
        return "killed in the online phase"
    if (out / "offline.safetensors").exists():
        return "killed at the handover"
    if (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size:
        return "killed in the offline phase"
    return "killed before the first evaluation"


def crashes(folder: Path, data: str, expected: dict[str, str], seed: int, point: str, times: int) -> Counter[str]:
    """So many deaths at a named point, several on each run."""
    rng, counts, done, number = random.Random(seed), Counter(), 0, 0
    while done < times:
        name = f"{point.replace(' ', '-')}-{seed}-{number}"
        out, log = folder / name, folder / f"{name}.log"
        number += 1
        for _ in range(min(4, times - done)):
            nth = rng.randint(1, 4 if point != "at the end" else 3)
            process = runs.start(runs.train(out, data), log, crash.install, point, nth)
            code = runs.end(process)
            if code == 0 or (code == 2 and "has ended" in log.read_text()):
                break
            assert code == -signal.SIGKILL, f"{out}: {code}: {log.read_text()[-2000:]}"
            done += 1
            counts[f"died {point}"] += 1
        finish(out, data, log, expected)
        if runs.litter(out):  # it died after its end: whatever comes next tidies up
            assert runs.end(runs.start(runs.train(out, data), log)) == 2
        assert not runs.litter(out), runs.litter(out)
        counts["runs compared"] += 1
    return counts


def stops(folder: Path, data: str, expected: dict[str, str], seed: int, sign: int, times: int) -> Counter[str]:
    """So many polite requests to stop; the exit code and the seconds must be as documented, and the run goes on."""
    rng, counts, done, number, slowest = random.Random(seed), Counter(), 0, 0, 0.0
    name = signal.Signals(sign).name
    while done < times:
        out, log = folder / f"{name}-{seed}-{number}", folder / f"{name}-{seed}-{number}.log"
        number += 1
        for _ in range(min(8, times - done)):
            process = runs.start(runs.train(out, data), log)
            working = runs.wait_for_work(process, out)
            time.sleep(rng.random() ** 2 * 2.0)
            if not process.is_alive() or not working:
                break
            began = time.monotonic()
            os.kill(process.pid, sign)
            code, took = runs.end(process), time.monotonic() - began
            if code == 0 or (out / "summary.json").exists():
                break  # it was about to end
            assert code == CODES[sign], f"{out}: {code}: {log.read_text()[-2000:]}"
            assert took < SECONDS_TO_STOP, f"{out}: {took:.1f} s"
            slowest = max(slowest, took)
            done += 1
            counts[f"stopped by {name}"] += 1
        finish(out, data, log, expected)
        counts["runs compared"] += 1
    counts[f"slowest {name}, ms"] = round(1000 * slowest)
    return counts
