"""Arrays in .npz files: the flat layout of datasets, or padded episodes. Read in parts of some 16 MiB, without pickle.

Axes: E episodes, M steps of all of them, R rows, T steps of the longest, N agents, A actions, O, S features.
"""

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.data.formats.episodes import check_actions, flags
from ovmse.data.formats.npzfiles import Member, Reader, files, load, members, reading
from ovmse.data.logged import Logged, Source
from ovmse.errors import UserError, check_positive

BLOCK_BYTES = 2**24
NAMES = {
    "obs": ("obs", "observations", "observation"),
    "action": ("action", "actions"),
    "reward": ("reward", "rewards"),
    "terminal": ("terminal", "terminals", "terminated", "terminations", "done", "dones"),
    "state": ("state", "states"),
    "avail": ("avail", "avail_actions", "legals", "legal_actions", "action_mask", "action_masks"),
    "length": ("length", "lengths", "episode_length", "episode_lengths"),
    "valid": ("valid", "filled"),
    "won": ("won", "wins", "battle_won"),
}
NUMBERS = "fiub"
KINDS = {"action": "fiu", "length": "iu"}
ROWS = ("obs", "state", "avail")
Parts = dict[str, np.ndarray]


class Log(NamedTuple):
    """An opened file: its arrays by role, whether episodes are padded, and N."""

    file: Path
    arrays: dict[str, Member]
    padded: bool
    n_agents: int
    episodes: int


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """Open an .npz file, or a directory of them in natural order.

    obs has the axes (R, N, O), where R is M + E or M, or (E, T+1, N, O) or (E, T, N, O); the other arrays fit it (see
    docs/importing.md). n_actions counts where there are no masks; without either the actions are read once to find
    the largest. Raises `UserError` for missing arrays, other shapes and types, and damaged files.
    """
    logs = [_open(file) for file in files(path)]
    widths = {log.arrays["avail"].shape[-1] if "avail" in log.arrays else None for log in logs}
    if len(widths) > 1:
        raise UserError(f"{path}: the files do not agree on the masks: {sorted(map(str, widths))} actions.")
    actions, assumed = _actions(path, logs, widths.pop(), n_actions)
    if any("terminal" not in log.arrays for log in logs):
        assumed.append("no array terminal: every episode counts as cut")
    if any(_per_agent(log, "terminal") for log in logs):
        assumed.append("terminal per agent: the task ended where it is true for all")
    arrays = {role: member.name for role, member in logs[0].arrays.items()}
    return Source(
        name=str(path),
        format="npz",
        episodes=(logged for log in logs for logged in _episodes(log)),
        n_actions=actions,
        total=sum(log.episodes for log in logs),
        assumed=tuple(assumed),
        facts={"arrays": arrays, "layout": "padded" if logs[0].padded else "flat"},
    )


def _open(file: Path) -> Log:
    """The arrays of a file, checked against each other."""
    found = members(file)
    arrays: dict[str, Member] = {}
    for role, names in NAMES.items():
        own = [name for name in names if name in found]
        if len(own) > 1:
            raise UserError(f"{file}: {role}: expected one of {' and '.join(own)}. Leave the other out.")
        if own:
            arrays[role] = found[own[0]]
    for role in ("obs", "action", "reward"):
        if role not in arrays:
            called, held = ", ".join(NAMES[role]), ", ".join(sorted(found)[:20]) or "nothing"
            raise UserError(f"{file}: no array for {role}, called one of {called}: the file holds {held}.")
    for role, member in arrays.items():
        if member.dtype.kind not in KINDS.get(role, NUMBERS):
            needed = "whole numbers" if role in KINDS else "numbers"
            raise UserError(
                f"{member.where}: expected {needed}, got {member.dtype}. Only discrete actions are supported."
            )
        if 0 in member.shape or not member.shape:
            raise UserError(f"{member.where}: expected values, got the shape {member.shape}.")
    obs = arrays["obs"]
    if len(obs.shape) not in (3, 4):
        raise UserError(
            f"{obs.where}: expected the axes (rows, agents, features), or (episodes, rows, agents, features), got the "
            f"shape {obs.shape}."
        )
    padded = len(obs.shape) == 4
    if not padded:
        arrays.pop("valid", None)
    if "length" not in arrays and (not padded or "valid" not in arrays):
        also = " (or valid, ones and zeros of shape (episodes, steps))" if padded else ""
        raise UserError(f"{file}: no array length: expected the steps of every episode, shape (episodes,){also}.")
    log = Log(file, arrays, padded, obs.shape[-2], obs.shape[0] if padded else arrays["length"].shape[0])
    _check_shapes(log)
    return log


