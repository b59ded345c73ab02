"""Rows become episodes: split where the episode changes, sorted by step and agent, laid out as arrays.

Axes: n rows of an episode, M steps of it (a final row counts as one), T without that, N agents, S state features.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.cells import Rows
from ovmse.data.formats.table.columns import natural
from ovmse.data.formats.table.files import Row, Table
from ovmse.data.raw_episode import RawEpisode

MOST_PLACES = 64  # for every row and agent of an episode, where agents may be absent


class Team(NamedTuple):
    """What the first episode says: the index of every agent, and whether steps count from 0 or from 1."""

    agents: dict[Any, int]
    start: int


def episodes(blocks: Iterable[tuple[int, Rows]], table: Table, n_actions: int, idle: bool) -> Iterator[RawEpisode]:
    """The episodes in blocks of rows, each with the index of its file, handed on as they become complete.

    idle: agents may be absent from a step. Raises `UserError` that names the row, episode, step and agent.
    """
    team: Team | None = None
    for rows in _by_episode(blocks, table):
        team = team or _team(rows)
        yield _Episode(rows, table, team).laid_out(n_actions if idle else None)


def _by_episode(blocks: Iterable[tuple[int, Rows]], table: Table) -> Iterator[Rows]:
    """The rows of each episode; those of the last one in a block wait for what follows."""
    waiting: list[Rows] = []
    seen: dict[Any, int] = {}
    last_file = None
    for file, rows in blocks:
        names = rows["episode"]
        if not len(names):
            continue
        if file != last_file:  # a file numbers its own episodes, unless it goes on in the middle of one
            last_file = file
            if waiting and not _goes_on(waiting, rows):
                yield _joined(waiting)
                waiting = []
            seen = {names[0]: seen[names[0]]} if waiting else {}
        for begin, end in pairwise([0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]):
            name, row = names[begin], rows["row"][begin]
            if waiting and waiting[0]["episode"][0] != name:
                yield _joined(waiting)
                waiting = []
            if not waiting and name in seen:
                raise UserError(
                    f"{table.place(row)}: episode {name} comes back: it began at {table.place(seen[name])}, and other "
                    "episodes lie between. Sort the table by episode, and give every episode its own id."
                )
            seen.setdefault(name, row)
            waiting.append({role: values[begin:end] for role, values in rows.items()})
    if waiting:
        yield _joined(waiting)


def _goes_on(waiting: list[Rows], rows: Rows) -> bool:
    """Whether the first episode of a file is the one that waits: it has the same id, and later steps."""
    name = rows["episode"][0]
    first = min(part["step"].min() for part in waiting)
    return bool(name == waiting[0]["episode"][0] and rows["step"][rows["episode"] == name].min() > first)


def _joined(parts: list[Rows]) -> Rows:
    """Rows one after the other."""
    return {role: np.concatenate([part[role] for part in parts]) for role in parts[0]} if parts[1:] else parts[0]


def _team(rows: Rows) -> Team:
    """The agents by their numbers, or in the natural order of their names."""
    names = sorted(
        set(rows["agent"].tolist()), key=lambda name: (0, name) if isinstance(name, int) else (1, natural(name))
    )
    return Team({name: i for i, name in enumerate(names)}, int(rows["step"].min()))


@dataclasses.dataclass(frozen=True)
class _Episode:
    """All rows of one episode, in any order."""

    rows: Rows
    table: Table
    team: Team

    def laid_out(self, idle: int | None) -> RawEpisode:
        """The arrays of the episode. idle: the number of actions, where agents may be absent."""
        grid = self._grid(idle is not None)
        cells = {role: values[grid] for role, values in self.rows.items()}  # those of absent agents are arbitrary
        length = self._length(cells, grid)
        state = self._state(cells["state"], grid) if "state" in cells else None
        if idle is not None:
            _stand_idle(cells, grid < 0, idle)
        row = self.rows["row"]
        return RawEpisode(
            obs=cells["obs"],
            action=cells["action"][:length],
            reward=cells["reward"][:length],
            terminal=self._terminal(cells, grid, length),
            state=state,
            avail=cells.get("avail"),
            won=bool(self.rows["won"].any()) if "won" in self.rows else None,
            where=f"{self.table.span(row[0], row[-1])}: {self._named()}",
        )

    def _named(self, row: Row | None = None) -> str:
        """The episode in words, and the step and agent of one of its rows."""
        name = f"episode {self.rows['episode'][0]}"
        return name if row is None else f"{name}, step {self.rows['step'][row]}, agent {self.rows['agent'][row]}"

    def _fault(self, row: Row, text: str) -> UserError:
        return UserError(f"{self.table.place(self.rows['row'][row])}: {text}")

    def _grid(self, idle: bool) -> np.ndarray:
        """The row of every step and agent, (M, N), -1 where an agent has none.

        Raises `UserError` for gaps, rows that come twice, absent agents, and other agents than the first episode's.
        """
        agent = np.array([self.team.agents.get(name, -1) for name in self.rows["agent"].tolist()])
        if agent.min() < 0:
            row = int(agent.argmin())
            known = ", ".join(map(str, list(self.team.agents)[:12]))
            raise self._fault(
                row,
                f"{self._named(row)}: the first episode has {known}. A table holds the episodes of one team: split it, "
                "or name agents alike in all episodes.",
            )
        order = np.lexsort((agent, self.rows["step"]))
        step, agent = self.rows["step"][order], agent[order]
        self._check_steps(step)
        twice = np.flatnonzero((np.diff(step) == 0) & (np.diff(agent) == 0))
        if len(twice):
            row, other = order[twice[0]], order[twice[0] + 1]
            again = self.table.place(self.rows["row"][other])
            raise self._fault(row, f"{self._named(row)} comes again at {again}. Keep one row per step and agent.")
        places = step - self.team.start
        self._check_present(places, agent, order, idle)
        grid = np.full((places[-1] + 1, len(self.team.agents)), -1)
        grid[places, agent] = order
        return grid

    def _check_steps(self, step: np.ndarray) -> None:
        """Steps, (n,) in order, begin as in the first episode and have no gaps."""
        start = self.team.start
        if step[0] != start or start not in (0, 1):
            expected = f"{start}, as in the first episode" if start in (0, 1) else "0 or 1"
            raise self._fault(
                0,
                f"{self._named()}: expected its first step to be {expected}, got {step[0]}. Count steps within the "
                "episode.",
            )
        gaps = np.flatnonzero(np.diff(step) > 1)
        if len(gaps):
            before, after = step[gaps[0]], step[gaps[0] + 1]
            raise self._fault(
                0,
                f"{self._named()}: step {before + 1} is missing: step {before} is followed by {after}. Steps have no "
                "gaps.",
            )

    def _check_present(self, places: np.ndarray, agent: np.ndarray, order: np.ndarray, idle: bool) -> None:
        """Refuse agents that have no row, and agents so many that their places would not fit in memory."""
        steps, n = int(places[-1]) + 1, len(self.team.agents)
        if idle and steps * n > MOST_PLACES * (len(places) + n):
            raise self._fault(
                0, f"{n} agents, and most have no row at most steps. Name agents by their role in the team."
            )
        if not idle and len(places) < steps * n:
            first = int((np.bincount(places) < n).argmax())
            here = places == first
            absent = next(name for name, i in self.team.agents.items() if i not in agent[here])
            raise self._fault(
                int(order[here].min()),
                f"{self._named()}, step {first + self.team.start}: no row of agent {absent}. If agents without a row "
                "are out of play: --missing-agents idle.",
            )

    def _length(self, cells: Rows, grid: np.ndarray) -> int:
        """T, without the row after the last step, in which nobody acts."""
        present = grid >= 0
        rests = (cells["action"] < 0) & present
        length = len(grid) - int((rests[-1] == present[-1]).all())
        if rests[:length].any():
            raise self._fault(
                grid[:length][rests[:length]][0],
                "no action: expected one, as the others act, or more steps follow. Only the row after the last step is "
                "without action and reward, for all agents.",
            )
        if length == 0:
            raise self._fault(0, "an episode without steps: nobody acts in it. Leave it out.")
        return length

    def _state(self, state: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The state of every step, (M, S), that the agents who are present tell alike."""
        one = state[np.arange(len(state)), (grid >= 0).argmax(axis=1)]
        alike = (state == one[:, None]) | (np.isnan(state) & np.isnan(one[:, None]))
        differ = ~alike & (grid >= 0)[..., None]
        if differ.any():
            step, agent, feature = np.argwhere(differ)[0]
            raise self._fault(
                grid[step, agent],
                f"the state differs between the agents of a step: feature {feature} is {one[step, feature]} and "
                f"{state[step, agent, feature]}. Put what differs into obs.",
            )
        return one

    def _terminal(self, cells: Rows, grid: np.ndarray, length: int) -> np.ndarray:
        """Whether the task ended with each step, (T,): for all agents that are present, and nothing was cut off."""
        absent = grid[:length] < 0

        def of_steps(role: str) -> np.ndarray:
            """Flags, (T, N); what the row after the last step says, counts for the last step."""
            flags = cells[role] & (grid >= 0)
            flags[length - 1] |= flags[-1]
            return flags[:length]

        done = np.all(of_steps("done") | absent, axis=1) if "done" in cells else np.zeros(length, bool)
        if "truncated" not in cells:
            return done
        truncated = of_steps("truncated")
        early = np.flatnonzero(np.all(truncated | absent, axis=1)[:-1])
        if len(early):
            raise self._fault(
                grid[early[0]].max(),
                "truncated before the last step of its episode. Give every episode its own id.",
            )
        return done & ~np.any(truncated, axis=1)


def _stand_idle(cells: Rows, absent: np.ndarray, n_actions: int) -> None:
    """Absent agents see zeros, take action 0, the only legal one, and share the reward that all others agree on."""
    avail = cells.get("avail", np.ones((*absent.shape, n_actions), bool))
    cells["avail"] = np.where(absent[..., None], np.arange(n_actions) == 0, avail)
    cells["obs"][absent] = 0
    agreed = cells["reward"][np.arange(len(absent)), absent.argmin(axis=1)][:, None]
    agrees = ((cells["reward"] == agreed) | absent | (cells["action"] < 0)).all()
    cells["reward"] = np.where(absent, agreed if agrees else 0.0, cells["reward"])
    cells["action"][absent] = 0
