"""Arrays in .npz files: the flat layout of datasets, or padded episodes. Read in parts of some 16 MiB, without pickle.

Axes: E episodes, M steps of all of them, R rows, T steps of the longest, N agents, A actions, O, S features.
"""

import contextlib
import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.flat import leading
from ovmse.data.formats.episodes import flags
from ovmse.data.formats.npz.members import Reader, decoding, files, load
from ovmse.data.formats.npz.opening import NpzLog, open_log
from ovmse.data.formats.reading import bounded, settled_actions, spans
from ovmse.data.raw_episode import RawEpisode, Source
from ovmse.data.schema import ROWS, cuts
from ovmse.system import bounds

FEW = 12  # names of a sentence
Parts = dict[str, np.ndarray]


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """Open an .npz file, or a directory of them in natural order.

    obs has the axes (R, N, O), where R is M + E or M, or (E, T+1, N, O) or (E, T, N, O); the other arrays fit it (see
    docs/importing.md). n_actions counts where there are no masks; without either the actions are read once to find
    the largest. Raises `UserError` for missing arrays, other shapes and types, and damaged files.
    """
    logs = [open_log(file) for file in files(path)]
    widths = {log.arrays["avail"].shape[-1] if "avail" in log.arrays else None for log in logs}
    if len(widths) > 1:
        raise UserError(f"{path}: the files do not agree on the masks: {sorted(map(str, widths))} actions.")
    width, assumed = widths.pop(), list[str]()
    actions = settled_actions(path, width, "avail", n_actions, lambda: max(map(_largest, logs)))
    if width is None and n_actions is None:
        assumed.append(f"the largest action in the log is {actions - 1}: {actions} actions")
    if any("terminal" not in log.arrays for log in logs):
        assumed.append("no array terminal: every episode counts as cut")
    if any(log.per_agent("terminal") for log in logs):
        assumed.append("terminal per agent: the task ended where it is true for all")
    if any({"terminal", "truncated"} <= set(log.arrays) for log in logs):
        assumed.append("a step that is both terminal and truncated counts as cut")
    others = list(dict.fromkeys(name for log in logs for name in log.others))
    if others:
        more = f" and {len(others) - FEW} more" if len(others) > FEW else ""
        assumed.append(f"arrays without a meaning here were left out: {', '.join(others[:FEW])}{more}")
    arrays = {role: member.name for role, member in logs[0].arrays.items()}
    facts: dict[str, object] = {"arrays": arrays, "layout": "padded" if logs[0].padded else "flat"}
    facts |= {"ignored_arrays": others[:32]} if others else {}
    return Source(
        name=str(path),
        format="npz",
        episodes=(logged for log in logs for logged in _episodes(log)),
        n_actions=actions,
        total=sum(log.episodes for log in logs),
        assumed=tuple(assumed),
        facts=bounded(facts),
    )


def _largest(log: NpzLog) -> int:
    """The largest action outside the padding."""
    roles = ("action", "length", "valid") if log.padded else ("action", "length")
    actions = log._replace(arrays={role: m for role, m in log.arrays.items() if role in roles})
    largest = max(float(parts["action"].max()) for _, parts in _parts_of(actions))
    return int(np.nan_to_num(largest, nan=0.0, posinf=2.0**63))  # what is no action is told when its episode is read


def _episodes(log: NpzLog) -> Iterator[RawEpisode]:
    won = None
    if "won" in log.arrays:
        with decoding(log.file), zipfile.ZipFile(log.file) as archive:
            won = flags(str(log.file), "won", load(archive, log.arrays["won"]))
    for index, parts in _parts_of(log):
        yield _logged(log, index, parts, None if won is None else bool(won[index]))


def _parts_of(log: NpzLog) -> Iterator[tuple[int, Parts]]:
    with decoding(log.file):
        archive = zipfile.ZipFile(log.file)
    with contextlib.ExitStack() as opened:
        opened.enter_context(archive)
        length = None
        if "length" in log.arrays:
            length = load(archive, log.arrays["length"])
            if (bad := (length < 1) | (length > 2**31)).any():
                got = f"episode {int(bad.argmax())}: expected at least 1 step, got {length[bad.argmax()]}"
                raise UserError(f"{log.arrays['length'].where}: {got}.")
            length = length.astype(np.int64)
        streamed = {role: member for role, member in log.arrays.items() if role not in ("length", "won")}
        readers = {role: opened.enter_context(Reader(archive, member)) for role, member in streamed.items()}
        if log.padded:
            yield from _padded(log, length, readers)
        else:
            assert length is not None
            yield from _flat(log, length, readers)


