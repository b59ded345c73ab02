"""The cells of a block of rows as NumPy arrays: every value is checked, and errors name its row and its column."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import TableLayout, is_number
from ovmse.data.raw_episode import is_rounded

TILE = 1024
UNIX_UNITS = (1e11, 1e14, 1e17)  # seconds below, then milliseconds, microseconds, nanoseconds: from 1973 to 5138
SKIP = " To leave such episodes out: --broken skip."
PAD_OR_SKIP = f" If this agent never has it: --unlike-agents pad.{SKIP}"
STEP_ADVICE = " If these are times, say how many seconds a step has, such as --time-step 0.5."
LARGEST_ACTION = 2**31
Rows = dict[str, np.ndarray]
"""n rows, by role, without the roles that the table lacks.

row (n,): its number among all files; episode, agent (n,): whole numbers, or texts as objects; step (n,), or seconds;
action (n,): -1 in the row after the last step; reward (n,); obs (n, O), state (n, S): float32, or float64
where that would round; avail (n, A) bool; done, truncated, won (n,) bool.
"""


@dataclasses.dataclass(frozen=True)
class Cells:
    """A record batch, the number of each of its rows, and where these lie in words.

    widths: the length that the lists of a column have had so far. holes: an empty cell of a number is NaN, so
    that its episode is refused later, on its own. absent: the columns of obs that an agent never has: 0 in its rows.
    """

    data: Any
    row: np.ndarray
    place: Callable[[int], str]
    widths: dict[str, int]
    holes: bool = False
    absent: Mapping[Any, frozenset[str]] = dataclasses.field(default_factory=dict)

    def rows(self, lay: TableLayout, act: Callable[["Cells"], np.ndarray], timed: bool = False) -> Rows:
        """All columns, without the rows that hold nothing. act: makes actions of cells; timed: steps are times.

        Raises `UserError` naming row and column.
        """
        cells = self.without_blanks(lay)
        with np.errstate(over="ignore", invalid="ignore"):  # the doctor finds what is not finite
            action = act(cells)
            acts = action >= 0
            rows = {
                "row": cells.row,
                "episode": cells.ids(lay.episode),
                "step": cells.times(lay.step) if timed else cells._whole(lay.step, STEP_ADVICE),
                "agent": (agent := cells.ids(lay.agent)),
                "obs": cells._matrix(lay.obs, agent=agent if cells.absent else None),
                "action": action,
                "reward": cells._reward(lay, acts),
            }
            if lay.state:
                rows["state"] = cells._matrix(lay.state)
            if lay.avail:
                rows["avail"] = cells._matrix(lay.avail, masks=True)
            for role, needed in (("done", acts), ("truncated", acts), ("won", np.zeros_like(acts))):
                if column := getattr(lay, role):
                    rows[role] = cells._flags(column, needed)
        return rows

    def action(self, column: str) -> np.ndarray:
        """The actions, -1 where there is none."""
        values, missing = _numbers(self._column(column), nan_is_null=True)
        action = self._as_int(values, column, f" Continuous actions go into bins: --bins {column}=5.")
        self._refuse((action < 0) | (action >= LARGEST_ACTION), column, "an action, 0 or more", action)
        return np.where(missing, -1, action)

    def places(self, column: str, names: tuple[str, ...], what: str) -> np.ndarray:
        """The place of each text among the names, -1 where there is none."""
        texts = self.texts(column)
        index = {name: i for i, name in enumerate(names)} | {"": -1}
        found = np.array([index.get(text, -2) for text in texts.tolist()], np.int64)
        self._refuse(found == -2, column, f"{what} ({', '.join(names[:12])})", texts)
        return found

    def distinct(self, column: str) -> set[str]:
        """The texts of a column that are not empty. Raises `UserError` for a number among them."""
        texts = self.texts(column)
        found = set(texts.tolist()) - {""}
        numbers = np.array([text for text in found if is_number(text)], object)
        self._refuse(np.isin(texts, numbers), column, "a name, as in the first rows", texts)
        return found

    def real(self, column: str) -> np.ndarray:
        """The numbers of a column as float64, NaN where there is none."""
        values, missing = _numbers(self._column(column))
        return np.where(missing, np.nan, values.astype(np.float64))

    def empty(self, column: str) -> np.ndarray:
        """Where a column has an empty cell, or NaN, (n,)."""
        return np.isnan(self.real(column))

    def times(self, column: str) -> np.ndarray:
        """Times in seconds: ISO 8601, in UTC unless a zone is told, or numbers, from 10^11 on unix milliseconds."""
        import pyarrow.types as types

        kind = self._column(column).type
        if types.is_timestamp(kind):
            values, missing = _numbers(self._column(column).cast("timestamp[us]", safe=False).cast("int64"))
            seconds = values / 1e6
        elif types.is_string(kind) or types.is_large_string(kind):
            texts = self.texts(column)
            missing, seconds = texts == "", np.array([_seconds(text) for text in texts.tolist()])
            self._refuse(np.isnan(seconds) & ~missing, column, "a time such as 2024-05-01T12:00:00", texts)
        else:
            values, missing = _numbers(self._column(column))
            seconds = unix_seconds(values)
        self._refuse(missing | ~np.isfinite(seconds), column, "a time", "nothing")
        return seconds

    def lists(self, column: str) -> tuple[Any, int]:
        """The lists of a column, and the length that all of them have."""
        import pyarrow.compute as compute

        lists = self._column(column)
        self._refuse(lists.is_null().to_numpy(zero_copy_only=False), column, "a list of numbers", "nothing")
        lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        width = self.widths.setdefault(column, int(lengths[0])) if len(lengths) else 1
        self._refuse((lengths != width) | (width == 0), column, f"a list of {width or 'some'} numbers", lengths)
        return lists, width

    def without_blanks(self, lay: TableLayout) -> "Cells":
        """The rows that hold anything: blank lines of text do not."""
        if not all(self.data.column(name).null_count for name in (lay.episode, lay.step, lay.agent)):
            return self
        kept = np.logical_or.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in self.data])
        return dataclasses.replace(self, data=self.data.take(np.flatnonzero(kept)), row=self.row[kept])

    def _column(self, column: str) -> Any:
        import pyarrow.types as types

        values = self.data.column(column)
        return values.dictionary_decode() if types.is_dictionary(values.type) else values

    def _refuse(self, bad: np.ndarray, column: str, expected: str, got: Any, advice: str = "") -> None:
        """Raise the error for the first of the `bad` cells; a row has several in a column of lists."""
        if bad.any():
            first = int(bad.argmax())
            row = int(self.row[first * len(self.row) // len(bad)])
            value = got if isinstance(got, str) else got[first]
            raise UserError(f"{self.place(row)}, column {column!r}: expected {expected}, got {value}.{advice}")

    def ids(self, column: str) -> np.ndarray:
        """Ids of episodes or agents: whole numbers, or texts as objects. Raises `UserError` for an empty one."""
        import pyarrow.types as types

        kind = self.data.column(column).type  # a long text that comes often is held once: never decoded
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if types.is_integer(kind) or types.is_floating(kind):
            return self._whole(column)
        ids = self.texts(column)
        self._refuse(ids == "", column, "a name or a number", "nothing")
        return ids

    def texts(self, column: str) -> np.ndarray:
        """Texts as objects, without blanks around them, "" where there is none, (n,)."""
        import pyarrow as pa
        import pyarrow.types as types

        values = self.data.column(column)
        coded = values if types.is_dictionary(values.type) else values.cast(pa.string()).dictionary_encode()
        texts = np.array([*(str(text or "").strip() for text in coded.dictionary.to_pylist()), ""], object)
        return texts[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]

    def _whole(self, column: str, advice: str = "") -> np.ndarray:
        values, missing = _numbers(self._column(column))
        self._refuse(missing, column, "a whole number", "nothing")
        return self._as_int(values, column, advice)

    def _as_int(self, values: np.ndarray, column: str, advice: str = "") -> np.ndarray:
        whole = values.astype(np.int64)
        bad = whole != values
        if values.dtype.kind == "f":
            bad |= np.abs(values) >= 2**53
        self._refuse(bad, column, "a whole number", values, advice)
        return whole

    def _reward(self, lay: TableLayout, acts: np.ndarray) -> np.ndarray:
        values, missing = _numbers(self._column(lay.reward))
        reward = values.astype(np.float64)
        if self.holes:
            return np.where(missing, np.nan, reward)
        self._refuse(missing & acts, lay.reward, "the reward of the action in this row", "nothing", SKIP)
        unearned = ~missing & ~np.isnan(reward) & ~acts
        self._refuse(unearned, lay.action[0], "the action that this row has a reward for", "nothing", SKIP)
        return reward

    def _flags(self, column: str, needed: np.ndarray) -> np.ndarray:
        """True and false; where nothing is `needed`, an empty cell is false."""
        values, missing = _numbers(self._column(column), nan_is_null=True)
        self._refuse((values != 0) & (values != 1), column, "0, 1, true or false", values)
        self._refuse(missing & needed, column, "true or false", "nothing")
        return values != 0

    def _matrix(self, columns: tuple[str, ...], masks: bool = False, agent: np.ndarray | None = None) -> np.ndarray:
        """Columns side by side, or the lists of one column, shape (n, columns): bool for masks (see `Rows`).

        agent: whose row it is, where agents may lack a column.
        """
        import pyarrow.types as types

        if types.is_nested(self._column(columns[0]).type):
            lists, width = self.lists(columns[0])
            values = self._filled(lists.flatten(), columns[0], masks)
            return values.astype(bool if masks else _precision([values]), copy=False).reshape(-1, width)
        parts = [self._filled(self._column(column), column, masks, self._lacking(column, agent)) for column in columns]
        out: np.ndarray = np.empty((len(self.row), len(parts)), bool if masks else _precision(parts))
        for start in range(0, len(out), TILE):  # in tiles that fit a cache, twice as fast as column by column
            tile = slice(start, start + TILE)
            np.stack([part[tile] for part in parts], axis=1, out=out[tile], casting="same_kind")
        if masks and self.holes:  # a mask has no NaN: where a cell is empty nothing is legal, which is refused later
            out[np.logical_or.reduce([_numbers(self._column(column))[1] for column in columns])] = False
        return out

    def _lacking(self, column: str, agent: np.ndarray | None) -> np.ndarray | bool:
        """Where the row is of an agent that never has the column."""
        if agent is None:
            return False
        lacks = [name for name, columns in self.absent.items() if column in columns]
        return np.isin(agent, np.array(lacks, agent.dtype))

    def _filled(self, cells: Any, column: str, masks: bool, zero: np.ndarray | bool = False) -> np.ndarray:
        """Numbers, or masks as bool; none may be missing but where it is to be `zero`."""
        values, missing = _numbers(cells)
        if masks:
            self._refuse(missing & (not self.holes), column, "a number", "nothing", SKIP)
            self._refuse((values != 0) & (values != 1), column, "0 or 1", values)
            return values != 0
        missing &= ~np.asarray(zero)
        if self.holes and missing.any():
            return np.where(missing, np.nan, values)
        self._refuse(missing, column, "a number", "nothing", PAD_OR_SKIP)
        return np.where(zero & np.isnan(values), 0, values) if np.any(zero) else values


def _numbers(values: Any, nan_is_null: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column, 0 where one is missing, and where one is."""
    import pyarrow as pa

    missing = np.zeros(len(values), bool)
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        values = values.fill_null(pa.scalar(0).cast(values.type))
    known = values.to_numpy(zero_copy_only=False)
    if nan_is_null:
        missing = missing | np.isnan(known)
        known = np.where(missing, 0, known)
    return known, missing


def unix_seconds(values: np.ndarray) -> np.ndarray:
    """Numbers as seconds: those of 10^11 and more are milliseconds, then microseconds and nanoseconds."""
    return values / 1000.0 ** np.searchsorted(UNIX_UNITS, np.abs(values), side="right")


def time_advice(seconds: np.ndarray) -> str:
    """The option for steps that are times, with the usual distance of the readings, (n,), of one agent."""
    apart = np.diff(np.unique(seconds))
    usual = f"{np.median(apart):.6g}" if len(apart) else "SECONDS"
    return f" If these are times, say how many seconds a step has, here mostly {usual}: --time-step {usual}."


def _seconds(text: str) -> float:
    """An ISO 8601 time in seconds since 1970, NaN where it is none."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        return float("nan")
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()


def _precision(parts: list[np.ndarray]) -> type:
    """The type that numbers are handed on in: single precision, unless it would round any of them."""
    return np.float64 if any(map(is_rounded, parts)) else np.float32