def _check_shapes(log: Log) -> None:
    """Raise `UserError` unless all arrays fit obs and each other."""
    n, arrays = log.n_agents, log.arrays
    ends: dict[str, tuple[tuple[Any, ...], ...]] = {
        "action": ((n,), (n, 1)),
        "reward": ((), (1,), (n,)),
        "terminal": ((), (1,), (n,)),
        "valid": ((), (1,)),
        "state": ((None,),),
        "avail": ((n, None),),
        "obs": ((n, None),),
    }
    lead = 2 if log.padded else 1
    for role, member in arrays.items():
        shape = member.shape
        if role in ("length", "won"):
            fits = shape == (log.episodes,)
            expected = f"({log.episodes},), one value per episode"
        else:
            fits = any(_like(shape[lead:], end) for end in ends[role]) and len(shape) >= lead
            fits = fits and (not log.padded or (shape[0] == log.episodes and shape[1] in _axis(log, role)))
            heads = f"{log.episodes}, {' or '.join(map(str, _axis(log, role)))}" if log.padded else "rows or steps"
            tails = " or ".join(str(end).replace("None", "any") for end in ends[role])
            expected = f"({heads}) and then {tails} ({n} agents)"
        if not fits:
            raise UserError(f"{member.where}: expected the shape {expected}, got {shape}.")


def _like(shape: tuple[int, ...], pattern: tuple[Any, ...]) -> bool:
    return len(shape) == len(pattern) and all(p in (None, s) for s, p in zip(shape, pattern, strict=True))


def _axis(log: Log, role: str) -> tuple[int, ...]:
    """The lengths that the time axis of a padded array may have: T, or T + 1 for rows."""
    steps = log.arrays["action"].shape[1] if len(log.arrays["action"].shape) > 1 else 0
    return (steps, steps + 1) if role in ROWS else (steps,)


def _per_agent(log: Log, role: str) -> bool:
    """Whether a value of each step is one per agent."""
    lead = 2 if log.padded else 1
    return role in log.arrays and log.n_agents > 1 and log.arrays[role].shape[lead:] == (log.n_agents,)


def _actions(path: Path, logs: list[Log], width: int | None, n_actions: int | None) -> tuple[int, list[str]]:
    """A, and the assumption behind it."""
    if n_actions is not None:
        check_positive("n-actions", n_actions)
    if width is not None and n_actions not in (None, width):
        raise UserError(f"{path}: the masks have {width} actions, but --n-actions says {n_actions}.")
    if width is not None or n_actions is not None:
        return width or n_actions or 0, []
    largest = max(_largest(log) for log in logs)
    check_actions(str(path), largest + 1)
    return largest + 1, [f"the largest action in the log is {largest}: {largest + 1} actions"]


def _largest(log: Log) -> int:
    """The largest action outside the padding."""
    roles = ("action", "length", "valid") if log.padded else ("action", "length")
    actions = log._replace(arrays={role: m for role, m in log.arrays.items() if role in roles})
    largest = max(float(parts["action"].max()) for _, parts in _parts_of(actions))
    return int(np.nan_to_num(largest, nan=0.0, posinf=2.0**63))  # what is no action is told when its episode is read


