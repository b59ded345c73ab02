"""The place of every row: episode by episode, step by step, agent by agent, whole blocks of episodes at once.

Axes: n rows, E episodes, M steps of all of them (a final row counts as one), N agents.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import natural
from ovmse.data.formats.table.rows import Decoder, TableRows

MOST_PLACES = 64  # per row, where agents may be absent


class Grid(NamedTuple):
    """Whole episodes.

    first: the first row of each, (E,); steps: how many, (E,); order: the row of every cell, (M * N,), -1 where an agent
    has none; present: which cells have one, (M, N).
    """

    first: np.ndarray
    steps: np.ndarray
    order: np.ndarray
    present: np.ndarray


class Placer:
    """Places rows. The first episode says who the agents are, and whether steps count from 0 or from 1."""

    def __init__(self, decoder: Decoder, place: Callable[[int], str], idle: bool) -> None:
        """idle: agents may be absent from a step."""
        self._decoder, self._place, self._idle = decoder, place, idle
        self._agents: np.ndarray | None = None
        self._start = 0

    def grid(self, rows: TableRows) -> Grid:
        """The places of the rows of whole episodes, which lie together.

        Raises `UserError` for gaps, rows that come twice, absent agents, and other agents than the first episode's.
        """
        first = np.concatenate([[0], np.flatnonzero(np.diff(rows.episode)) + 1])
        size = np.diff(np.concatenate([first, [len(rows.row)]]))
        lowest = np.minimum.reduceat(rows.step, first)
        agent, n = self._agent(rows, size, lowest)
        self._check_start(rows, first, lowest)
        steps = np.maximum.reduceat(rows.step, first) - self._start + 1
        self._check_gaps(rows, first, size, steps)
        self._check_cells(rows, first, size, steps, n)
        base = np.cumsum(steps) - steps
        cell = (np.repeat(base, size) + rows.step - self._start) * n + agent
        order = np.full(int(steps.sum()) * n, -1)
        order[cell] = np.arange(len(cell))
        twice = order[cell] != np.arange(len(cell))
        if twice.any():
            row = int(twice.argmax())
            other = int(order[cell[row]])
            raise UserError(
                f"{self._place(int(rows.row[row]))}: {self._named(rows, row)} comes again at "
                f"{self._place(int(rows.row[other]))}. Keep one row per step and agent."
            )
        return Grid(first, steps, order, (order >= 0).reshape(-1, n))

    def _named(self, rows: TableRows, row: int) -> str:
        names = self._decoder.name(int(rows.episode[row])), self._decoder.name(int(rows.agent[row]))
        return f"episode {names[0]}, step {rows.step[row]}, agent {names[1]}"

    def _agent(self, rows: TableRows, size: np.ndarray, lowest: np.ndarray) -> tuple[np.ndarray, int]:
        """The index of every row's agent, 0 to N - 1, and N."""
        if self._agents is None:
            own = np.unique(rows.agent[: size[0]]).tolist()
            self._agents = np.array(sorted(own, key=lambda key: _sorting(self._decoder, key)), np.int64)
            self._start = int(lowest[0])
        rank = np.argsort(self._agents)
        found = np.minimum(np.searchsorted(self._agents, rows.agent, sorter=rank), len(rank) - 1)
        index = rank[found]
        bad = self._agents[index] != rows.agent
        if bad.any():
            row = int(bad.argmax())
            known = ", ".join(self._decoder.name(int(key)) for key in self._agents[:12])
            raise UserError(
                f"{self._place(int(rows.row[row]))}: {self._named(rows, row)}: the first episode has "
                f"{known}. A table holds the episodes of one team: split it, or name agents alike in all episodes."
            )
        return index, len(self._agents)

    def _check_start(self, rows: TableRows, first: np.ndarray, lowest: np.ndarray) -> None:
        bad = lowest != self._start if self._start in (0, 1) else np.ones(len(lowest), bool)
        if bad.any():
            episode = int(bad.argmax())
            row = int(first[episode])
            expected = f"{self._start}, as in the first episode" if self._start in (0, 1) else "0 or 1"
            raise UserError(
                f"{self._place(int(rows.row[row]))}: episode {self._decoder.name(int(rows.episode[row]))}: "
                f"expected its first step to be {expected}, got {lowest[episode]}. Count steps within the episode."
            )

    def _check_gaps(self, rows: TableRows, first: np.ndarray, size: np.ndarray, steps: np.ndarray) -> None:
        """Every step needs a row; so an episode cannot have more steps than rows, whatever a cell says."""
        low = steps > size
        episode = int(low.argmax()) if low.any() else self._with_gap(rows, size, steps)
        if episode < 0:
            return
        begin = int(first[episode])
        seen = np.unique(rows.step[begin : begin + int(size[episode])])
        after = int(np.flatnonzero(np.diff(seen) > 1)[0])
        raise UserError(
            f"{self._place(int(rows.row[begin]))}: episode {self._decoder.name(int(rows.episode[begin]))}: step "
            f"{seen[after] + 1} is missing: step {seen[after]} is followed by {seen[after + 1]}. Steps have no gaps."
        )

    def _with_gap(self, rows: TableRows, size: np.ndarray, steps: np.ndarray) -> int:
        """The first episode that lacks a step, or -1."""
        base = np.cumsum(steps) - steps
        held = np.zeros(int(steps.sum()), bool)
        held[np.repeat(base, size) + rows.step - self._start] = True
        return -1 if held.all() else int(np.searchsorted(base, int(held.argmin()), side="right")) - 1

    def _check_cells(self, rows: TableRows, first: np.ndarray, size: np.ndarray, steps: np.ndarray, n: int) -> None:
        """Refuse agents that have no row, and agents so many that their places would not fit in memory."""
        if self._idle:
            if int(steps.sum()) * n > MOST_PLACES * len(rows.row):
                raise UserError(
                    f"{self._place(int(rows.row[0]))}: {n} agents, and most have no row at most steps. "
                    "Name agents by their role in the team."
                )
            return
        bad = size < steps * n
        if not bad.any():
            return
        episode = int(bad.argmax())
        own = slice(int(first[episode]), int(first[episode] + size[episode]))
        agent, step = rows.agent[own], rows.step[own]
        counts = np.bincount(step - self._start)
        at = int((counts < n).argmax()) + self._start
        assert self._agents is not None
        absent = next(key for key in self._agents.tolist() if key not in agent[step == at])
        raise UserError(
            f"{self._place(int(rows.row[own][step == at][0]))}: episode "
            f"{self._decoder.name(int(rows.episode[own][0]))}, step {at}: no row of agent "
            f"{self._decoder.name(absent)}. If agents without a row are out of play: "
            "--missing-agents idle."
        )


def _sorting(decoder: Decoder, key: int) -> tuple[int, object]:
    """Numbers by size, names in natural order."""
    return (1, natural(decoder.names[key])) if key in decoder.names else (0, key)
