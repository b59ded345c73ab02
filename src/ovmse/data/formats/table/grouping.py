"""Rows of whole episodes become episodes: sorted by step and agent, laid out as arrays.

Whole blocks of episodes at once. Axes: n rows, E episodes, M steps of all of them (a final row counts as one), N
agents, S state features.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.padding import NO_OP, out_of_play
from ovmse.data.formats.table.cells import SKIP, Rows, time_advice, unix_seconds
from ovmse.data.formats.table.columns import natural
from ovmse.data.formats.table.files import Row, Table
from ovmse.data.formats.table.mending import bridged, counted
from ovmse.data.formats.table.rules import TableRules
from ovmse.data.formats.table.whole import boundaries
from ovmse.data.raw_episode import RawEpisode, unusable

MOST_PLACES = 64  # per row, where agents may be absent
GAPS = {
    "split": "steps are missing: the episode was split there, and what comes before counts as cut",
    "repeat": "steps are missing: the step before stands for each of them, with reward 0",
}


class Team(NamedTuple):
    """What the first episode says: the index of every agent, and whether steps count from 0 or from 1."""

    agents: dict[Any, int]
    start: int


@dataclass(frozen=True)
class Grouping:
    """How rows become episodes. holes: an episode with a fault is handed on as one that cannot be used.

    legal: the actions that each agent has at all, (N, A), where there are no masks; None: all of them.
    """

    table: Table
    rules: TableRules
    team: Team
    n_actions: int
    legal: np.ndarray | None = None
    holes: bool = False

    def episodes(self, wholes: Iterable[Rows]) -> Iterator[RawEpisode]:
        """The episodes in rows of whole ones. Raises `UserError` that names the row, episode, step and agent."""
        for rows in wholes:
            try:
                yield from self._episodes(rows)
            except UserError:
                if not self.holes:
                    raise
                yield from self._one_by_one(rows)

    def _episodes(self, rows: Rows) -> list[RawEpisode]:
        if self.rules.time_step is not None:
            rows = counted(rows, self.rules.time_step)
        if self.rules.gaps != "refuse":
            rows = bridged(rows, self.rules.gaps, self.team.start, self.table)
        return list(_Block(rows, self).episodes())

    def _one_by_one(self, rows: Rows) -> Iterator[RawEpisode]:
        begins = [*np.flatnonzero(boundaries(rows)).tolist(), len(rows["row"])]
        for first, end in itertools.pairwise(begins):
            try:
                yield from self._episodes({role: values[first:end] for role, values in rows.items()})
            except UserError as error:
                yield unusable(str(error))


def team_of(rows: Rows, timed: bool) -> Team:
    """The agents of the first episode by their numbers, or in the natural order of their names; timed: steps are
    counted from 0 afterwards."""
    first = rows["episode"] == rows["episode"][0]
    names = set(rows["agent"][first].tolist())
    order = sorted(names, key=lambda name: (0, name) if isinstance(name, int) else (1, natural(name)))
    return Team({name: i for i, name in enumerate(order)}, 0 if timed else int(rows["step"][first].min()))


class _Block:
    """The rows of whole episodes, and their places.

    grid: the row of every step and agent, (M, N), -1 where an agent has none; present: where it has one. begin, end:
    the steps of every episode in it, (E,); cells: the rows by step and agent, arbitrary ones where none is present.
    """

    def __init__(self, rows: Rows, how: Grouping) -> None:
        """Raises `UserError` for gaps, rows that come twice, absent agents, and others than the first episode's."""
        self.rows, self.how, self.table, self.team = rows, how, how.table, how.team
        self.idle = how.rules.missing_agents == "idle"
        agent = self._agents()
        new = boundaries(rows)
        self.first = np.flatnonzero(new)
        order = np.lexsort((agent, rows["step"], np.cumsum(new)))
        agent, step = agent[order], rows["step"][order]
        jump = np.where(new[1:], 1, np.diff(step))
        self._check_steps(step, jump)
        place = np.concatenate([[0], np.cumsum(jump)])
        self._check_present(place, agent, order)
        self._check_twice(order[:-1], order[1:], (jump == 0) & (agent[1:] == agent[:-1]))
        self.grid = np.full((place[-1] + 1, len(self.team.agents)), -1)
        self.grid[place, agent] = order
        self.present = self.grid >= 0
        self.begin = place[self.first]
        self.end = np.append(self.begin[1:], len(self.grid))
        self.cells = {role: values[self.grid] for role, values in rows.items()}

    def _fault(self, row: Row, text: str) -> UserError:
        return UserError(f"{self.table.place(self.rows['row'][row])}: {text}")

    def _named(self, row: Row) -> str:
        return f"episode {self.rows['episode'][row]}, step {self.rows['step'][row]}, agent {self.rows['agent'][row]}"

    def _agents(self) -> np.ndarray:
        index = np.array([self.team.agents.get(name, -1) for name in self.rows["agent"].tolist()])
        if index.min() < 0:
            row = int(index.argmin())
            known = ", ".join(map(str, list(self.team.agents)[:12]))
            raise self._fault(
                row,
                f"{self._named(row)}: the first episode has {known}. A table holds the episodes of one team: split it, "
                "or name agents alike in all episodes. Where rows of an episode lie apart, as in a file for each "
                "agent: --unsorted sort.",
            )
        return index

    def _check_steps(self, step: np.ndarray, jump: np.ndarray) -> None:
        """Steps, (n,) in order, begin as in the first episode, and have no gaps."""
        start = self.team.start
        bad = self.first[(step[self.first] != start) | (start not in (0, 1))]
        if len(bad):
            expected = f"{start}, as in the first episode" if start in (0, 1) else "0 or 1"
            raise self._fault(
                bad[0],
                f"episode {self.rows['episode'][bad[0]]}: expected its first step to be {expected}, got "
                f"{step[bad[0]]}. Count steps within the episode.{self._time_advice(bad[0])}",
            )
        gaps = np.flatnonzero((jump != 0) & (jump != 1))
        if len(gaps):
            before, after = step[gaps[0]], step[gaps[0] + 1]
            begin = self.first[self.first <= gaps[0]][-1]
            raise self._fault(
                begin,
                f"episode {self.rows['episode'][begin]}: step {before + 1} is missing: step {before} is followed by "
                f"{after}. Split episodes there, or repeat the step before: --gaps split or --gaps repeat.",
            )

    def _time_advice(self, first: Row) -> str:
        """What to do where the steps of the episode that begins in this row are times."""
        same = [self.rows[role] == self.rows[role][first] for role in ("episode", "agent")]
        return time_advice(unix_seconds(self.rows["step"][same[0] & same[1]]))

    def _check_twice(self, row: np.ndarray, following: np.ndarray, twice: np.ndarray) -> None:
        """Refuse rows whose step and agent the following row in order has again."""
        if twice.any():
            one, other = row[twice][0], following[twice][0]
            again = self.table.place(self.rows["row"][other])
            raise self._fault(one, f"{self._named(one)} comes again at {again}. Keep one row per step and agent.")

    def _check_present(self, place: np.ndarray, agent: np.ndarray, order: np.ndarray) -> None:
        """Refuse agents that have no row, and agents so many that their places would not fit in memory."""
        n = len(self.team.agents)
        places = (int(place[-1]) + 1) * n
        if self.idle and places > MOST_PLACES * len(order):
            raise self._fault(
                0, f"{n} agents, and most have no row at most steps. Name agents by their role in the team."
            )
        if not self.idle and len(order) < places:
            here = place == (np.bincount(place) < n).argmax()
            absent = next(name for name, i in self.team.agents.items() if i not in agent[here])
            row = order[here].min()
            raise self._fault(
                row,
                f"episode {self.rows['episode'][row]}, step {self.rows['step'][row]}: no row of agent {absent}. If "
                f"agents without a row are out of play: --missing-agents idle.{SKIP}",
            )

    def episodes(self) -> Iterator[RawEpisode]:
        """The episodes."""
        length = self._lengths()
        state = self._state() if "state" in self.cells else None
        terminal = self._terminal(length)
        if self.how.legal is not None and "avail" not in self.cells:
            self.cells["avail"] = np.repeat(self.how.legal[None], len(self.grid), axis=0)
        if self.idle:
            self._stand_idle(self.how.n_actions)
        bridge = GAPS.get(self.how.rules.gaps, "")
        cells, row, name = self.cells, self.rows["row"], self.rows["episode"]
        lasts = np.append(self.first[1:], len(row)) - 1
        for first, last, begin, end, steps in zip(self.first, lasts, self.begin, self.end, length, strict=True):
            seen, acts = slice(begin, end), slice(begin, begin + steps)
            yield RawEpisode(
                obs=cells["obs"][seen],
                action=cells["action"][acts],
                reward=cells["reward"][acts],
                terminal=terminal[acts],
                state=None if state is None else state[seen],
                avail=cells["avail"][seen] if "avail" in cells else None,
                won=bool(self.rows["won"][first : last + 1].any()) if "won" in self.rows else None,
                where=f"{self.table.span(row[first], row[last])}: episode {name[first]}",
                noted=(bridge,) if "mended" in self.rows and self.rows["mended"][first] else (),
            )

    def _lengths(self) -> np.ndarray:
        """The steps of every episode, (E,), without the row after the last one, in which nobody acts."""
        rests = (self.cells["action"] < 0) & self.present
        final = np.all(rests == self.present, axis=1)[self.end - 1]
        rests[self.end[final] - 1] = False
        if rests.any():
            raise self._fault(
                self.grid[rests][0],
                "no action: expected one, as the others act, or more steps follow. Only the row after the last step is "
                f"without action and reward, for all agents.{SKIP}",
            )
        length = self.end - self.begin - final
        if not length.all():
            raise self._fault(self.first[length == 0][0], "an episode without steps: nobody acts in it. Leave it out.")
        return length

    def _state(self) -> np.ndarray:
        """The state of every step, (M, S), that the agents who are present tell alike."""
        state = self.cells["state"]
        one = state[np.arange(len(state)), self.present.argmax(axis=1)]
        alike = (state == one[:, None]) | (np.isnan(state) & np.isnan(one[:, None]))
        differ = ~alike & self.present[..., None]
        if differ.any():
            step, agent, feature = np.argwhere(differ)[0]
            raise self._fault(
                self.grid[step, agent],
                f"the state differs between the agents of a step: feature {feature} is {one[step, feature]} and "
                f"{state[step, agent, feature]}. Put what differs into obs.",
            )
        return one

    def _terminal(self, length: np.ndarray) -> np.ndarray:
        """Whether the task ended with each step, (M,): for all agents that are present, and nothing was cut off."""
        absent, last = ~self.present, self.begin + length - 1
        done = np.all(self._flags("done", last) | absent, axis=1)
        truncated = self._flags("truncated", last)
        early = np.all(truncated | absent, axis=1)
        early[last] = False
        if early.any():
            raise self._fault(
                self.grid[early][0].max(),
                "truncated before the last step of its episode. Give every episode its own id.",
            )
        return done & ~truncated.any(axis=1)

    def _flags(self, role: str, last: np.ndarray) -> np.ndarray:
        """Flags of the agents that are present, (M, N): what final rows say counts for the `last` steps before them."""
        if role not in self.cells:
            return np.zeros(self.grid.shape, bool)
        flags = self.cells[role] & self.present
        final = self.end - 1
        flags[last] |= flags[final]
        flags[final[final > last]] = False
        return flags

    def _stand_idle(self, n_actions: int) -> None:
        """Absent agents are out of play (`core.padding`), and share the reward that all others agree on."""
        absent, cells = ~self.present, self.cells
        avail = cells.get("avail", np.ones((*absent.shape, n_actions), bool))
        cells["obs"], cells["avail"] = out_of_play(cells["obs"], avail, absent)
        agreed = cells["reward"][np.arange(len(absent)), self.present.argmax(axis=1)]
        agrees = np.all((cells["reward"] == agreed[:, None]) | absent | (cells["action"] < 0), axis=1)
        together = np.repeat(np.logical_and.reduceat(agrees, self.begin), self.end - self.begin)
        cells["reward"] = np.where(absent, np.where(together, agreed, 0.0)[:, None], cells["reward"])
        cells["action"][absent] = NO_OP