def _flat(log: NpzLog, length: np.ndarray, readers: dict[str, Reader]) -> Iterator[tuple[int, Parts]]:
    steps = int(length.sum())
    ahead = {role: _surplus(log, role, steps) for role in readers}
    row_bytes = max(reader.member.row_bytes for reader in readers.values())
    longest = int(length.argmax())
    together = sum(reader.member.row_bytes for reader in readers.values())
    bounds.check(log.file, f"episode {longest}", (int(length[longest]) + 1) * together)
    for first, last in itertools.pairwise(cuts((length + 1) * row_bytes, bounds.block_bytes())):
        own = length[first:last]
        count = int(own.sum())
        block = {role: reader.take(count + ahead[role] * len(own)) for role, reader in readers.items()}
        ends = np.cumsum(own)
        for i, (stop, size) in enumerate(zip(ends.tolist(), own.tolist(), strict=True)):
            begin = stop - size
            parts = {r: a[begin + ahead[r] * i : stop + ahead[r] * (i + 1)] for r, a in block.items()}
            yield first + i, parts


def _surplus(log: NpzLog, role: str, steps: int) -> int:
    """1 where an array has a row more per episode than there are steps, else 0."""
    got = log.arrays[role].shape[0]
    if got == steps:
        return 0
    if got == steps + log.episodes and role in ROWS:
        return 1
    more = f", or {steps + log.episodes} with the rows after the last steps" if role in ROWS else ""
    raise UserError(f"{log.arrays[role].where}: expected {steps} entries, the sum of length{more}; got {got}.")


def _padded(log: NpzLog, length: np.ndarray | None, readers: dict[str, Reader]) -> Iterator[tuple[int, Parts]]:
    steps = log.arrays["action"].shape[1]
    row_bytes = sum(reader.member.row_bytes for reader in readers.values())
    bounds.check(log.file, "an episode", row_bytes)
    for first, end in spans(log.episodes, bounds.block_bytes() // max(1, row_bytes)):
        block = {role: reader.take(end - first) for role, reader in readers.items()}
        valid = _valid(log, first, block.pop("valid").reshape(end - first, steps)) if "valid" in block else None
        stated = None if length is None else length[first:end]
        if stated is not None and valid is not None and (stated != valid).any():
            raise UserError(f"{log.file}: length and valid disagree. Leave one of them out.")
        sizes = valid if stated is None else stated
        assert sizes is not None
        for i, size in enumerate(sizes.tolist()):
            if not 0 < size <= steps:
                raise UserError(f"{log.file}: episode {first + i}: expected 1 to {steps} steps, got {size}.")
            parts = {r: a[i, : size + (a.shape[1] > steps)] for r, a in block.items()}
            yield first + i, parts


def _valid(log: NpzLog, first: int, valid: np.ndarray) -> np.ndarray:
    """The steps of episodes by the mask of valid steps, (E, T): these come first."""
    length, gap = leading(valid.astype(bool))
    bad = gap | ((valid != 0) & (valid != 1)).any(axis=1)
    if bad.any():
        episode = first + int(bad.argmax())
        raise UserError(f"{log.arrays['valid'].where}: episode {episode}: expected ones and then zeros, got otherwise.")
    return length


def _logged(log: NpzLog, index: int, parts: Parts, won: bool | None) -> RawEpisode:
    where = f"{log.file}: episode {index}"
    steps = len(parts["action"])
    terminal = _steps(where, "terminal", parts, steps).all(axis=1)
    truncated = _steps(where, "truncated", parts, steps)
    early = truncated[:-1].all(axis=1)
    if early.any():
        raise UserError(
            f"{where}: step {int(early.argmax())}: truncated before the last step of its episode. Correct the lengths."
        )
    return RawEpisode(
        obs=parts["obs"],
        action=parts["action"].reshape(steps, log.n_agents),
        reward=parts["reward"] if log.per_agent("reward") else parts["reward"].reshape(steps),
        terminal=np.asarray(terminal & ~truncated.any(axis=1)),
        state=parts.get("state"),
        avail=parts.get("avail"),
        won=won,
        where=where,
    )


def _steps(where: str, role: str, parts: Parts, steps: int) -> np.ndarray:
    """True and false for every step, (T, N) or (T, 1); false where there is no such array."""
    return flags(where, role, parts.get(role, np.zeros(steps, bool)).reshape(steps, -1))
