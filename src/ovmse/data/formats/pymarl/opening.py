"""Opening the HDF5 files of PyMARL and its kin: which keys there are, whether they fit, and how long episodes are.

Axes: E episodes, R rows (the episode limit and one more, padded), N agents, A actions, O and S features.
"""

import importlib
import math
import operator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError

BLOCK_BYTES = 2**25
CHUNK_LIMIT = 2**28
EPISODE_LIMIT = 2**30
CACHE_BYTES = 2**23
ORIGIN, WON = "ovmse", "ovmse_won"  # attributes of files that this library wrote
ROW_FIELDS = ("obs", "state", "avail")
ATTRIBUTE_BYTES = 60_000  # what HDF5 keeps beside a group: 64 KiB
AGAIN = "Fetch or write the file again."


class Key(NamedTuple):
    """The key that holds a field: its name, its axes, the kinds of its dtype, and the dtype on export.

    Another axis of one entry may follow.
    """

    name: str
    axes: tuple[str, ...]
    kinds: str
    dtype: str
    required: bool = True


KEYS = {
    "obs": Key("obs", ("E", "R", "N", "O"), "fiub", "float32"),
    "action": Key("actions", ("E", "R", "N"), "iu", "int64"),
    "reward": Key("reward", ("E", "R"), "fiub", "float32"),
    "terminal": Key("terminated", ("E", "R"), "biuf", "uint8"),
    "filled": Key("filled", ("E", "R"), "biuf", "int64"),
    "state": Key("state", ("E", "R", "S"), "fiub", "float32", required=False),
    "avail": Key("avail_actions", ("E", "R", "N", "A"), "biuf", "int32", required=False),
    "won": Key("won", ("E",), "biuf", "bool", required=False),
}
WORDS = {"iu": "whole numbers", "fiub": "numbers", "biuf": "bool, or 0 and 1"}


class Hdf5Part(NamedTuple):
    """An open file: its datasets by field, their sizes by axis, and the names of other keys."""

    path: Path
    sets: dict[str, Any]
    sizes: dict[str, int]
    others: list[str]

    def read(self, field: str, lo: int, hi: int, rows: int | None = None) -> np.ndarray:
        """A field of the episodes `lo` to `hi`, the first `rows` rows; without the axis of one entry."""
        source = self.sets[field]
        place = (slice(lo, hi),) if rows is None else (slice(lo, hi), slice(0, rows))
        shape = (hi - lo, *(() if rows is None else (rows,)), *source.shape[len(place) :])
        values = np.empty(shape, source.dtype.newbyteorder("="))
        try:
            source.read_direct(values, place)
        except Exception as error:
            what = f"{self.path}: {KEYS[field].name}: episodes {lo} to {hi - 1}"
            raise UserError(f"{what} cannot be read: {str(error)[:300]}. {AGAIN}") from error
        axes = len(axes_of(field, source.shape, self.sizes["N"]))
        return values.reshape(values.shape[:axes])


class Lengths(NamedTuple):
    """For every episode: its steps, whether the row after the last one is there, whether the task ended it."""

    steps: np.ndarray
    final: np.ndarray
    terminal: np.ndarray
    assumed: tuple[str, ...]


