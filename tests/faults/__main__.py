"""All fault trials, with counts: ``make faults`` (or ``python -m faults PART…`` with ``tests`` on the path)."""

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import corruption, crash, disks, hosts, kills, malicious, not_numbers, runs, soak


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Where the runs go."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="ovmse-faults-"))
    yield folder
    shutil.rmtree(folder)  # kept where a trial failed


def part_kills(folder: Path, share: float) -> list:
    """Kill −9 at random times."""
    data, expected = prepared(folder)
    return [lambda i=i: kills.random_kills(folder, data, expected, i, round(20 * share)) for i in range(10)]


def part_crashes(folder: Path, share: float) -> list:
    """Deaths at named points."""
    data, expected = prepared(folder)
    return [lambda p=p: kills.crashes(folder, data, expected, 0, p, max(1, round(20 * share))) for p in crash.POINTS]


def part_stops(folder: Path, share: float) -> list:
    """SIGTERM and SIGINT."""
    data, expected = prepared(folder)
    wanted = [(signal.SIGTERM, 25, 0), (signal.SIGTERM, 25, 1), (signal.SIGINT, 10, 0), (signal.SIGINT, 10, 1)]
    return [
        lambda s=s, n=n, i=i: kills.stops(folder, data, expected, i, s, max(1, round(n * share))) for s, n, i in wanted
    ]


def part_repeats(folder: Path, share: float) -> list:
    """The same run in several processes."""
    data, expected = prepared(folder)

    def once(i: int) -> Counter[str]:
        kills.finish(folder / f"repeat-{i}", data, folder / f"repeat-{i}.log", expected)
        return Counter({"equal runs": 1})

    return [lambda i=i: once(i) for i in range(round(20 * share))]


def part_disks(folder: Path, share: float) -> list:
    """Disks that fill, directories that become read-only or vanish."""
    data, expected = prepared(folder)
    return [
        lambda k=k: disks.trials(folder, data, expected, 0, k, max(1, round(10 * share))) for k in disks.kinds(folder)
    ]


def part_corruption(folder: Path, share: float) -> list:
    """Damaged checkpoints."""
    data, expected = prepared(folder)
    run = corruption.stopped_run(folder, data)
    jobs = [lambda i=i: corruption.trials(folder, run, i, round(400 * share)) for i in range(8)]
    return [*jobs, lambda: corruption.whole_runs(folder, data, run, expected, 0, max(1, round(10 * share)))]


def part_malicious(folder: Path, share: float) -> list:
    """Files from a stranger."""
    prepared(folder)
    names = list(malicious.CASES)[: max(1, round(len(malicious.CASES) * share))]
    return [lambda n=n: malicious.trial(folder / "malicious", folder / "reference", n) for n in names]


def part_numbers(folder: Path, share: float) -> list:
    """Numbers that are none."""
    data, _ = prepared(folder)
    names = list(not_numbers.places())
    names = names[: max(1, round(len(names) * share))]

    def one_after_another() -> Counter[str]:  # they patch the package
        return sum((not_numbers.trial(folder, data, name) for name in names), Counter())

    return [one_after_another]


def part_hosts(folder: Path, share: float) -> list:
    """Host environments that fail."""
    kinds = hosts.KINDS[: max(1, round(len(hosts.KINDS) * share))]
    return [lambda: sum((hosts.trial(kind) for kind in kinds), Counter())]


def part_soak(folder: Path, share: float) -> list:
    """Memory over a run of ten replays."""
    data, _ = prepared(folder)
    return [lambda: soak.trial(folder, data, max(12_000, round(100_000 * share)))]


PREPARED: dict[Path, tuple] = {}


def prepared(folder: Path) -> tuple[str, dict[str, str]]:
    """The data, and the fingerprint of a run that nothing happens to."""
    if folder not in PREPARED:
        data = runs.make_data(folder)
        PREPARED[folder] = data, kills.reference(folder, data)
    return PREPARED[folder]


PARTS = {name.removeprefix("part_"): part for name, part in list(globals().items()) if name.startswith("part_")}


def results(jobs: list[Callable[[], Counter]], together: int) -> Iterator[Callable[[], Counter]]:
    """The jobs' results, side by side; a single job runs in the main thread, where time limits work."""
    if len(jobs) == 1:
        yield jobs[0]
        return
    with ThreadPoolExecutor(together) as pool:
        yield from [future.result for future in [pool.submit(job) for job in jobs]]


def main() -> int:
    """Run the parts that are asked for; 0 where nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of: {', '.join(PARTS)}; by default all")
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of trials")
    parser.add_argument("--together", type=int, default=2, help="processes side by side")
    parser.add_argument("--keep", type=Path, help="a directory for the runs, kept afterwards")
    options = parser.parse_args()
    failed = 0
    with place(options.keep) as folder:
        for name in options.parts:
            began, counts = time.monotonic(), Counter()
            jobs = PARTS[name](folder, options.share)
            for result in results(jobs, options.together):
                try:
                    counts += result()
                except Exception as error:
                    failed += 1
                    print(f"FAILED: {type(error).__name__}: {error}", flush=True)
            print(f"{name} ({(time.monotonic() - began) / 60:.1f} min)", flush=True)
            for what, count in sorted(counts.items()):
                print(f"  {count:6,d}  {what}", flush=True)
        if failed:
            print(f"{failed} trials failed", flush=True)
            raise SystemExit(1)
    print("nothing was lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
