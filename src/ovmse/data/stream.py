"""A dataset block by block, in constant memory, and everything that is wrong with its files.

Nothing here refuses a damaged dataset: what cannot be read is a finding, and the episodes that it takes with it are
left out. Axes: E episodes, M steps, R = M + E rows, N agents, A actions, O and S features (see `docs/datasets.md`).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import zarr

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Flat
from ovmse.data.findings import Finding
from ovmse.data.schema import KIND_NAMES, KINDS, ROWS, STEPS, Metadata, cuts, places, shapes, starts
from ovmse.data.zarr_files import broken, chunks, oversized, read_metadata
from ovmse.system import bounds
from ovmse.system.files import check_tree

READ_AS = {"f": np.float32, "b": np.bool_, "iu": np.int64}


class Block(NamedTuple):
    """Whole episodes that follow each other: the number of the first one, and their arrays."""

    first: int
    flat: Flat


@dataclass
class DatasetScan:
    """An opened dataset. `findings` grows while blocks are read, as damage shows only then.

    metadata: None where it cannot be used; spec: the environment by the metadata, with the sizes of the arrays.
    length, won: of every episode, shape (E,). sound: the episodes that can be read, (E,) bool.
    """

    path: Path
    metadata: Metadata | None
    spec: EnvSpec
    arrays: dict[str, Any]
    length: np.ndarray
    won: np.ndarray
    sound: np.ndarray
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: str, text: str, file: str, episode: int | None = None, times: int = 1) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, times, text, file, episode))

    @property
    def held(self) -> np.ndarray:
        """The steps of every episode, none where its length makes no sense, shape (E,)."""
        return np.maximum(self.length, 0)

    @property
    def step_bytes(self) -> int:
        """Bytes of a step in memory."""
        spec = self.spec
        return 4 * (spec.n_agents * spec.obs_size + spec.state_size) + spec.n_agents * (spec.n_actions + 4) + 5


def scan_dataset(path: Path) -> DatasetScan:
    """Open a dataset and check its files. Raises `UserError` only where there is no dataset at all."""
    findings: list[Finding] = []
    if path.is_dir():
        check_tree(path)
    try:
        metadata = read_metadata(path)
    except UserError as error:
        metadata = None
        findings.append(Finding("metadata cannot be read", 1, str(error), "zarr.json"))
        if not (path / "zarr.json").is_file():
            raise
    opened = {name: _open(path, name, findings) for name in KINDS}
    arrays = {name: array for name, array in opened.items() if array is not None}
    if metadata is None and not arrays:
        raise UserError(findings[0].first)
    length = _whole(path, arrays, "length", findings)
    won = _whole(path, arrays, "won", findings).astype(bool)
    if len(won) != len(length):
        won = np.zeros(len(length), bool)
    spec = _actual_spec(metadata.env if metadata else None, arrays, length, won)
    if won.any() and not spec.has_win:
        first = int(won.argmax())
        text = f"episode {first}: won is true, and {spec.name!r} cannot be won (has_win is false)"
        findings.append(Finding("win where nothing can be won", int(won.sum()), text, "won", first))
    found = DatasetScan(path, metadata, spec, arrays, length, won, length >= 1, findings)
    if len(length):
        _check_shapes(found)
        for name, array in arrays.items():
            for coordinates, file in chunks(path / name, array):
                if not file.is_file():  # Zarr would take the fill value for it
                    _leave_out(found, name, array, coordinates, "missing chunk file", file, "the file is not there")
            for coordinates, file, why in oversized(path / name, array):
                _leave_out(found, name, array, coordinates, "damaged chunk file", file, f"damaged: {why}")
        longest = int(np.where(found.sound, length, 0).argmax())
        bounds.check(path, f"episode {longest}", int(found.sound[longest] * found.held[longest]) * found.step_bytes)
    one = shapes(spec, 1, 1)
    if any(name not in arrays or arrays[name].shape[1:] != one[name][1:] for name in (*ROWS, *STEPS)):
        found.sound[:] = False  # the arrays are not all there, or do not agree on agents, actions and features
    return found


def _open(path: Path, name: str, findings: list[Finding]) -> Any | None:
    try:
        array: Any = zarr.open_array(path / name, mode="r", zarr_format=3)
        codecs = [codec["name"] for codec in array.metadata.to_dict()["codecs"]]
    except Exception as error:  # whatever a damaged file makes Zarr raise
        findings.append(Finding("array cannot be opened", 1, f"{name}: {error!r}", f"{name}/zarr.json"))
        return None
    if codecs[-1] != "crc32c":
        text = f"{name}: expected crc32c as the last codec, got {', '.join(codecs)}"
        findings.append(Finding("array without checksums", 1, text, f"{name}/zarr.json"))
    if array.dtype.kind not in KINDS[name]:
        text = f"{name}: expected {KIND_NAMES[KINDS[name]]}, got {array.dtype}"
        findings.append(Finding("wrong dtype", 1, text, f"{name}/zarr.json"))
        if array.dtype.kind not in "biuf":
            return None
    return array


def _whole(path: Path, arrays: dict[str, Any], name: str, findings: list[Finding]) -> np.ndarray:
    """An array of one number per episode; empty where it cannot be read."""
    array = arrays.get(name)
    if array is None or array.ndim != 1:
        return np.zeros(0, np.int64)
    bounds.check(path / name, f"an array of {array.shape[0]:,} episodes", 8 * array.shape[0])
    try:
        for _, file, declared in oversized(path / name, array):
            raise ValueError(f"{file.name}: {declared}")
        return np.asarray(array[...]).astype(np.int64)
    except UserError:
        raise
    except Exception as error:
        if chunk := next(broken(path / name, array), None):
            _, file, why = chunk
            findings.append(Finding("damaged chunk file", 1, f"{name}: {file.name}: {why!r}", f"{name}/{file.name}"))
        else:
            findings.append(Finding("array cannot be opened", 1, f"{name}: {error!r}", name))
        return np.zeros(0, np.int64)


def _actual_spec(spec: EnvSpec | None, arrays: dict[str, Any], length: np.ndarray, won: np.ndarray) -> EnvSpec:
    """The environment by the metadata, with the sizes that the arrays have."""

    def size(name: str, axis: int, otherwise: int) -> int:
        return int(arrays[name].shape[axis]) if name in arrays and arrays[name].ndim > axis else otherwise

    if spec is None:
        spec = EnvSpec("unknown", "", {}, 0, 0, 0, 0, int(length.max(initial=1)), bool(won.any()))
    return spec._replace(
        n_agents=size("action", 1, spec.n_agents),
        n_actions=size("avail", 2, spec.n_actions),
        obs_size=size("obs", 2, spec.obs_size),
        state_size=size("state", 1, spec.state_size),
    )


def _check_shapes(found: DatasetScan) -> None:
    """Sizes against the lengths and the metadata; episodes beyond the end of an array are not sound."""
    length, held, meta = found.length, found.held, found.metadata
    if (bad := length < 1).any():
        episode = int(bad.argmax())
        text = f"episode {episode}: expected a length of at least 1, got {length[episode]}"
        found.note("episode without steps", text, "length", episode, int(bad.sum()))
    steps, episodes = int(held.sum()), len(length)
    if meta is not None and (meta.episodes, meta.steps) != (episodes, steps):
        text = f"expected {meta.episodes} episodes and {meta.steps} steps, the lengths are {episodes} and {steps}"
        found.note("metadata contradicts the data", text, "zarr.json")
    expected = shapes(meta.env if meta else found.spec, episodes, steps)
    step_end, row_end = np.cumsum(held), np.cumsum(held + 1)
    for name, array in found.arrays.items():
        wanted, shape = expected[name], array.shape
        if name in (*ROWS, *STEPS) and shape and shape[0] != wanted[0]:
            text = f"{name}: expected {wanted[0]} entries for {episodes} episodes of {steps} steps, got {shape[0]}"
            beyond = (step_end if name in STEPS else row_end) > shape[0]
            first = int(beyond.argmax()) if beyond.any() else None
            if first is not None:
                text += f"; episodes from {first} on are cut short and left out"
            found.note("array does not fit the lengths", text, name, first)
            found.sound &= ~beyond
        elif shape != wanted:
            found.note("wrong shape", f"{name}: expected {wanted}, got {shape}", name)


def _leave_out(found: DatasetScan, name: str, array: Any, at: tuple[int, ...], kind: str, file: Path, why: str) -> None:
    """Note a lost chunk, and that the episodes in it cannot be read."""
    size = (array.shards or array.chunks)[0]
    first, end = at[0] * size, (at[0] + 1) * size
    entries = found.held + 1 if name in ROWS else found.held if name in STEPS else np.ones_like(found.length)
    begin = starts(entries)
    lost = (begin < end) & (begin + entries > first)
    numbers = np.flatnonzero(lost)
    which = f"; episodes {numbers[0]} to {numbers[-1]} are left out" if len(numbers) else ""
    relative = file.relative_to(found.path).as_posix()
    found.note(kind, f"{relative}: {why}{which}", relative, int(numbers[0]) if len(numbers) else None)
    found.sound &= ~lost


def blocks(found: DatasetScan) -> Iterator[Block]:
    """All sound episodes in order, in blocks of about `bounds.block_bytes` and at least one episode.

    A damaged chunk becomes a finding when it is met, and its episodes are left out.
    """
    if not len(found.length):
        return
    for first, end in itertools.pairwise(cuts(found.held * found.step_bytes, bounds.block_bytes())):
        yield from _sound_runs(found, first, end)


def _sound_runs(found: DatasetScan, first: int, end: int) -> Iterator[Block]:
    """The sound episodes from `first` to before `end`, in runs without gaps."""
    change = np.flatnonzero(np.diff(found.sound[first:end].astype(np.int8), prepend=0, append=0))
    for begin, stop in (change.reshape(-1, 2) + first).tolist():
        try:
            flat = _read(found, begin, stop)
        except Exception as error:
            _find_damage(found, begin, stop, error)
            yield from _sound_runs(found, begin, stop)
        else:
            yield Block(begin, flat)


def _read(found: DatasetScan, first: int, end: int) -> Flat:
    part = places(found.held, first, end)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is found by the checks
        arrays: dict[str, np.ndarray] = {
            name: np.asarray(found.arrays[name][part[name]]).astype(READ_AS[KINDS[name]], copy=False)
            for name in (*ROWS, *STEPS)
        }
    return cast("Flat", arrays | {"length": found.length[first:end], "won": found.won[first:end]})


def _find_damage(found: DatasetScan, first: int, end: int, error: Exception) -> None:
    """Name the chunks of these episodes that cannot be decoded; without any, leave the episodes out."""
    before, part = found.sound.sum(), places(found.held, first, end)
    for name in (*ROWS, *STEPS):
        array = found.arrays[name]
        for coordinates, file, why in broken(found.path / name, array, part[name]):
            _leave_out(found, name, array, coordinates, "damaged chunk file", file, f"damaged: {why}")
    if found.sound.sum() == before:
        text = f"episodes {first} to {end - 1} cannot be read: {error!r}"
        found.note("damaged chunk file", text, "", first)
        found.sound[first:end] = False