def h5py() -> Any:
    """The optional library, or a `UserError` that says how to install it."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise UserError("HDF5 files need h5py: pip install 'ovmse[hdf5]'") from error


def open_file(path: Path) -> Any:
    """The file, open for reading. Raises `UserError` unless libhdf5 takes it for one of its own."""
    library = h5py()
    if not path.is_file():
        raise UserError(f"{path}: expected an HDF5 file, got {'a directory' if path.is_dir() else 'nothing'}.")
    try:
        return library.File(path, "r", rdcc_nbytes=CACHE_BYTES)
    except Exception as error:
        raise UserError(f"{path}: expected an HDF5 file, cannot read it: {str(error)[:300]}. {AGAIN}") from error


def datasets(path: Path, file: Any) -> Hdf5Part:
    """The datasets of the keys that are known, their types, shapes and storage checked; no value is read."""
    try:
        names = set(file)
        missing = [key.name for key in KEYS.values() if key.required and key.name not in names]
        if missing:
            got = ", ".join(sorted(names)[:32]) or "nothing"
            raise UserError(
                f"{path}: expected the keys {', '.join(key.name for key in KEYS.values() if key.required)}; "
                f"missing are {', '.join(missing)}, there are {got}."
            )
        sets = {field: _dataset(path, file, key) for field, key in KEYS.items() if key.name in names}
        sizes = _sizes(path, {field: tuple(values.shape) for field, values in sets.items()})
        part = Hdf5Part(path, sets, sizes, sorted(names - {key.name for key in KEYS.values()}))
        for field, values in sets.items():
            check_stored(f"{path}: {KEYS[field].name}", values)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: damaged: {str(error)[:300]}. {AGAIN}") from error
    if (needed := episode_bytes(part)) > EPISODE_LIMIT:
        raise UserError(f"{path}: expected up to {EPISODE_LIMIT:,} bytes for an episode, the arrays take {needed:,}.")
    return part


def axes_of(field: str, shape: tuple[int, ...], n_agents: int) -> tuple[str, ...]:
    """The axes of a field, the one of one entry left out; rewards may be per agent."""
    axes = KEYS[field].axes
    per_agent = field == "reward" and len(shape) == 3 and shape[2] == n_agents > 1
    return (*axes, "N") if per_agent else axes


def episode_bytes(part: Hdf5Part) -> int:
    """Bytes of one padded episode, all keys together."""
    return sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in part.sets.values())


def _dataset(path: Path, file: Any, key: Key) -> Any:
    """The dataset of a key: in this file, of a plain type."""
    library = h5py()
    where = f"{path}: {key.name}"
    if not isinstance(file.get(key.name, getlink=True), library.HardLink):
        raise UserError(f"{where}: expected a dataset of this file, got a link. Copy what it links to into the file.")
    found = file[key.name]
    if not isinstance(found, library.Dataset):
        raise UserError(f"{where}: expected a dataset, got a {type(found).__name__.lower()}.")
    if found.is_virtual or found.external:
        raise UserError(f"{where}: expected its values in this file, they are kept in others. Write one whole file.")
    if found.dtype.kind not in key.kinds or found.dtype.itemsize > 16:
        hint = " Only discrete actions are supported." if key.name == "actions" and found.dtype.kind == "f" else ""
        raise UserError(f"{where}: expected {WORDS[key.kinds]}, got {found.dtype}.{hint}")
    if found.id.get_type() != library.h5t.py_create(found.dtype, logical=True):
        raise UserError(f"{where}: expected {found.dtype} in the usual layout, got another. {AGAIN}")
    if found.shape is None:
        raise UserError(f"{where}: expected axes ({', '.join(key.axes)}), got an empty dataset.")
    return found


def _sizes(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The size of every axis. Raises `UserError` where an array has other axes, or two disagree."""
    sizes: dict[str, int] = {}
    told: dict[str, str] = {}
    for field, shape in shapes.items():
        name, axes = KEYS[field].name, axes_of(field, shape, sizes.get("N", 0))
        expected = f"{path}: {name}: expected axes ({', '.join(axes)})"
        if len(shape) != len(axes) and shape != (*shape[: len(axes)], 1) or 0 in shape:
            hint = " Only discrete actions are supported." if field == "action" else ""
            raise UserError(f"{expected}, got shape {shape}.{hint}")
        for axis, size in zip(axes, shape, strict=False):
            if sizes.setdefault(axis, size) != size:
                raise UserError(f"{expected} with {axis} = {sizes[axis]} as in {told[axis]}, got shape {shape}.")
            told.setdefault(axis, name)
    return sizes


def check_stored(where: str, values: Any) -> None:
    """Raise `UserError` unless all values are in the file: HDF5 takes zeros for those that were never written."""
    if values.chunks is None:
        stored, expected = values.id.get_storage_size(), math.prod(values.shape) * values.dtype.itemsize
        if stored < expected:
            raise UserError(f"{where}: expected {expected:,} bytes in the file, got {stored:,}. {AGAIN}")
        return
    size = math.prod(values.chunks) * values.dtype.itemsize
    if size > CHUNK_LIMIT:
        raise UserError(f"{where}: expected chunks of up to {CHUNK_LIMIT:,} bytes, got {values.chunks} values.")
    grid = [range(0, extent, chunk) for extent, chunk in zip(values.shape, values.chunks, strict=True)]
    found: list[Any] = []
    values.id.chunk_iter(found.append)
    offsets = {chunk.chunk_offset for chunk in found if all(map(operator.contains, grid, chunk.chunk_offset))}
    if len(offsets) < (expected := math.prod(map(len, grid))):
        raise UserError(f"{where}: expected {expected:,} chunks in the file, got {len(offsets):,}. {AGAIN}")
    plain = values.id.get_create_plist().get_nfilters() == 0
    places = {chunk.byte_offset for chunk in found}
    if len(places) < len(found) or 0 in places or any(c.size != size if plain else c.size < 1 for c in found):
        raise UserError(f"{where}: the list of its chunks is damaged. {AGAIN}")


