"""Where a process can be made to die: named points around the writing of a checkpoint, each at its n-th time."""

import importlib
import itertools
import os
import signal
from pathlib import Path

POINTS = (
    "before the write", "in the write", "before the commit", "after the commit", "before the pruning",
    "in the pruning", "at the handover", "at the end",
)  # fmt: skip


def install(point: str, nth: int) -> None:
    """Have this process kill itself when it comes to a point for the n-th time."""
    from ovmse.runs import checkpoints
    from ovmse.system import pytree_files

    train = importlib.import_module("ovmse.training.train")  # `ovmse.train` itself is the function

    times = itertools.count(1)

    def here(now: bool = True) -> None:
        if now and next(times) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    write, save, replace, prune, rmtree = (
        checkpoints.write,
        pytree_files.save,
        Path.replace,
        checkpoints.prune,
        checkpoints.shutil.rmtree,
    )

    def is_commit(path: Path) -> bool:
        return path.parent.name == checkpoints.FOLDER and path.name.startswith(".")

    if point == "before the write":
        checkpoints.write = lambda *a, **k: (here(), write(*a, **k))[1]
    elif point == "in the write":

        def half(path, tree):
            save(path, tree)
            if is_commit(path.parent):
                whole = path.read_bytes()
                path.write_bytes(whole[: len(whole) // 2])
                here()
                path.write_bytes(whole)

        pytree_files.save = half
    elif point == "before the commit":
        Path.replace = lambda self, to: (here(is_commit(self)), replace(self, to))[1]
    elif point == "after the commit":
        Path.replace = lambda self, to: (replace(self, to), here(is_commit(self)))[0]
    elif point == "before the pruning":
        checkpoints.prune = lambda *a: (here(), prune(*a))[1]
    elif point == "in the pruning":

        def some(path, **options):
            files = [file for file in Path(path).rglob("*") if file.is_file()]
            for file in files[:1]:
                file.unlink()
            here(bool(files))
            rmtree(path, **options)

        checkpoints.shutil.rmtree = some
    elif point == "at the handover":
        for name in ("play", "teams", "save"):  # before and after the switch, and around its checkpoint
            setattr(train, name, (lambda old: lambda *a, **k: (here(), old(*a, **k))[1])(getattr(train, name)))
    elif point == "at the end":
        close, digest, tidy = train.online_log.write_all, train.state_checksum, checkpoints.tidy
        train.online_log.write_all = lambda x: (close(x), here())[0]
        train.state_checksum = lambda *a: (digest(*a), here())[0]
        checkpoints.tidy = lambda *a: (here(), tidy(*a))[1]
    else:
        raise ValueError(point)
