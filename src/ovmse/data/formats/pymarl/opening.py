"""Opening the HDF5 files of PyMARL and its kin: which keys there are, whether they fit, and how long episodes are.

Axes: E episodes, R rows (the episode limit and one more, padded), N agents, A actions, O and S features.
"""

import math
import operator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.reading import AGAIN, DISCRETE_ONLY, KIND_WORDS, Layout, axis_sizes, decoding, optional, spans
from ovmse.system import bounds

CACHE_BYTES = 2**23
LENGTH_BYTES = 40  # of `Lengths` and what it is made from, for each episode
ORIGIN, WON, UNMARKED = "ovmse", "ovmse_won", "ovmse_unmarked"  # attributes of files that this library wrote
ATTRIBUTE_BYTES = 60_000  # what HDF5 keeps beside a group: 64 KiB

KEYS = {
    "obs": Layout("obs", ("E", "R", "N", "O"), "fiub", "float32", required=True),
    "action": Layout("actions", ("E", "R", "N"), "iu", "int64", required=True),
    "reward": Layout("reward", ("E", "R"), "fiub", "float32", required=True),
    "terminal": Layout("terminated", ("E", "R"), "biuf", "uint8", required=True),
    "filled": Layout("filled", ("E", "R"), "biuf", "int64", required=True),
    "state": Layout("state", ("E", "R", "S"), "fiub", "float32"),
    "avail": Layout("avail_actions", ("E", "R", "N", "A"), "biuf", "int32"),
    "won": Layout("won", ("E",), "biuf", "bool"),
}
"""The key of every field; another axis of one entry may follow."""
ONE_HOT = Layout("actions_onehot", ("E", "R", "N", "A"), "f", "float32")
"""The actions once more, as the controllers of the frameworks read them; it is written only."""


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
        with decoding(f"{self.path}: {KEYS[field].name}: episodes {lo} to {hi - 1} cannot be read"):
            source.read_direct(values, place)
        axes = len(layout_of(field, source.shape, self.sizes["N"]).axes)
        return values.reshape(values.shape[:axes])

    def flags(self, field: str, lo: int, hi: int, rows: int | None = None) -> np.ndarray:
        """A field of zeros and ones as bool, as `read` gives it."""
        values = self.read(field, lo, hi, rows)
        self.refuse(lo, (values != 0) & (values != 1), f"{KEYS[field].name}: expected 0 or 1, got another number")
        return values.astype(bool)

    def refuse(self, first: int, bad: np.ndarray, what: str) -> None:
        """Raise `UserError` with the first place where `bad`, over the episodes from `first` (and rows), is true."""
        if bad.any():
            episode, *row = np.argwhere(bad)[0].tolist()
            place = f"episode {first + episode}" + (f", row {row[0]}" if row else "")
            raise UserError(f"{self.path}: {place}: {what}. Correct the file or leave such episodes out.")

    @property
    def episode_bytes(self) -> int:
        """Bytes of one padded episode, all keys together."""
        return sum(math.prod(values.shape[1:]) * values.dtype.itemsize for values in self.sets.values())


class Lengths(NamedTuple):
    """For every episode: its steps, whether the row after the last one is there, whether the task ended it."""

    steps: np.ndarray
    final: np.ndarray
    terminal: np.ndarray
    assumed: tuple[str, ...]


def h5py() -> Any:
    """The optional library."""
    return optional("h5py", "HDF5 files", "hdf5")


def open_file(path: Path) -> Any:
    """The file, open for reading. Raises `UserError` unless libhdf5 takes it for one of its own."""
    library = h5py()
    if not path.is_file():
        raise UserError(f"{path}: expected an HDF5 file, got {'a directory' if path.is_dir() else 'nothing'}.")
    with decoding(f"{path}: expected an HDF5 file, cannot read it"):
        return library.File(path, "r", rdcc_nbytes=CACHE_BYTES)


def datasets(path: Path, file: Any) -> Hdf5Part:
    """The datasets of the keys that are known, their types, shapes and storage checked; no value is read."""
    with decoding(f"{path}: damaged"):
        names, required = set(file), [key.name for key in KEYS.values() if key.required]
        if missing := [name for name in required if name not in names]:
            raise UserError(
                f"{path}: expected the keys {', '.join(required)}; missing are {', '.join(missing)}, "
                f"there are {', '.join(sorted(names)[:32]) or 'nothing'}."
            )
        sets = {field: _dataset(path, file, key) for field, key in KEYS.items() if key.name in names}
        part = Hdf5Part(path, sets, _sizes(path, sets), sorted(names - {key.name for key in (*KEYS.values(), ONE_HOT)}))
        for field, values in sets.items():
            check_stored(f"{path}: {KEYS[field].name}", values)
    bounds.check(path, "an episode", part.episode_bytes)
    bounds.check(path, f"a file of {part.sizes['E']:,} episodes", LENGTH_BYTES * part.sizes["E"])
    return part


def layout_of(field: str, shape: tuple[int, ...], n_agents: int) -> Layout:
    """The layout of a field, the axis of one entry left out; rewards may be per agent."""
    key = KEYS[field]
    per_agent = field == "reward" and len(shape) == 3 and shape[2] == n_agents > 1
    return key._replace(axes=(*key.axes, "N")) if per_agent else key


