"""``python -m benchmarks``: what the machine can do, what the library makes of it, as tables and as JSON.

Every process measures one thing at a time: first one with a single core, where efficiency is read, then one with
all cores. With an accelerator there is one process, and no core is pinned.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import compiling, records, scaling, tables, update
from benchmarks.options import Options, as_json, read
from benchmarks.records import Ratio, Record

FILE_WIDTH = 160  # columns of the tables where the output goes into a file


def main(options: Options) -> int:
    """Measure, print, write; 1 if a job failed."""
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    wanted = [options.cores] if options.cores is not None else processes()
    with tempfile.TemporaryDirectory() as folder:
        results = [run(options, cores, Path(folder) / f"{cores}.json") for cores in wanted]
    found = [records.from_json(x) for result in results for x in result.pop("found")]
    found += across(found)
    tables.show(console, found)
    written: dict[str, Any] = {"options": as_json(options), "processes": results}
    options.out.write_text(json.dumps(written | {"found": [records.as_json(x) for x in found]}, indent=1) + "\n")
    console.print(f"Written: {options.out}", highlight=False)
    measured = [x for x in found if isinstance(x, Record)]
    if options.figure is not None and scaling.growth(measured, "agents"):
        scaling.draw(measured, options.figure)
        console.print(f"Figure: {options.figure}", highlight=False)
    failed = [x for result in results for x in result["failed"]]
    for x in failed:
        console.print(f"[bold red]failed:[/] {x['job']}", highlight=False)
    return 1 if failed else 0


def processes() -> list[int]:
    """The cores of each process to run; [0] with an accelerator."""
    if backend() != "cpu":
        return [0]
    if not hasattr(os, "sched_setaffinity"):
        return [os.cpu_count() or 1]
    there = len(os.sched_getaffinity(0))
    return sorted({1, there})


def backend() -> str:
    """What JAX would run on, asked in another process, so that this one holds no device."""
    words = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1]


def run(options: Options, cores: int, out: Path) -> dict[str, Any]:
    """One process's share. Raises `SystemExit` if it ended without a result."""
    told = json.dumps(as_json(options) | {"out": str(out), "figure": None})
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    subprocess.run([sys.executable, "-m", "benchmarks.process", told, str(cores)], env=environment)
    if not out.exists():
        raise SystemExit(f"the process with {cores} cores ended without a result.")
    return json.loads(out.read_text())


def across(found: list[Record | Ratio]) -> list[Ratio]:
    """Ratios of figures from several processes, or of several jobs."""
    measured = [x for x in found if isinstance(x, Record)]
    return [*update.cores_ratios(measured), *scaling.excess(measured), *compiling.growth(measured)]


if __name__ == "__main__":
    sys.exit(main(read()))
