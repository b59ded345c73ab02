"""Disks that fill, directories that become read-only or vanish, while a run writes: one clear error, nothing lost."""

import errno
import itertools
import os
import random
import resource
import subprocess
from collections import Counter
from pathlib import Path

from faults import runs

WORDS = {
    "size limit": "File too large", "full": "No space left", "read-only": "Read-only", "vanished": "No such file",
    "small disk": "No space left",
}  # fmt: skip


OFFSETS = (0, 8_000), (3_000, 8_000)
"""Bytes of a file that are written before a disk is full; a limit on all files must let the output be written."""


def kinds(folder: Path) -> list[str]:
    """What can be tried here: a small disk of its own takes the right to mount one."""
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    try:
        mount(disk, 1)
    except (OSError, subprocess.CalledProcessError):
        return [kind for kind in WORDS if kind != "small disk"]
    unmount(disk)
    return list(WORDS)


def mount(disk: Path, kib: int, *options: str) -> None:
    """A disk in memory of so many KiB."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={kib}k", *options)), "tmpfs", str(disk)]
    subprocess.run(words, check=True, capture_output=True)


def unmount(disk: Path) -> None:
    """Away with it."""
    subprocess.run(["umount", str(disk)], check=True, capture_output=True)


def break_at(kind: str, nth: int, offset: int, out: Path) -> None:
    """From a run's n-th checkpoint on: files may have `offset` bytes at most, or the disk is full after so many, or
    nothing can be made in the directory, or it is gone."""
    from ovmse.runs import checkpoints
    from ovmse.system import pytree_files

    write, save_file, times = checkpoints.write, pytree_files.save_file, itertools.count(1)

    def write_or_fail(*given, **named):
        if next(times) == nth:
            if kind == "size limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (offset, offset))
            elif kind == "full":
                pytree_files.save_file = fill
            elif kind == "read-only":
                Path.mkdir = refuse
            else:
                out.rename(out.with_name(out.name + "-elsewhere"))
        return write(*given, **named)

    def fill(arrays, path):
        save_file(arrays, path)
        os.truncate(path, min(offset, Path(path).stat().st_size))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def refuse(self, *given, **named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    checkpoints.write = write_or_fail


def trials(folder: Path, data: str, expected: dict[str, str], seed: int, kind: str, times: int) -> Counter[str]:
    """So many broken writes, then the run goes on where the disk is mended."""
    from ovmse.runs import checkpoints

    if kind == "small disk":
        return on_small_disks(folder, data, expected, seed, times)
    rng, counts = random.Random(f"{kind} {seed}"), Counter()
    for number in range(times):
        out = folder / f"disk-{kind.replace(' ', '-')}-{seed}-{number}"
        log = out.with_suffix(".log")
        process = runs.start(
            runs.train(out, data),
            log,
            break_at,
            kind,
            rng.randint(2, 8),
            rng.randrange(*OFFSETS[kind == "size limit"]),
            out,
        )
        code = runs.end(process)
        if kind == "vanished":
            out.with_name(out.name + "-elsewhere").rename(out)
        assert checkpoints.names(out / checkpoints.FOLDER), f"{out}: no checkpoint is left"
        counts += judged(out, data, expected, log, code, kind)
    return counts


def judged(out: Path, data: str, expected: dict[str, str], log: Path, code: int, kind: str) -> Counter[str]:
    """What was said, what is left, and how the run ends where the disk is mended."""
    from ovmse.runs import checkpoints

    said = log.read_text()
    assert code == 2 and said.count("error:") == 1 and "Traceback" not in said, f"{out}: {code}: {said[-3000:]}"
    assert WORDS[kind] in said and "--resume" in said, f"{out}: {said[-1000:]}"
    if there := checkpoints.names(out / checkpoints.FOLDER):
        checkpoints.read(there[-1])
    process = runs.start(runs.train(out, data), log)
    assert runs.end(process) == 0, f"{out}: {log.read_text()[-2000:]}"
    assert runs.fingerprint(out) == expected, out
    assert not runs.litter(out), runs.litter(out)
    return Counter({f"disk: {kind}": 1, "runs compared": 1})


def on_small_disks(folder: Path, data: str, expected: dict[str, str], seed: int, times: int) -> Counter[str]:
    """Disks of a random size that a run fills at any of its files; then they grow."""
    rng, counts, disk = random.Random(seed), Counter(), folder / "disk"
    while counts["runs compared"] < times:
        mount(disk, size := rng.randint(40, 700))
        try:
            log = folder / f"disk-of-{size}-kib.log"
            code = runs.end(runs.start(runs.train(disk / "run", data), log))
            if code == 0:
                counts["disk: large enough"] += 1
                continue
            mount(disk, 65536, "remount")
            counts += judged(disk / "run", data, expected, log, code, "small disk")
        finally:
            unmount(disk)
    return counts
