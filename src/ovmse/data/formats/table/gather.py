"""Rows become episodes: collected until an episode is whole, and handed on as `RawEpisode`.

Axes: M steps of all episodes of a block (a final row counts as one), N agents, A actions.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.grid import Grid, Placer
from ovmse.data.formats.table.rows import Decoder, TableRows, joined
from ovmse.data.raw_episode import RawEpisode


class Gatherer:
    """Takes rows in the order of the table, yields the episodes that are complete."""

    def __init__(self, decoder: Decoder, span: Callable[[int, int], str], *, n_actions: int, idle: bool) -> None:
        """span words the place of rows; idle: agents may be absent from a step."""
        self._decoder, self._span = decoder, span
        self._n_actions, self._idle = n_actions, idle
        self._placer = Placer(decoder, self._place, idle)
        self._pending: list[TableRows] = []
        self._seen: dict[int, int] = {}

    def _place(self, row: int) -> str:
        return self._span(row, row)

    def feed(self, rows: TableRows, starts_file: bool) -> Iterator[RawEpisode]:
        """The episodes that these rows complete; the last one waits for what follows."""
        if not len(rows.row):
            return
        if starts_file:
            yield from self._next_file(rows)
        begins = (np.flatnonzero(np.diff(rows.episode)) + 1).tolist()
        if self._pending and self._pending[-1].episode[-1] == rows.episode[0]:
            self._note(rows, begins)
        else:
            yield from self.flush()
            self._note(rows, [0, *begins])
        if not begins:
            self._pending.append(rows)
            return
        whole = joined([*self._pending, rows.each(lambda array: array[: begins[-1]])])
        self._pending = [rows.each(lambda array: array[begins[-1] :].copy())]
        yield from self._episodes(whole)

    def flush(self) -> Iterator[RawEpisode]:
        """The episode that waits."""
        pending, self._pending = self._pending, []
        if pending:
            yield from self._episodes(joined(pending))

    def _next_file(self, rows: TableRows) -> Iterator[RawEpisode]:
        """A file numbers its own episodes, unless it goes on in the middle of one."""
        key = int(rows.episode[0])
        others = np.flatnonzero(rows.episode != key)
        steps = rows.step[: others[0]] if len(others) else rows.step
        goes_on = bool(self._pending) and int(self._pending[-1].episode[-1]) == key
        if goes_on and steps.min() > min(part.step.min() for part in self._pending):
            self._seen = {key: self._seen[key]}
        else:
            self._seen = {}
            yield from self.flush()

    def _note(self, rows: TableRows, begins: list[int]) -> None:
        """Refuse an episode that comes back."""
        for key, row in zip(rows.episode[begins].tolist(), rows.row[begins].tolist(), strict=True):
            if key in self._seen:
                raise UserError(
                    f"{self._place(row)}: episode {self._decoder.name(key)} comes back: it began at "
                    f"{self._place(self._seen[key])}, and other episodes lie between. Sort the table by episode, and "
                    "give every episode its own id."
                )
            self._seen[key] = row

    def _episodes(self, rows: TableRows) -> Iterator[RawEpisode]:
        """The episodes of rows that are whole."""
        grid = self._placer.grid(rows)
        cells = _cells(rows, grid)
        length = self._lengths(rows, grid, cells)
        if cells.state is not None:
            self._check_state(rows, grid, cells.state)
        if self._idle:
            cells = _idle(cells, grid, self._n_actions)
        state = None if cells.state is None else cells.state[:, 0]
        terminal = self._terminal(rows, grid, cells, length)
        won = None if cells.won is None else np.asarray(cells.won.any(axis=1))
        ends = np.cumsum(grid.steps).tolist()
        lasts = [*grid.first[1:].tolist(), len(rows.row)]
        for first, last, end, rows_of, steps in zip(
            grid.first.tolist(), lasts, ends, grid.steps.tolist(), length.tolist(), strict=True
        ):
            seen, acts = slice(end - rows_of, end), slice(end - rows_of, end - rows_of + steps)
            place = self._span(int(rows.row[first]), int(rows.row[last - 1]))
            yield RawEpisode(
                obs=cells.obs[seen],
                action=cells.action[acts],
                reward=cells.reward[acts],
                terminal=terminal[acts],
                state=None if state is None else state[seen],
                avail=None if cells.avail is None else cells.avail[seen],
                won=None if won is None else bool(won[seen].any()),
                where=f"{place}: episode {self._decoder.name(int(rows.episode[first]))}",
            )

    def _lengths(self, rows: TableRows, grid: Grid, cells: TableRows) -> np.ndarray:
        """The steps of every episode, (E,), without the row after the last one, in which nobody acts."""
        rests = (cells.action < 0) & grid.present
        final = np.asarray((rests == grid.present).all(axis=1))
        bad = np.asarray(rests & ~final[:, None])
        last = np.cumsum(grid.steps) - 1
        early = final.copy()
        early[last] = False
        bad |= early[:, None] & rests
        if bad.any():
            row = int(rows.row[grid.order[int(bad.argmax())]])
            raise UserError(
                f"{self._place(row)}: no action: expected one, as the others act, or more steps follow. Only the row "
                "after the last step is without action and reward, for all agents."
            )
        length = grid.steps - final[last]
        if (length == 0).any():
            row = int(rows.row[grid.first[int((length == 0).argmax())]])
            raise UserError(f"{self._place(row)}: an episode without steps: nobody acts in it. Leave it out.")
        return length

    def _check_state(self, rows: TableRows, grid: Grid, state: np.ndarray) -> None:
        """Agents that are present tell the same state."""
        one = state[np.arange(len(state)), grid.present.argmax(axis=1)][:, None]
        differ = (state != one) & ~(np.isnan(state) & np.isnan(one)) & grid.present[..., None]
        if differ.any():
            step, agent, feature = np.argwhere(differ)[0]
            row = int(rows.row[grid.order.reshape(grid.present.shape)[step, agent]])
            raise UserError(
                f"{self._place(row)}: the state differs between the agents of a step: feature {feature} is "
                f"{one[step, 0, feature]} and {state[step, agent, feature]}. Put what differs into obs."
            )

    def _terminal(self, rows: TableRows, grid: Grid, cells: TableRows, length: np.ndarray) -> np.ndarray:
        """Whether the task ended with each step, (M,): for all agents that are present, and nothing was cut off.

        What the row after the last step says, counts for the last step.
        """
        absent = ~grid.present
        if cells.done is None:
            done = np.zeros(len(absent), bool)
        else:
            done = np.all(_of_last_steps(cells.done, grid, length) | absent, axis=1)
        if cells.truncated is None:
            return done
        truncated = _of_last_steps(cells.truncated, grid, length)
        early = (truncated | absent).all(axis=1)
        early[np.cumsum(grid.steps) - grid.steps + length - 1] = False
        if early.any():
            row = int(rows.row[grid.order.reshape(absent.shape)[int(early.argmax())].max()])
            raise UserError(
                f"{self._place(row)}: truncated before the last step of its episode. Give every episode its own id."
            )
        return done & ~truncated.any(axis=1)


def _of_last_steps(flags: np.ndarray, grid: Grid, length: np.ndarray) -> np.ndarray:
    """Flags of the agents that are present, (M, N), those of final rows moved to the steps before them."""
    flags = flags & grid.present
    final = np.cumsum(grid.steps)[length < grid.steps] - 1
    flags[final - 1] |= flags[final]
    flags[final] = False
    return flags


def _cells(rows: TableRows, grid: Grid) -> TableRows:
    """The rows in their places: arrays with the axes (M, N) first. What stands in for absent agents is arbitrary."""
    if not np.array_equal(grid.order, np.arange(len(rows.row))):
        rows = rows.each(lambda array: array[grid.order])
    return rows.each(lambda array: array.reshape(*grid.present.shape, *array.shape[1:]))


def _idle(cells: TableRows, grid: Grid, n_actions: int) -> TableRows:
    """Absent agents see zeros, take action 0, the only legal one, and share the reward that all others agree on."""
    absent = ~grid.present
    avail = np.ones((*absent.shape, n_actions), bool) if cells.avail is None else cells.avail
    avail = np.where(absent[..., None], np.arange(n_actions) == 0, avail)
    obs = np.where(absent[..., None], np.float32(0), cells.obs)
    one = np.arange(len(absent)), grid.present.argmax(axis=1)
    agreed = cells.reward[one]
    agrees = ((cells.reward == agreed[:, None]) | absent | (cells.action < 0)).all(axis=1)
    begins = np.cumsum(grid.steps) - grid.steps
    together = np.repeat(np.logical_and.reduceat(agrees, begins), grid.steps)
    reward = np.where(absent, np.where(together, agreed, 0.0)[:, None], cells.reward)
    changes = {"obs": obs, "avail": avail, "reward": reward, "action": np.where(absent, 0, cells.action)}
    if cells.state is not None:
        changes["state"] = np.repeat(cells.state[one][:, None], absent.shape[1], axis=1)
    if cells.won is not None:
        changes["won"] = cells.won & ~absent
    return cells._replace(**changes)