def check_own(where: str, parent: Any, name: str) -> Any:
    """What a file holds under a name. Raises `UserError` where that is a link, or values that are kept elsewhere."""
    library = h5py()
    if not isinstance(parent.get(name, getlink=True), library.HardLink):
        raise UserError(f"{where}: expected it in this file, got a link or nothing. Copy what it links to.")
    found = parent[name]
    if isinstance(found, library.Dataset) and (found.is_virtual or found.external):
        raise UserError(f"{where}: expected its values in this file, they are kept in others. Write one whole file.")
    return found


def _dataset(path: Path, file: Any, key: Layout) -> Any:
    library, where = h5py(), f"{path}: {key.name}"
    found = check_own(where, file, key.name)
    if not isinstance(found, library.Dataset):
        raise UserError(f"{where}: expected a dataset, got a {type(found).__name__.lower()}.")
    if found.dtype.kind not in key.kinds or found.dtype.itemsize > 16:
        hint = f" {DISCRETE_ONLY}" if key.name == "actions" and found.dtype.kind == "f" else ""
        raise UserError(f"{where}: expected {KIND_WORDS[key.kinds]}, got {found.dtype}.{hint}")
    if found.id.get_type() != library.h5t.py_create(found.dtype, logical=True):
        raise UserError(f"{where}: expected {found.dtype} in the usual layout, got another. {AGAIN}")
    if found.shape is None:
        raise UserError(f"{where}: {key.expected}, got an empty dataset.")
    return found


def _sizes(path: Path, sets: dict[str, Any]) -> dict[str, int]:
    arrays, n_agents = [], sets["obs"].shape[2] if sets["obs"].ndim > 2 else 0
    for field, values in sets.items():
        shape = tuple(values.shape)
        layout = layout_of(field, shape, n_agents)
        axes = len(layout.axes)
        if len(shape) != axes and shape != (*shape[:axes], 1) or 0 in shape:
            hint = f" {DISCRETE_ONLY}" if field == "action" else ""
            raise UserError(f"{path}: {layout.name}: {layout.expected}, got shape {shape}.{hint}")
        arrays.append((layout, shape))
    return axis_sizes(path, arrays)


def check_stored(where: str, values: Any) -> None:
    """Raise `UserError` unless all values are in the file: HDF5 takes zeros for those that were never written."""
    if values.chunks is None:
        stored, expected = values.id.get_storage_size(), math.prod(values.shape) * values.dtype.itemsize
        if stored < expected:
            raise UserError(f"{where}: expected {expected:,} bytes in the file, got {stored:,}. {AGAIN}")
        return
    size = math.prod(values.chunks) * values.dtype.itemsize
    bounds.check(where, f"a chunk of {values.chunks} values", size)
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


def lengths(part: Hdf5Part, unmarked: bool = False) -> Lengths:
    """How long every episode is, by `filled` and `terminated`.

    F rows are filled, the first ones. Terminated at row t: t+1 steps, and the row after them, if it is filled, is the
    final one; no further row may be filled. Not terminated: the episode was cut. Its last filled row is the final one,
    as PyMARL fills it, unless no terminated episode of the file has a final row, or none is terminated and some
    last filled rows have a reward: then every filled row is a step.
    unmarked: the file is an export of this library, in which a final row is there but not filled in episodes that were
    cut before the last row of all.
    """
    filled, steps, rewarded = (np.empty(part.sizes["E"], kind) for kind in (np.int64, np.int64, bool))
    rows = part.sizes["R"]
    for lo, hi in spans(len(filled), bounds.block_bytes() // (64 * rows)):
        is_filled, ended = (part.flags(field, lo, hi, rows) for field in ("filled", "terminal"))
        reward = part.read("reward", lo, hi, rows)
        filled[lo:hi] = is_filled.sum(axis=1)
        part.refuse(lo, is_filled != (np.arange(rows) < filled[lo:hi, None]), "filled: expected ones, then zeros")
        part.refuse(lo, filled[lo:hi] == 0, "filled: expected at least one filled row, got none")
        ended &= is_filled
        steps[lo:hi] = np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, 0)
        last = reward[np.arange(hi - lo), filled[lo:hi] - 1]
        rewarded[lo:hi] = (last.reshape(hi - lo, -1) != 0).any(axis=1)
    terminal = steps > 0
    late = terminal & (filled > steps + 1)
    part.refuse(0, late, "terminated: expected at the last step, got rows filled after the final one")
    if unmarked:
        filled += ~terminal & (filled < rows)
        rewarded &= filled == rows
    with_final, without = (filled > steps)[terminal].any(), (filled == steps)[terminal].any()
    steps_only = not unmarked and bool(without and not with_final or not terminal.any() and rewarded.any())
    assumed = []
    if not unmarked and not terminal.all():
        if steps_only:
            assumed.append("filled rows are steps: no final row is marked, not even where an episode was terminated")
        elif without or not with_final:
            assumed.append("the last filled row of an episode that is not terminated is the row after its last step")
    if not steps_only:
        part.refuse(0, ~terminal & rewarded, "reward: expected none in the row after the last step, got one")
    steps = np.where(terminal, steps, filled if steps_only else filled - 1)
    part.refuse(0, steps == 0, "expected at least one step, got one filled row that is not terminated")
    return Lengths(steps, filled > steps, terminal, tuple(assumed))
