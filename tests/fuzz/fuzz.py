"""Damaged logs of every format, by the thousand: `python tests/fuzz/fuzz.py --files 5400` (or `make fuzz`).

Every file is imported in a process of its own kind, with an audit of what that process does. What can become of one:

- refused: a `UserError`, and nothing is left of the import
- harmless: the damage touched nothing that counts; the dataset is the undamaged log's, bit for bit
- other values: the import went through with other values, and said that this format has no checksums to tell by
- SILENT: other values, and nothing was said
- TRACEBACK, CRASH, HANG, EXECUTED, WROTE OUTSIDE, MEMORY: a defect

Exit code 1 where there is any defect. Memory: the process must not grow by more than twice the file and `SLACK` bytes.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
from fuzz.logs import SOURCES  # noqa: E402
from support.corrupt import damaged  # noqa: E402

from ovmse.core.errors import UserError  # noqa: E402
from ovmse.data.dataset import Dataset  # noqa: E402
from ovmse.data.importing import import_dataset  # noqa: E402

SLACK = 2**27  # the readers work in blocks of up to 32 MiB
SECONDS = 60.0
GOOD = ("refused", "harmless", "other values")
NO_CHECKSUM = "no checksum"
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pickle.find_class")


class Watch:
    """Notes what this process executes and where it opens files to write."""

    def __init__(self, inside: Path) -> None:
        self.inside, self.on, self.seen = str(inside), False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in WATCHED:
            self.seen.append(f"EXECUTED: {event} {arguments!r}"[:300])
        elif event == "open" and isinstance(arguments[0], str | bytes) and self._writes(arguments):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith((self.inside, "/dev/null")):
                self.seen.append(f"WROTE OUTSIDE: {path}")

    @staticmethod
    def _writes(arguments: tuple) -> bool:
        mode, flags = arguments[1], arguments[2]
        return bool(set(mode or "") & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def worker(name: str, seeds: list[int], folder: Path) -> None:
    """Damage and import; one line of JSON before and after each file."""
    warnings.simplefilter("ignore")
    watch, write = Watch(folder), SOURCES[name]
    clean = folder / "clean"
    clean.mkdir()
    log = write(clean)
    expected = imported(log, folder / "expected")
    for seed in seeds:
        print(json.dumps({"begin": seed}), flush=True)
        place = folder / f"{seed}"
        shutil.copytree(clean, place)
        damage(place, np.random.default_rng(seed))
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        before = most_memory()
        watch.seen, watch.on = [], True
        outcome = outcome_of(place / log.relative_to(clean), folder / "out", expected)
        watch.on = False
        grown = most_memory() - before
        if grown > 2 * size + SLACK:
            outcome = f"MEMORY: grew by {grown} bytes for a file of {size}"
        if watch.seen:
            outcome = watch.seen[0]
        if left := [path.name for path in folder.iterdir() if path.name not in ("clean", "expected", str(seed))]:
            outcome = f"WROTE OUTSIDE: left {left}"
            for each in left:
                shutil.rmtree(folder / each, ignore_errors=True)
        shutil.rmtree(place)
        print(json.dumps({"seed": seed, "outcome": outcome, "grown": grown}), flush=True)


def most_memory() -> int:
    """The most bytes that this process has held at a time."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def damage(place: Path, rng: np.random.Generator) -> None:
    """Damage one file of a log, larger ones more often."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    weights = np.sqrt([1 + path.stat().st_size for path in files])
    file = files[rng.choice(len(files), p=weights / weights.sum())]
    file.write_bytes(damaged(file.read_bytes(), rng))


def imported(log: Path, out: Path) -> str:
    """The checksum of the values that a log holds; a dataset of our own is only opened."""
    if (log / "zarr.json").exists() or log.name == "dataset":
        return Dataset.open(log).metadata.checksum + content(Dataset.open(log))
    return import_dataset(log, out).metadata.checksum


def content(dataset: Dataset) -> str:
    """A short hash of all arrays."""
    import zlib

    return str([zlib.crc32(np.ascontiguousarray(array).data) for array in dict(dataset.flat).values()])


def outcome_of(log: Path, out: Path, expected: str) -> str:
    try:
        checksum = imported(log, out)
    except UserError:
        return "refused"
    except BaseException as error:
        return f"TRACEBACK: {error!r}"[:400]
    if checksum == expected:
        outcome = "harmless"
    else:
        told = Dataset.open(out).metadata.assumptions if out.exists() else []
        outcome = "other values" if any(NO_CHECKSUM in text for text in told) else "SILENT: other values"
    shutil.rmtree(out, ignore_errors=True)
    return outcome


def run(name: str, seeds: list[int], report: Callable[[dict], None]) -> None:
    """All files of a format, in as many processes as crashes ask for."""
    while seeds:
        with tempfile.TemporaryDirectory() as folder:
            call = [sys.executable, __file__, "--worker", name, "--seeds", json.dumps(seeds), "--folder", folder]
            process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdout is not None and process.stderr is not None
            under_way, began, unread = None, time.monotonic(), b""
            os.set_blocking(process.stdout.fileno(), False)
            while True:
                ended = process.poll() is not None
                unread += process.stdout.read() or b""
                *lines, unread = unread.split(b"\n")
                for line in lines:
                    began, found = time.monotonic(), json.loads(line)
                    if "begin" in found:
                        under_way = found["begin"]
                    else:
                        report(found)
                        seeds, under_way = seeds[1:], None
                if ended or time.monotonic() - began > SECONDS:
                    break
                time.sleep(0.005)
            hung = process.poll() is None
            process.kill()
            errors = process.communicate()[1].decode(errors="replace")
            if under_way is None and seeds and not hung:
                raise RuntimeError(f"{name}: the worker ended by itself: {errors[-2000:]}")
            if under_way is not None:
                what = "HANG" if hung else f"CRASH: exit code {process.returncode}: {errors[-300:]}"
                report({"seed": under_way, "outcome": what, "grown": 0})
                seeds = seeds[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5400, help="damaged files over all formats")
    parser.add_argument("--only", nargs="*", default=list(SOURCES), help=f"formats: {', '.join(SOURCES)}")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.worker, asked.seeds, asked.folder)
        return 0
    defects = 0
    for name in asked.only:
        counts, bad, began = Counter[str](), list[dict](), time.monotonic()

        def report(found: dict, counts: Counter = counts, bad: list = bad) -> None:
            counts[found["outcome"].partition(":")[0]] += 1
            if found["outcome"] not in GOOD:
                bad.append(found)

        count = -(-asked.files // len(asked.only))
        run(name, list(range(asked.first, asked.first + count)), report)
        told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
        print(f"{name:>18}: {count} files in {time.monotonic() - began:.0f} s: {told}", flush=True)
        for found in bad[:10]:
            print(f"{'':>20}seed {found['seed']}: {found['outcome']}")
        defects += len(bad)
    print(f"{defects} defects")
    return min(1, defects)


if __name__ == "__main__":
    sys.exit(main())
