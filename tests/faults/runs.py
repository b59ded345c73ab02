"""The run that is made to fail, in processes of its own, and what tells it from one that nothing happened to."""

import hashlib
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

SECONDS_PER_CHUNK = 0.1  # shorter than by default, so that there are many places between two chunks
CORES = 2
SIZES = {
    "env": "matrix:two_step", "method": "ovmse", "seeds": 2, "offline-updates": 240, "online-env-steps": 600,
    "episodes-per-collect": 4, "updates-per-collect": 4, "batch-episodes": 8, "replay-env-steps": 200,
    "evaluate-every-updates": 80, "evaluate-every-env-steps": 200, "evaluate-episodes": 8, "hidden": 8,
    "embedding": 4, "hyper": 8, "checkpoint-minutes": 0.0005,
}  # fmt: skip
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))] + ["--keep-experience"]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["faults.runs", "ovmse.train", "ovmse.cli.main"])  # imported once, not in every process


def train(out: Path, data: str, *more: str) -> list[str]:
    """The words of the command; the same ones again go on with the run."""
    return ["train", *WORDS, "--data", data, "--out", str(out), *more]


def start(words: list[str], log: Path, prepare: Callable[..., None] | None = None, *given: Any) -> Any:
    """Run a command in a process of its own; `prepare` is called there first. Its output goes to a file."""
    process = CONTEXT.Process(target=_main, args=(words, log, prepare, given))
    process.start()
    return process


def _main(words: list[str], log: Path, prepare: Callable[..., None] | None, given: tuple) -> None:
    import jax

    from ovmse.cli import main
    from ovmse.system import jax_setup

    jax.config.update("jax_disable_most_optimizations", True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    use = jax_setup.use
    jax_setup.use = lambda: (use(), jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0))[0]
    importlib.import_module("ovmse.training.loop").SECONDS_PER_CHUNK = SECONDS_PER_CHUNK
    with log.open("a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        if prepare is not None:
            prepare(*given)
        code = main.main(words)
        sys.stdout.flush()
    os._exit(code)


def end(process: Any, seconds: float = 300.0) -> int:
    """A process's exit code (minus the signal's number where one ended it)."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a run did not end within {seconds} s")
    return process.exitcode


def wait_for_work(process: Any, out: Path, seconds: float = 300.0) -> bool:
    """Wait until a run has measured something since this call; False if it ended before."""
    rows, before = out / "metrics.jsonl", time.time()
    while process.is_alive() and time.time() - before < seconds:
        if rows.exists() and rows.stat().st_mtime >= before and rows.stat().st_size > 0:
            return True
        time.sleep(0.01)
    return False


def fingerprint(out: Path) -> dict[str, str]:
    """What must be equal bit for bit in two runs: networks, optimisers, replays, random states; metrics; experience."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    told = [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]
    found = {
        "state": json.loads((out / "summary.json").read_text())["state_sha256"],
        "metrics": hashlib.sha256(json.dumps(told).encode()).hexdigest(),
        "handover": hashlib.sha256((out / "handover.json").read_bytes()).hexdigest(),
    }
    for name in ("offline.safetensors", "teams.safetensors"):
        found[name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    for path in sorted((out / "experience").iterdir()):
        found[path.name] = json.loads((path / "zarr.json").read_text())["attributes"]["checksum"]
    return found


def litter(out: Path) -> list[str]:
    """What should not be there after a run has ended."""
    kept = out / "checkpoints" / str(json.loads((out / "summary.json").read_text())["checkpoint"])
    others = [path for path in (out / "checkpoints").iterdir() if path != kept]
    return [str(path) for path in (*others, *out.rglob("*")) if path in others or path.name.startswith(".")]


def make_data(folder: Path) -> str:
    """The log that the run learns from."""
    from support.episodes import write_two_step

    return write_two_step(folder / "data")
