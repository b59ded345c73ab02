"""Padded episodes in HDF5 as PyMARL's kin keep them (CFCQL, OffPyMARL, EPyMARL): read in blocks, and written.

Axes: E episodes, R rows (the episode limit and one more), N agents, A actions, O and S features.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.data.formats.columns import natural
from ovmse.data.formats.episodes import check_actions
from ovmse.data.formats.facts import bounded
from ovmse.data.formats.pymarl_open import (
    AGAIN,
    BLOCK_BYTES,
    KEYS,
    Lengths,
    Part,
    datasets,
    episode_bytes,
    h5py,
    lengths,
    open_file,
)
from ovmse.data.logged import NO_CHECKSUMS, Logged, Source
from ovmse.data.store import Dataset
from ovmse.data.whole import whole
from ovmse.errors import UserError

SUFFIXES = (".h5", ".hdf5")
CHUNK_BYTES = 2**20
ATTRIBUTE_BYTES = 60_000  # what HDF5 keeps beside a group: 64 KiB
CHECKED = ("v110", "v110")  # the first layout with checksums on all that is not data; HDF5 1.10 is of 2016
ORIGIN, WON = "ovmse", "ovmse_won"
ROW_FIELDS = ("obs", "state", "avail")


class Plan(NamedTuple):
    """A file, and what was found in it when it was opened."""

    path: Path
    sizes: dict[str, int]
    lengths: Lengths
    won: np.ndarray | None
    largest: int
    checked: bool


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """The episodes of an HDF5 file, or of all the files `*.h5` and `*.hdf5` in a directory, in natural order.

    `ovmse.data.formats.pymarl_open.lengths` says where an episode ends. Without `avail_actions`, `n_actions` is as
    stated, or one more than the largest action of all steps. Raises `UserError` where a key is missing, damaged, not
    in the file itself, or of a shape or type that this library has no use for.
    """
    check_actions(str(path), n_actions)
    files = [path]
    if path.is_dir():
        files = sorted((p for p in path.iterdir() if p.suffix in SUFFIXES), key=lambda file: natural(file.name))
        if not files:
            raise UserError(f"{path}: expected files *.h5 or *.hdf5 in this directory, got none.")
    facts: dict[str, Any] = {}
    plans = [_plan(file, n_actions, facts) for file in files]
    for plan in plans[1:]:
        for axis in "NOSA":
            if (size := plan.sizes.get(axis)) != (first := plans[0].sizes.get(axis)):
                raise UserError(f"{plan.path}: expected {axis} = {first} as in {files[0].name}, got {size}.")
    actions = plans[0].sizes.get("A", n_actions or max(plan.largest for plan in plans) + 1)
    check_actions(str(path), actions)
    total = sum(len(plan.lengths.steps) for plan in plans)
    told = [text for plan in plans for text in plan.lengths.assumed]
    told += [] if all(plan.checked for plan in plans) else [NO_CHECKSUMS]
    return Source(str(path), "pymarl", _episodes(plans), actions, total, tuple(dict.fromkeys(told)), bounded(facts))


def _plan(path: Path, n_actions: int | None, facts: dict[str, Any]) -> Plan:
    """Check a file and find its episodes; what else it says is added to `facts`."""
    with open_file(path) as file:
        part = datasets(path, file)
        if n_actions not in (None, part.sizes.get("A", n_actions)):
            raise UserError(f"{path}: avail_actions is for {part.sizes['A']} actions, n_actions says {n_actions}.")
        found = lengths(part)
        attributes = _attributes(path, file)
        won = _won(part, attributes.pop(WON, None))
        largest = 0 if n_actions or "avail" in part.sets else _largest_action(part, found)
    facts |= attributes | {"rows": max(part.sizes["R"], facts.get("rows", 0))}
    facts |= {"ignored_keys": part.others[:32]} if part.others else {}
    return Plan(path, part.sizes, found, won, largest, all(values.fletcher32 for values in part.sets.values()))


def _attributes(path: Path, file: Any) -> dict[str, Any]:
    """The attributes of the file that are numbers or text of a fixed length.

    Text of variable length is left out: libhdf5 may never return from a damaged heap, where it keeps such text.
    """
    values: dict[str, Any] = {}
    try:
        for name in list(file.attrs)[:64]:
            attribute = file.attrs.get_id(name)
            if attribute.dtype.kind in "biufS" and attribute.get_storage_size() <= ATTRIBUTE_BYTES:
                values[name] = file.attrs[name]
    except Exception as error:
        raise UserError(f"{path}: its attributes cannot be read: {str(error)[:300]}. {AGAIN}") from error
    for name, value in values.items():
        if isinstance(value, bytes):
            values[name] = _text(value)
        elif name != WON and isinstance(value, np.generic | np.ndarray):
            values[name] = value.tolist()
    return values


def _text(value: bytes) -> Any:
    """Text as a JSON value, where it is JSON."""
    text = value.decode("utf-8", errors="replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _won(part: Part, packed: Any) -> np.ndarray | None:
    """Whether each episode was won, shape (E,): by the key `won`, or by the attribute of the exporter."""
    episodes = part.sizes["E"]
    if "won" in part.sets:
        won = part.read("won", 0, episodes)
        if ((won != 0) & (won != 1)).any():
            raise UserError(f"{part.path}: won: expected 0 or 1 for every episode.")
        return won.astype(bool)
    if packed is None:
        return None
    if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.shape != (-(-episodes // 8),):
        raise UserError(f"{part.path}: attribute {WON}: expected one bit for each of {episodes:,} episodes.")
    return np.unpackbits(packed, count=episodes).astype(bool)


def _largest_action(part: Part, found: Lengths) -> int:
    """The largest action of all steps; what stands in the padding does not count."""
    largest, size = 0, _block_episodes(part)
    for lo in range(0, len(found.steps), size):
        steps = found.steps[lo : lo + size]
        action = part.read("action", lo, lo + len(steps), int(steps.max()))
        taken = np.arange(action.shape[1]) < steps[:, None]
        largest = max(largest, int(action[taken].max()))
    return largest


def _block_episodes(part: Part) -> int:
    """Episodes of a block: about 32 MiB, and whole chunks of the observations, so that none is decoded twice."""
    episodes = max(1, BLOCK_BYTES // episode_bytes(part))
    chunk = (part.sets["obs"].chunks or (1,))[0]
    return max(1, episodes // chunk) * chunk if chunk <= 4 * episodes else episodes


def _episodes(plans: list[Plan]) -> Iterator[Logged]:
    """The episodes of all files: views of blocks."""
    for plan in plans:
        with open_file(plan.path) as file:
            part = datasets(plan.path, file)
            if part.sizes != plan.sizes:
                raise UserError(f"{plan.path}: the file has changed since it was opened. Import it again.")
            size = _block_episodes(part)
            for lo in range(0, part.sizes["E"], size):
                yield from _block(plan, part, lo, min(lo + size, part.sizes["E"]))


def _block(plan: Plan, part: Part, lo: int, hi: int) -> Iterator[Logged]:
    steps, final, ended, _ = plan.lengths
    steps, rows, ended = steps[lo:hi], (steps + final)[lo:hi], ended[lo:hi]
    fields = [field for field in ("obs", "action", "reward", "state", "avail") if field in part.sets]
    block = {field: part.read(field, lo, hi, int(rows.max())) for field in fields}
    terminal = np.zeros((hi - lo, int(rows.max())), bool)
    terminal[np.arange(hi - lo), steps - 1] = ended
    for index, (length, there) in enumerate(zip(steps.tolist(), rows.tolist(), strict=True)):
        kept: dict[str, Any] = {
            field: values[index, : there if field in ROW_FIELDS else length] for field, values in block.items()
        }
        won = None if plan.won is None else bool(plan.won[lo + index])
        where = f"{plan.path}: episode {lo + index}"
        yield Logged(terminal=terminal[index, :length], won=won, where=where, **kept)


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as the HDF5 file that CFCQL and OffPyMARL read: padded to the episode limit and one row more.

    The row after the last step is kept and marked as filled; values behind it are 0. An episode that a time limit cut
    is not terminated. What the format has no place for is in attributes of the file: its origin, and which episodes
    were won. Returns what found no place, in sentences. Raises `UserError` where `path` exists or cannot be written.
    """
    lost = []
    with whole(path) as partial:
        try:
            with h5py().File(partial, "w", libver=CHECKED) as file:
                for field in KEYS:
                    if field != "won":
                        _write_key(dataset, file, field)
                lost += _write_attributes(dataset, file)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: cannot be written: {str(error)[:300]}") from error
    return lost


