"""Rows of whole episodes, made of blocks of rows. Axes: n rows."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.cells import Rows
from ovmse.data.formats.table.files import Table
from ovmse.system import bounds

SORTED_ROWS = 2**16  # handed on at once


def joined(parts: list[Rows]) -> Rows:
    """The rows of several parts after each other."""
    return {role: np.concatenate([part[role] for part in parts]) for role in parts[0]} if parts[1:] else parts[0]


def boundaries(rows: Rows) -> np.ndarray:
    """Where an episode begins, or a part of one behind a gap, (n,)."""
    new = rows["episode"][1:] != rows["episode"][:-1]
    if "part" in rows:
        new |= rows["part"][1:] != rows["part"][:-1]
    return np.concatenate([[True], new])


def sorted_by_episode(blocks: Iterable[tuple[int, Rows]], table: Table) -> Iterator[tuple[int, Rows]]:
    """All rows, those of an episode together, episodes in the order in which they begin.

    Raises `UserError` where they do not fit into the bytes that one thing may take in memory.
    """
    parts, size = list[Rows](), 0
    for _, rows in blocks:
        parts.append(rows)
        size += sum(values.nbytes for values in rows.values())
        bounds.check(table.path, "the table, which is sorted in memory,", size)
    if not parts:
        return
    rows = joined(parts)
    _, first, which = np.unique(rows["episode"], return_index=True, return_inverse=True)
    order = np.argsort(first[which], kind="stable")
    for begin in range(0, len(order), SORTED_ROWS):
        yield 0, {role: values[order[begin : begin + SORTED_ROWS]] for role, values in rows.items()}


def whole_episodes(blocks: Iterable[tuple[int, Rows]], table: Table) -> Iterator[Rows]:
    """Rows of whole episodes; those of the last episode in a block wait for what follows."""
    waiting: list[Rows] = []
    seen: dict[Any, int] = {}
    last_file = None
    for file, rows in blocks:
        names = rows["episode"]
        if not len(names):
            continue
        begins = (np.flatnonzero(names[1:] != names[:-1]) + 1).tolist()
        if file != last_file:  # a file numbers its own episodes, unless it goes on in the middle of one
            last_file = file
            if waiting and not _goes_on(waiting, names[0], rows["step"][: begins[0] if begins else None]):
                yield joined(waiting)
                waiting = []
            seen = {names[0]: seen[names[0]]} if waiting else {}
        if not waiting or waiting[0]["episode"][0] != names[0]:
            begins = [0, *begins]
        for name, row in zip(names[begins], rows["row"][begins], strict=True):
            if name in seen:
                raise UserError(
                    f"{table.place(row)}: episode {name} comes back: it began at {table.place(seen[name])}, and other "
                    "episodes lie between. Give every episode its own id, or have the rows sorted: --unsorted sort."
                )
            seen[name] = row
        cut = begins[-1] if begins else 0
        if begins and (waiting or cut):
            yield joined([*waiting, {role: values[:cut] for role, values in rows.items()}])
            waiting = []
        waiting.append({role: values[cut:] for role, values in rows.items()})
        size = sum(values.nbytes for part in waiting for values in part.values())
        bounds.check(table.place(waiting[0]["row"][0]), f"episode {waiting[0]['episode'][0]}", size)
    if waiting:
        yield joined(waiting)


def _goes_on(waiting: list[Rows], name: Any, steps: np.ndarray) -> bool:
    """Whether the first episode of a file is the one that waits: it has the same id, and later steps."""
    return bool(name == waiting[0]["episode"][0] and steps.min() > min(part["step"].min() for part in waiting))
