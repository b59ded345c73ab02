"""Vaults, the datasets of OG-MARL (`flashbax.vault`): read in blocks of time steps, and written.

A vault is a directory with `metadata.json` and a key-value store (OCDBT) of Zarr arrays, their axes (B, T, N, ...):
B streams of play, in each of them the episodes one after the other, N agents. T is declared as 10^13; `vault_index`
says how many time steps are real.
"""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.data.formats.episodes import check_actions
from ovmse.data.formats.facts import bounded
from ovmse.data.formats.vault_open import (
    BLOCK_BYTES,
    INDEX,
    LAYOUTS,
    find,
    has_checksums,
    open_arrays,
    read_metadata,
    step_bytes,
    tensorstore,
    unreadable,
)
from ovmse.data.logged import NO_CHECKSUMS, Logged, Source
from ovmse.data.store import Dataset
from ovmse.data.whole import whole
from ovmse.errors import UserError

EPISODE_LIMIT = 2**30
VERSION = 1.2
TIME_AXIS = 10**13
FLAGS = ("terminal", "truncated")


class Vault(NamedTuple):
    """An open vault: its arrays by field, and its sizes: real time steps, B, N."""

    path: Path
    stores: dict[str, Any]
    steps: int
    streams: int
    n_agents: int


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """The episodes of a vault: the directory with `metadata.json`, or one with a single vault below it.

    An episode ends where every agent is terminal or truncated; the task ended it when all are terminal and not all
    truncated. Without `infos.legals.`, `n_actions` is as stated, or one more than the largest action in the vault.
    Raises `UserError` where the vault is incomplete, damaged, or of a shape or type that this library has no use for.
    """
    check_actions(str(path), n_actions)
    path = find(path)
    metadata = read_metadata(path)
    stores, steps, others = open_arrays(path, metadata)
    shape = stores["obs"].shape
    vault = Vault(path, stores, steps, streams=shape[0], n_agents=shape[2])
    assumed = []
    unfinished = sum(not _ends(vault, stream, steps - 1, steps)[0].all() for stream in range(vault.streams))
    if unfinished:
        assumed.append("the log stops in the middle of its last episode, which counts as cut")
    if "truncated" not in stores:
        assumed.append("no truncations: the task ended every episode")
    if not all(has_checksums(store) for store in stores.values()):
        assumed.append(NO_CHECKSUMS)
    facts = {key: value for key, value in metadata.items() if not key.startswith("structure_")}
    facts |= {"time_steps": steps} | ({"ignored_arrays": others[:32]} if others else {})
    actions = _n_actions(vault, n_actions)
    check_actions(str(path), actions)
    return Source(str(path), "vault", _episodes(vault), actions, None, tuple(assumed), bounded(facts))


