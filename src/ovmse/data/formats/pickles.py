"""Pickled logs: recognised by their names and first bytes, never loaded; the error says how to convert them.

OMIGA and MADT come as one pickle per episode. A pickle is a program: who loads it runs what its author wrote.
"""

import contextlib
import itertools
import zipfile
from pathlib import Path

from ovmse.core.errors import UserError

SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".p", ".joblib")
NOTES = ("", ".txt", ".md", ".json", ".yaml", ".yml", ".log")
LISTED = 2000
RECIPE_HINT = "See the script for converting it in docs/importing.md."
RECIPE = """\
import pickle, sys
from pathlib import Path
import numpy as np
KEYS = {"obs": "obs", "action": "actions", "reward": "rewards", "terminal": "dones"}  # ours: theirs; state, avail too
folder, out = Path(sys.argv[1]), sys.argv[2]
files = [folder] if folder.is_file() else sorted(f for f in folder.rglob("*") if f.is_file())
episodes = [pickle.loads(f.read_bytes()) for f in files]  # runs code of the files' author: only for files you trust
arrays = {k: [np.asarray(e[theirs]) for e in episodes] for k, theirs in KEYS.items()}
arrays["action"] = [a.reshape(a.shape[:2]) for a in arrays["action"]]
np.savez(out, length=[len(a) for a in arrays["action"]], **{k: np.concatenate(v) for k, v in arrays.items()})
"""
"""A script for the user: `python convert.py FOLDER OUT.npz`, one dictionary of arrays per file."""


def refuse(path: Path) -> None:
    """Raise `UserError` where `path` is a pickled file, or a directory that holds some and no log that can be read."""
    if not path.is_dir():
        if path.is_file() and is_pickled(path):
            raise _error(path, f"{path} is a pickle")
        return
    some = itertools.islice(path.rglob("*"), LISTED)
    files = [file for file in some if file.is_file() and not file.name.startswith(".")]
    pickled = [file for file in files if is_pickled(file)]
    if pickled and all(file.suffix.lower() in NOTES for file in set(files) - set(pickled)):
        raise _error(path, f"{path} holds pickles, such as {pickled[0].name}")


def is_pickled(file: Path) -> bool:
    """Whether a file is a pickle, by its name or its first bytes; arrays of objects count."""
    if file.suffix.lower() in SUFFIXES:
        return True
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
        if head[:4] == b"PK\x03\x04" and file.suffix.lower() == ".npz":
            return _has_objects(file)
    except OSError:
        return False
    # Protocols 2 to 5 begin with their number; a protocol of text is known by nothing but its suffix.
    return (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or _is_object_array(head)


def _is_object_array(head: bytes) -> bool:
    return head[:6] == b"\x93NUMPY" and (b"'|O'" in head or b"'O'" in head)


def _has_objects(file: Path) -> bool:
    """Whether an .npz file holds an array of objects; what is wrong with the file is told by its reader."""
    with contextlib.suppress(Exception), zipfile.ZipFile(file) as archive:
        return any(_is_object_array(archive.open(info).read(512)) for info in archive.infolist())
    return False


def _error(path: Path, what: str) -> UserError:
    return UserError(
        f"{what}: loading one runs code that its author chose, so ovmse does not. Convert it where you trust it, with "
        f"this script (python convert.py {path} log.npz), correct the names in KEYS, and import log.npz:\n\n{RECIPE}"
    )