def _parts(total: int, size: int) -> Iterator[int]:
    """Numbers of entries of `size` bytes each, some 16 MiB together."""
    step = max(1, BLOCK_BYTES // max(1, size))
    yield from (min(step, total - start) for start in range(0, total, step))


def _episodes(log: Log) -> Iterator[Logged]:
    won = None
    if "won" in log.arrays:
        with reading(log.file), zipfile.ZipFile(log.file) as archive:
            won = flags(str(log.file), "won", load(archive, log.arrays["won"]))
    for index, parts in _parts_of(log):
        yield _logged(log, index, parts, None if won is None else bool(won[index]))


def _parts_of(log: Log) -> Iterator[tuple[int, Parts]]:
    """The number of every episode, and its parts of the arrays."""
    with reading(log.file):
        archive = zipfile.ZipFile(log.file)
    with contextlib.ExitStack() as opened:
        opened.enter_context(archive)
        length = _lengths(log, load(archive, log.arrays["length"])) if "length" in log.arrays else None
        streamed = {role: member for role, member in log.arrays.items() if role not in ("length", "won")}
        readers = {role: opened.enter_context(Reader(archive, member)) for role, member in streamed.items()}
        if log.padded:
            yield from _padded(log, length, readers)
        else:
            assert length is not None
            yield from _flat(log, length, readers)


def _flat(log: Log, length: np.ndarray, readers: dict[str, Reader]) -> Iterator[tuple[int, Parts]]:
    """The episodes of flat arrays, some at a time."""
    steps = int(length.sum())
    ahead = {role: _surplus(log, role, steps) for role in readers}
    row_bytes = max(reader.member.row_bytes for reader in readers.values())
    end = np.cumsum(length + 1) * row_bytes // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(end)) + 1).tolist(), len(length)]
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        own = length[first:last]
        count = int(own.sum())
        block = {role: reader.take(count + ahead[role] * len(own)) for role, reader in readers.items()}
        ends = np.cumsum(own)
        for i, (stop, size) in enumerate(zip(ends.tolist(), own.tolist(), strict=True)):
            begin = stop - size
            parts = {r: a[begin + ahead[r] * i : stop + ahead[r] * (i + 1)] for r, a in block.items()}
            yield first + i, parts


def _surplus(log: Log, role: str, steps: int) -> int:
    """1 where an array has a row more per episode than there are steps, else 0."""
    got = log.arrays[role].shape[0]
    if got == steps:
        return 0
    if got == steps + log.episodes and role in ROWS:
        return 1
    more = f", or {steps + log.episodes} with the rows after the last steps" if role in ROWS else ""
    raise UserError(f"{log.arrays[role].where}: expected {steps} entries, the sum of length{more}; got {got}.")


def _padded(log: Log, length: np.ndarray | None, readers: dict[str, Reader]) -> Iterator[tuple[int, Parts]]:
    """The episodes of padded arrays, some at a time."""
    steps = log.arrays["action"].shape[1]
    first = 0
    for count in _parts(log.episodes, sum(reader.member.row_bytes for reader in readers.values())):
        block = {role: reader.take(count) for role, reader in readers.items()}
        valid = _valid(log, first, block.pop("valid").reshape(count, steps)) if "valid" in block else None
        if length is not None and valid is not None and (length[first : first + count] != valid).any():
            raise UserError(f"{log.file}: length and valid disagree. Leave one of them out.")
        sizes = valid if length is None else length[first : first + count]
        assert sizes is not None
        for i, size in enumerate(sizes.tolist()):
            if not 0 < size <= steps:
                raise UserError(f"{log.file}: episode {first + i}: expected 1 to {steps} steps, got {size}.")
            parts = {r: a[i, : size + (a.shape[1] > steps)] for r, a in block.items()}
            yield first + i, parts
        first += count


def _valid(log: Log, first: int, valid: np.ndarray) -> np.ndarray:
    """The steps of episodes by the mask of valid steps, (E, T): these come first."""
    bad = (valid != 0) & (valid != 1)
    held = valid.astype(bool)
    length = held.sum(axis=1)
    gap = (held != (np.arange(held.shape[1]) < length[:, None])).any(axis=1) | bad.any(axis=1)
    if gap.any():
        episode = first + int(gap.argmax())
        raise UserError(f"{log.arrays['valid'].where}: episode {episode}: expected ones and then zeros, got otherwise.")
    return length


def _lengths(log: Log, length: np.ndarray) -> np.ndarray:
    bad = (length < 1) | (length > 2**31)
    if bad.any():
        episode = int(bad.argmax())
        raise UserError(
            f"{log.arrays['length'].where}: episode {episode}: expected at least 1 step, got {length[episode]}."
        )
    return length.astype(np.int64)


def _logged(log: Log, index: int, parts: Parts, won: bool | None) -> Logged:
    """One episode from its parts of the arrays."""
    where = f"{log.file}: episode {index}"
    steps = len(parts["action"])
    terminal = parts.get("terminal", np.zeros(steps, bool))
    return Logged(
        obs=parts["obs"],
        action=parts["action"].reshape(steps, log.n_agents),
        reward=parts["reward"] if _per_agent(log, "reward") else parts["reward"].reshape(steps),
        terminal=np.asarray(flags(where, "terminal", terminal).reshape(steps, -1).all(axis=1)),
        state=parts.get("state"),
        avail=parts.get("avail"),
        won=won,
        where=where,
    )