def _n_actions(vault: Vault, stated: int | None) -> int:
    if "avail" in vault.stores:
        masks = vault.stores["avail"].shape[-1]
        if stated not in (None, masks):
            raise UserError(f"{vault.path}: infos.legals. is for {masks} actions, n_actions says {stated}.")
        return masks
    if stated is not None:
        return stated
    rows = max(1, BLOCK_BYTES // (8 * vault.n_agents))
    largest = max(
        int(_read(vault, stream, lo, min(lo + rows, vault.steps), ("action",))["action"].max())
        for stream in range(vault.streams)
        for lo in range(0, vault.steps, rows)
    )
    return max(largest, 0) + 1


def _read(vault: Vault, stream: int, start: int, stop: int, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The fields at time steps `start` to `stop` of a stream; they are decoded at the same time."""
    reads = {field: vault.stores[field][stream, start:stop].read() for field in fields}
    arrays = {}
    for field, future in reads.items():
        try:
            arrays[field] = future.result()
        except Exception as error:
            raise unreadable(vault.path, f"{LAYOUTS[field].name} at time steps {start} to {stop - 1}", error) from error
    return arrays


def _ends(vault: Vault, stream: int, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Where an episode ends, and where the task ended it, both (stop - start,) bool."""
    fields = tuple(field for field in FLAGS if field in vault.stores)
    flags = _read(vault, stream, start, stop, fields)
    for field, values in flags.items():
        bad = (values != 0) & (values != 1)
        if bad.any():
            step, agent = np.argwhere(bad)[0]
            raise UserError(
                f"{vault.path}: {LAYOUTS[field].name}: time step {start + step}, agent {agent}: "
                f"expected 0 or 1, got {values[step, agent]}."
            )
    terminal = flags["terminal"].astype(bool)
    truncated = flags["truncated"].astype(bool) if "truncated" in flags else np.zeros_like(terminal)
    task_ended = np.asarray(terminal.all(axis=1) & ~truncated.all(axis=1))
    return np.asarray((terminal | truncated).all(axis=1)), task_ended


def _episodes(vault: Vault) -> Iterator[Logged]:
    """The episodes in the order of the log: views of blocks that hold whole episodes."""
    number = 0
    fields = tuple(field for field in vault.stores if field not in FLAGS)
    for stream in range(vault.streams):
        in_stream = f"stream {stream}, " if vault.streams > 1 else ""
        for first, stops, terminal in _blocks(vault, stream):
            block = _read(vault, stream, first, first + stops[-1], fields)
            for start, stop in itertools.pairwise([0, *stops]):
                where = f"{vault.path}: episode {number} ({in_stream}time steps {first + start} to {first + stop - 1})"
                rows: dict[str, Any] = {field: values[start:stop] for field, values in block.items()}
                yield Logged(terminal=terminal[start:stop], where=where, **rows)
                number += 1


def _blocks(vault: Vault, stream: int) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """The first time step of every block, where its episodes stop in it, and where the task ended one."""
    usual = BLOCK_BYTES // step_bytes(vault.stores)
    start, rows = 0, usual
    while start < vault.steps:
        stop = min(start + rows, vault.steps)
        ends, terminal = _ends(vault, stream, start, stop)
        if stop == vault.steps:
            ends[-1] = True  # the log may stop in the middle of an episode
        stops = (np.flatnonzero(ends) + 1).tolist()
        if stops:
            yield start, stops, terminal[: stops[-1]]
            start, rows = start + stops[-1], usual
        elif rows < EPISODE_LIMIT // BLOCK_BYTES * usual:
            rows *= 2
        else:
            raise UserError(
                f"{vault.path}: no episode ends within {rows:,} time steps from {start} on: "
                "terminals. and truncations. mark no end that all agents share."
            )


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as a vault; flashbax opens a/b/c as `Vault("b", rel_dir="a", vault_uid="c")`.

    Every agent gets the team's reward; a step that ended an episode is terminal, or else truncated, for all agents.
    Returns what a vault has no place for, in sentences. Raises `UserError` where `path` exists or cannot be written.
    """
    steps, n_agents = dataset.action.shape
    if steps >= 2**31:
        raise UserError(f"{path}: a vault counts up to {2**31 - 1:,} time steps, the dataset has {steps:,}.")
    spec = dataset.spec
    sizes = {"B": 1, "T": steps, "N": n_agents, "O": spec.obs_size, "S": spec.state_size, "A": spec.n_actions}
    shapes = {field: tuple(sizes[axis] for axis in layout.axes) for field, layout in LAYOUTS.items()}
    with whole(path) as partial:
        partial.mkdir()
        try:
            for field, shape in shapes.items():
                _write_array(dataset, partial, field, shape)
            index = _create(partial, INDEX, (1,), "int32", {})
            index.write(np.array([steps], np.int32)).result()
        except ValueError as error:  # what tensorstore raises, a full disk included
            raise UserError(f"{path}: cannot be written: {str(error)[:300]}") from error
        (partial / "metadata.json").write_text(json.dumps(_metadata_of(dataset, shapes)))
    episodes, cut = len(dataset.length), len(dataset.length) - int(dataset.terminal.sum())
    lost = [f"final observations of {episodes:,} episodes, {cut:,} of them cut by the time limit, are not in a vault"]
    if spec.has_win:
        lost.append(f"which episodes were won ({int(dataset.won.sum()):,} of {episodes:,}) is not in a vault")
    return lost


def _create(path: Path, name: str, shape: tuple[int, ...], dtype: str, metadata: dict[str, Any]) -> Any:
    kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path.absolute()}/"}, "path": name}
    spec = {"driver": "zarr", "kvstore": kvstore} | metadata
    return tensorstore().open(spec, shape=shape, dtype=np.dtype(dtype), create=True).result()


def _write_array(dataset: Dataset, path: Path, field: str, shape: tuple[int, ...]) -> None:
    """Write one array in blocks of whole chunks: a chunk that is written twice stays in the store twice."""
    compressor = {"metadata": {"compressor": {"id": "gzip", "level": 5}}}
    declared = (shape[0], TIME_AXIS, *shape[2:])
    store = _create(path, LAYOUTS[field].name, declared, LAYOUTS[field].dtype, compressor)
    chunk = store.chunk_layout.write_chunk.shape[1]
    step_bytes = math.prod(shape[2:]) * np.dtype(LAYOUTS[field].dtype).itemsize
    rows = max(1, BLOCK_BYTES // (chunk * step_bytes)) * chunk
    for lo in range(0, shape[1], rows):
        hi = min(lo + rows, shape[1])
        values = np.broadcast_to(_steps(dataset, field, lo, hi), (hi - lo, *shape[2:]))
        store[0, lo:hi].write(np.ascontiguousarray(values, LAYOUTS[field].dtype)).result()


def _steps(dataset: Dataset, field: str, lo: int, hi: int) -> np.ndarray:
    """A field at the steps `lo` to `hi` of the dataset, as far as it can be broadcast to the agents."""
    step, first = np.arange(lo, hi), dataset.step_start
    episode = np.searchsorted(first, step, side="right") - 1
    if field in ("obs", "state", "avail"):
        return getattr(dataset, field)[step + episode]  # rows run one ahead of steps with every episode
    if field == "truncated":
        last = step == first[episode] + dataset.length[episode] - 1
        return (last & ~dataset.terminal[lo:hi])[:, None]
    values = getattr(dataset, field)[lo:hi]
    return values if field == "action" else values[:, None]


def _metadata_of(dataset: Dataset, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What flashbax expects in metadata.json, and where the play comes from."""
    told = dataset.metadata
    shape: dict[str, Any] = {"infos": {}}
    dtype: dict[str, Any] = {"infos": {}}
    for field, layout in LAYOUTS.items():
        *above, name = layout.name.rstrip(".").split(".")
        (shape["infos"] if above else shape)[name] = str(shapes[field])
        (dtype["infos"] if above else dtype)[name] = layout.dtype
    origin = {"env": told.env._asdict(), "behaviour": told.behaviour, "quality": told.quality, "created": told.created}
    return {"version": VERSION, "structure_shape": shape, "structure_dtype": dtype, "ovmse": origin}