def _write_attributes(dataset: Dataset, file: Any) -> list[str]:
    told, lost = dataset.metadata, []
    origin = json.dumps(
        {"env": told.env._asdict(), "behaviour": told.behaviour, "quality": told.quality, "created": told.created}
    )
    won = np.packbits(dataset.won)
    if len(origin) <= ATTRIBUTE_BYTES:
        file.attrs[ORIGIN] = np.bytes_(origin)
    else:
        lost.append("the environment and its settings take too much room for an attribute, and are not in the file")
    if dataset.spec.has_win and won.nbytes <= ATTRIBUTE_BYTES:
        file.attrs[WON] = won
    elif dataset.spec.has_win:
        lost.append(f"which of {len(dataset.won):,} episodes were won is not in the file: there are too many of them")
    return lost


def _write_key(dataset: Dataset, file: Any, field: str) -> None:
    """Write one key, in blocks of whole chunks."""
    spec, key = dataset.spec, KEYS[field]
    sizes = {"E": len(dataset.length), "R": spec.episode_limit + 1, "N": spec.n_agents}
    sizes |= {"O": spec.obs_size, "S": spec.state_size, "A": spec.n_actions}
    shape = tuple(sizes[axis] for axis in key.axes)
    shape = shape if field in ROW_FIELDS else (*shape, 1)
    row_bytes = math.prod(shape[2:]) * np.dtype(key.dtype).itemsize
    rows = min(shape[1], max(1, CHUNK_BYTES // row_bytes))
    episodes = min(shape[0], max(1, CHUNK_BYTES // (row_bytes * shape[1])))
    target = file.create_dataset(
        key.name,
        shape,
        key.dtype,
        chunks=(episodes, rows, *shape[2:]),
        compression="gzip",  # no shuffle: it tears apart the whole numbers that observations repeat
        fletcher32=True,
    )
    size = max(1, BLOCK_BYTES // (row_bytes * shape[1] * episodes)) * episodes
    row_start, step_start = dataset.row_start, dataset.step_start
    for lo in range(0, shape[0], size):
        hi = min(lo + size, shape[0])
        values = np.zeros((hi - lo, *shape[1:]), key.dtype)
        length = dataset.length[lo:hi, None]
        if field == "filled":
            values[np.arange(shape[1]) <= length] = 1
        else:
            extra, start = (1, row_start) if field in ROW_FIELDS else (0, step_start)
            flat = getattr(dataset, field)[start[lo] : start[hi - 1] + length[-1, 0] + extra]
            values[np.arange(shape[1]) < length + extra] = flat.reshape(len(flat), *shape[2:])
        target[lo:hi] = values
