"""Checkpoints damaged in every way: none is loaded, an earlier one is, and the run says so."""

import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from support import corrupt

from faults import runs

KINDS = ("truncate", "flip_bit", "flip_bits", "zero_block", "fill_block", "random_block", "remove_block")


def stopped_run(folder: Path, data: str) -> Path:
    """A run that was killed with several checkpoints behind it."""
    from faults import crash

    out = folder / "to-damage"
    process = runs.start(runs.train(out, data), folder / "to-damage.log", crash.install, "after the commit", 6)
    assert runs.end(process) < 0
    return out


def trials(folder: Path, run: Path, seed: int, times: int) -> Counter[str]:
    """So many damaged files, one at a time, in the newest checkpoint of a copy of the run."""
    from ovmse.runs import checkpoints

    rng, counts = np.random.default_rng(seed), Counter()
    out = folder / f"damaged-{seed}"
    shutil.copytree(run, out)
    newest, before = checkpoints.names(out / checkpoints.FOLDER)[-1], checkpoints.names(out / checkpoints.FOLDER)[-2]
    files = sorted(newest.iterdir())
    while sum(counts.values()) < times:
        path = files[rng.integers(len(files))]
        content, kind = path.read_bytes(), KINDS[rng.integers(len(KINDS))]
        left = corrupt.damaged(content, rng, kind)
        if left == content:
            continue
        path.write_bytes(left)
        said: list[str] = []
        found = checkpoints.newest(out, said.append)
        assert found is not None and found.path == before, f"{path}, {kind}: {found}"
        assert len(said) == 1 and newest.name in said[0] and "damaged" in said[0], said
        path.write_bytes(content)
        counts[f"damaged by {kind}: refused"] += 1
    assert checkpoints.newest(out, said.append).path == newest
    shutil.rmtree(out)
    return counts


def whole_runs(folder: Path, data: str, run: Path, expected: dict[str, str], seed: int, times: int) -> Counter[str]:
    """Runs that go on from an earlier checkpoint because the newest is damaged."""
    from ovmse.runs import checkpoints

    rng, counts = random.Random(seed), Counter()
    for number in range(times):
        out, log = folder / f"fallback-{seed}-{number}", folder / f"fallback-{seed}-{number}.log"
        shutil.copytree(run, out)
        path = rng.choice(sorted(checkpoints.names(out / checkpoints.FOLDER)[-1].iterdir()))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        process = runs.start(["train", "--resume", str(out)], log)
        assert runs.end(process) == 0, log.read_text()[-2000:]
        assert "is damaged" in log.read_text()
        assert runs.fingerprint(out) == expected, out
        counts["runs gone on from an earlier checkpoint"] += 1
    return counts
