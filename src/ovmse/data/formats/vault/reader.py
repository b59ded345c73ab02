"""Vaults, the datasets of OG-MARL (`flashbax.vault`): read in blocks of time steps, and written.

A vault is a directory with `metadata.json` and a key-value store (OCDBT) of Zarr arrays, their axes (B, T, N, ...):
B streams of play, in each of them the episodes one after the other, N agents. T is declared as 10^13; `vault_index`
says how many time steps are real.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.reading import bounded, decoding, settled_actions, spans
from ovmse.data.formats.vault.opening import (
    LAYOUTS,
    find,
    has_checksums,
    open_arrays,
    read_metadata,
    step_bytes,
)
from ovmse.data.raw_episode import NO_CHECKSUMS, RawEpisode, Source
from ovmse.system import bounds

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
    masks = stores["avail"].shape[-1] if "avail" in stores else None
    return Source(
        name=str(path),
        format="vault",
        episodes=_episodes(vault),
        n_actions=settled_actions(path, masks, "infos.legals.", n_actions, lambda: _largest_action(vault)),
        assumed=tuple(assumed),
        facts=bounded(facts),
    )


def _largest_action(vault: Vault) -> int:
    return max(
        int(_read(vault, stream, lo, hi, ("action",))["action"].max(initial=0))
        for stream in range(vault.streams)
        for lo, hi in spans(vault.steps, bounds.block_bytes() // (8 * vault.n_agents))
    )


def _read(vault: Vault, stream: int, start: int, stop: int, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The fields at time steps `start` to `stop` of a stream; they are decoded at the same time."""
    reads = {field: vault.stores[field][stream, start:stop].read() for field in fields}
    arrays = {}
    for field, future in reads.items():
        with decoding(f"{vault.path}: {LAYOUTS[field].name} at time steps {start} to {stop - 1} cannot be read"):
            arrays[field] = future.result()
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


def _episodes(vault: Vault) -> Iterator[RawEpisode]:
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
                yield RawEpisode(terminal=terminal[start:stop], where=where, **rows)
                number += 1


def _blocks(vault: Vault, stream: int) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """The first time step of every block, where its episodes stop in it, and where the task ended one."""
    usual = bounds.block_bytes() // step_bytes(vault.stores)
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
        elif 2 * rows * step_bytes(vault.stores) <= bounds.limit():
            rows *= 2
        else:
            raise UserError(
                f"{vault.path}: no episode ends within {rows:,} time steps from {start} on: "
                "terminals. and truncations. mark no end that all agents share. If episodes are longer, set "
                f"{bounds.VARIABLE} to the bytes that one may have."
            )