def lengths(part: Hdf5Part) -> Lengths:
    """How long every episode is, by `filled` and `terminated`.

    F rows are filled, the first ones. Terminated at row t: t+1 steps, and the row after them, if it is filled, is the
    final one; no further row may be filled. Not terminated: the episode was cut. Its last filled row is the final one,
    as PyMARL fills it, unless no terminated episode of the file has a final row, or none is terminated and some
    last filled rows have a reward: then every filled row is a step.
    """
    filled, steps, rewarded = (np.empty(part.sizes["E"], kind) for kind in (np.int64, np.int64, bool))
    rows = part.sizes["R"]
    size = max(1, BLOCK_BYTES // (64 * rows))
    for lo in range(0, len(filled), size):
        hi = min(lo + size, len(filled))
        is_filled, ended = (_flags(part, field, lo, hi) for field in ("filled", "terminal"))
        reward = part.read("reward", lo, hi, rows)
        filled[lo:hi] = is_filled.sum(axis=1)
        _refuse(part, lo, is_filled != (np.arange(rows) < filled[lo:hi, None]), "filled: expected ones, then zeros")
        _refuse(part, lo, filled[lo:hi] == 0, "filled: expected at least one filled row, got none")
        ended &= is_filled
        steps[lo:hi] = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, 0)
        last = reward[np.arange(hi - lo), filled[lo:hi] - 1]
        rewarded[lo:hi] = (last.reshape(hi - lo, -1) != 0).any(axis=1)
    terminal = steps > 0
    late = terminal & (filled > steps + 1)
    _refuse(part, 0, late, "terminated: expected at the last step, got rows filled after the final one")
    return _settled(part, filled, steps, terminal, rewarded)


def _settled(
    part: Hdf5Part, filled: np.ndarray, steps: np.ndarray, terminal: np.ndarray, rewarded: np.ndarray
) -> Lengths:
    """The lengths of the episodes that are not terminated as well (see `lengths`)."""
    with_final, without = (filled > steps)[terminal].any(), (filled == steps)[terminal].any()
    steps_only = without and not with_final or not terminal.any() and bool(rewarded.any())
    assumed = []
    if not terminal.all():
        if steps_only:
            assumed.append("filled rows are steps: no final row is marked, not even where an episode was terminated")
        elif without or not with_final:
            assumed.append("the last filled row of an episode that is not terminated is the row after its last step")
    if not steps_only:
        _refuse(part, 0, ~terminal & rewarded, "reward: expected none in the row after the last step, got one")
    steps = np.where(terminal, steps, filled if steps_only else filled - 1)
    _refuse(part, 0, steps == 0, "expected at least one step, got one filled row that is not terminated")
    return Lengths(steps, filled > steps, terminal, tuple(assumed))


def _flags(part: Hdf5Part, field: str, lo: int, hi: int) -> np.ndarray:
    """A field of zeros and ones as bool, shape (hi - lo, R)."""
    values = part.read(field, lo, hi, part.sizes["R"])
    _refuse(part, lo, (values != 0) & (values != 1), f"{KEYS[field].name}: expected 0 or 1, got another number")
    return values.astype(bool)


def _refuse(part: Hdf5Part, first: int, bad: np.ndarray, what: str) -> None:
    """Raise `UserError` with the first place where `bad`, an array over episodes (and rows), is true."""
    if not bad.any():
        return
    episode, *row = np.argwhere(bad)[0].tolist()
    place = f"episode {first + episode}" + (f", row {row[0]}" if row else "")
    raise UserError(f"{part.path}: {place}: {what}. Correct the file or leave such episodes out.")
