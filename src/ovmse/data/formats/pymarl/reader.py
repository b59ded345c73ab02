"""Padded episodes in HDF5 as PyMARL's kin keep them (CFCQL, OffPyMARL, EPyMARL): read in blocks, and written.

Axes: E episodes, R rows (the episode limit and one more), N agents, A actions, O and S features.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.pymarl.opening import (
    ATTRIBUTE_BYTES,
    UNMARKED,
    WON,
    Hdf5Part,
    Lengths,
    datasets,
    lengths,
    open_file,
)
from ovmse.data.formats.reading import bounded, decoding, files, settled_actions, spans
from ovmse.data.raw_episode import NO_CHECKSUMS, RawEpisode, Source
from ovmse.data.schema import ROWS
from ovmse.system import bounds


class FilePlan(NamedTuple):
    """A file, and what was found in it when it was opened."""

    path: Path
    sizes: dict[str, int]
    lengths: Lengths
    won: np.ndarray | None
    largest: int
    checked: bool


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """The episodes of an HDF5 file, or of all the files `*.h5` and `*.hdf5` in a directory, in natural order.

    `ovmse.data.formats.pymarl.opening.lengths` says where an episode ends. Without `avail_actions`, `n_actions` is as
    stated, or one more than the largest action of all steps. Raises `UserError` where a key is missing, damaged, not
    in the file itself, or of a shape or type that this library has no use for.
    """
    facts: dict[str, Any] = {}
    plans = [_plan(file, n_actions, facts) for file in files(path, ".h5", ".hdf5")]
    first = plans[0]
    for plan in plans[1:]:
        for axis in "NOSA":
            if (size := plan.sizes.get(axis)) != (known := first.sizes.get(axis)):
                raise UserError(f"{plan.path}: expected {axis} = {known} as in {first.path.name}, got {size}.")
    actions = settled_actions(
        path, first.sizes.get("A"), "avail_actions", n_actions, lambda: max(plan.largest for plan in plans)
    )
    told = [text for plan in plans for text in plan.lengths.assumed]
    told += [] if all(plan.checked for plan in plans) else [NO_CHECKSUMS]
    return Source(
        name=str(path),
        format="pymarl",
        episodes=_episodes(plans),
        n_actions=actions,
        total=sum(len(plan.lengths.steps) for plan in plans),
        assumed=tuple(dict.fromkeys(told)),
        facts=bounded(facts),
    )


def _plan(path: Path, n_actions: int | None, facts: dict[str, Any]) -> FilePlan:
    """Check a file and find its episodes; what else it says is added to `facts`."""
    with open_file(path) as file:
        part = datasets(path, file)
        attributes = _attributes(path, file)
        found = lengths(part, attributes.pop(UNMARKED, None) == 1)
        won = _won(part, attributes.pop(WON, None))
        largest = 0 if n_actions or "avail" in part.sets else _largest_action(part, found)
    facts |= attributes | {"rows": max(part.sizes["R"], facts.get("rows", 0))}
    facts |= {"ignored_keys": part.others[:32]} if part.others else {}
    return FilePlan(path, part.sizes, found, won, largest, all(values.fletcher32 for values in part.sets.values()))


def _attributes(path: Path, file: Any) -> dict[str, Any]:
    """The attributes that are numbers or text of a fixed length: libhdf5 may never return from a damaged heap, where it
    keeps other text."""
    values: dict[str, Any] = {}
    with decoding(f"{path}: its attributes cannot be read"):
        for name in list(file.attrs)[:64]:
            attribute = file.attrs.get_id(name)
            if attribute.dtype.kind in "biufS" and attribute.get_storage_size() <= ATTRIBUTE_BYTES:
                values[name] = file.attrs[name]
    for name, value in values.items():
        if isinstance(value, bytes):
            values[name] = text = value.decode("utf-8", errors="replace")
            with contextlib.suppress(ValueError, RecursionError):
                values[name] = json.loads(text)
        elif name != WON and isinstance(value, np.generic | np.ndarray):
            values[name] = value.tolist()
    return values


def _won(part: Hdf5Part, packed: Any) -> np.ndarray | None:
    """Whether each episode was won, shape (E,): by the key `won`, or by the attribute of the exporter."""
    episodes = part.sizes["E"]
    if "won" in part.sets:
        return part.flags("won", 0, episodes)
    if packed is None:
        return None
    if not isinstance(packed, np.ndarray) or packed.dtype != np.uint8 or packed.shape != (-(-episodes // 8),):
        raise UserError(f"{part.path}: attribute {WON}: expected one bit for each of {episodes:,} episodes.")
    return np.unpackbits(packed, count=episodes).astype(bool)


def _largest_action(part: Hdf5Part, found: Lengths) -> int:
    """The largest action of all steps; what stands in the padding does not count."""
    largest = 0
    for lo, hi in spans(len(found.steps), _block_episodes(part)):
        steps = found.steps[lo:hi]
        action = part.read("action", lo, hi, int(steps.max()))
        largest = max(largest, int(action[np.arange(action.shape[1]) < steps[:, None]].max()))
    return largest


def _block_episodes(part: Hdf5Part) -> int:
    """Episodes of a block: about 32 MiB, and whole chunks of the observations, so that none is decoded twice."""
    episodes = max(1, bounds.block_bytes() // part.episode_bytes)
    chunk = (part.sets["obs"].chunks or (1,))[0]
    return max(1, episodes // chunk) * chunk if chunk <= 4 * episodes else episodes


def _episodes(plans: list[FilePlan]) -> Iterator[RawEpisode]:
    for plan in plans:
        with open_file(plan.path) as file:
            part = datasets(plan.path, file)
            if part.sizes != plan.sizes:
                raise UserError(f"{plan.path}: the file has changed since it was opened. Import it again.")
            for lo, hi in spans(part.sizes["E"], _block_episodes(part)):
                yield from _block(plan, part, lo, hi)


def _block(plan: FilePlan, part: Hdf5Part, lo: int, hi: int) -> Iterator[RawEpisode]:
    steps, final, ended, _ = plan.lengths
    steps, rows, ended = steps[lo:hi], (steps + final)[lo:hi], ended[lo:hi]
    fields = [field for field in ("obs", "action", "reward", "state", "avail") if field in part.sets]
    block = {field: part.read(field, lo, hi, int(rows.max())) for field in fields}
    terminal = np.zeros((hi - lo, int(rows.max())), bool)
    terminal[np.arange(hi - lo), steps - 1] = ended
    for index, (length, there) in enumerate(zip(steps.tolist(), rows.tolist(), strict=True)):
        kept: dict[str, Any] = {
            field: values[index, : there if field in ROWS else length] for field, values in block.items()
        }
        won = None if plan.won is None else bool(plan.won[lo + index])
        where = f"{plan.path}: episode {lo + index}"
        yield RawEpisode(terminal=terminal[index, :length], won=won, where=where, **kept)
