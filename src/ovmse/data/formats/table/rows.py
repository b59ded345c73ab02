"""Rows of a table as NumPy arrays: one row per step and agent, each value checked, faults named by their row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import TableLayout
from ovmse.data.formats.table.files import TableBatch

TILE = 1024
LARGEST_STEP = 2**31


class TableRows(NamedTuple):
    """The columns of n rows.

    row: its number among all files; episode, agent: keys (see `Decoder.names`); action: -1 where the row is the one
    after the last step; obs (n, O) and state (n, S) float32, or float64 where that would round, avail (n, A) bool,
    the rest (n,).
    """

    row: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    agent: np.ndarray
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    state: np.ndarray | None
    avail: np.ndarray | None
    done: np.ndarray | None
    truncated: np.ndarray | None
    won: np.ndarray | None

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "TableRows":
        """The rows with every array changed alike."""
        arrays: list[Any] = [None if array is None else change(array) for array in self]
        return TableRows(*arrays)


def joined(parts: list[TableRows]) -> TableRows:
    """Rows one after the other."""
    if len(parts) == 1:
        return parts[0]
    arrays: list[Any] = [None if same[0] is None else np.concatenate(same) for same in zip(*parts, strict=True)]
    return TableRows(*arrays)


class Decoder:
    """Makes batches of a table `TableRows`. `place` words the place of a row.

    An id that is a number is its own key; the key of a text is its hash. `names` tells the texts.
    """

    def __init__(self, layout: TableLayout, place: Callable[[int], str]) -> None:
        self.layout = layout
        self.names: dict[int, str] = {}
        self._place = place
        self._widths: dict[str, int] = {}

    def name(self, key: int) -> str:
        """The episode or the agent of a key, as the table calls it."""
        return self.names.get(key, str(key))

    def rows(self, batch: TableBatch) -> TableRows:
        """The arrays of a batch, without blank lines. Raises `UserError` naming row and column."""
        with np.errstate(over="ignore", invalid="ignore"):  # the doctor finds what is not finite
            return self._rows(*_without_blanks(batch, self.layout))

    def _rows(self, data: Any, row: np.ndarray) -> TableRows:
        action = self._action(data, row)
        reward = self._reward(data, row, action)
        acts = action >= 0
        lay = self.layout
        return TableRows(
            row=row,
            episode=self._keys(data, row, lay.episode),
            step=self._whole(data, row, lay.step),
            agent=self._keys(data, row, lay.agent),
            obs=self._matrix(data, row, lay.obs),
            action=action,
            reward=reward,
            state=self._matrix(data, row, lay.state) if lay.state else None,
            avail=self._masks(data, row, lay.avail) if lay.avail else None,
            done=None if lay.done is None else self._flags(data, row, lay.done, acts),
            truncated=None if lay.truncated is None else self._flags(data, row, lay.truncated, acts),
            won=None if lay.won is None else self._flags(data, row, lay.won, np.zeros_like(acts)),
        )

    def actions(self, batch: TableBatch) -> np.ndarray:
        """The actions alone, -1 where there is none."""
        return self._action(batch.data, np.arange(batch.first, batch.first + batch.data.num_rows))

    def width(self, batch: TableBatch, columns: tuple[str, ...]) -> int:
        """The length of the lists of a column, by the first one."""
        return self._lists(batch.data.slice(0, 1), np.array([batch.first]), columns[0])[0]

    def _fault(self, row: np.ndarray, bad: np.ndarray, column: str, expected: str, got: Any) -> UserError:
        """The error for the first of the `bad` rows."""
        return UserError(
            f"{self._place(int(row[int(bad.argmax())]))}, column {column!r}: expected {expected}, got {got}."
        )

    def _keys(self, data: Any, row: np.ndarray, column: str) -> np.ndarray:
        import pyarrow.types as types

        values = data.column(column)
        kind = values.type
        if types.is_integer(kind) or types.is_floating(kind):
            return self._whole(data, row, column)
        coded = values if types.is_dictionary(kind) else values.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        usable = np.array([isinstance(text, str) and text != "" for text in texts] + [False], bool)
        bad = ~usable[codes]
        if bad.any():
            raise self._fault(row, bad, column, "a name or a number", "nothing")
        keys = np.array([hash(text) for text in texts] + [0], np.int64)
        self.names.update(zip(keys[:-1].tolist(), texts, strict=True))
        return keys[codes]

    def _whole(self, data: Any, row: np.ndarray, column: str) -> np.ndarray:
        """Whole numbers; none may be missing."""
        values, missing = _numbers(data.column(column))
        if missing.any():
            raise self._fault(row, missing, column, "a whole number", "nothing")
        return self._as_int(values, row, column)

    def _as_int(self, values: np.ndarray, row: np.ndarray, column: str) -> np.ndarray:
        if values.dtype.kind == "f":
            bad = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53))
        else:
            bad = values > np.iinfo(np.int64).max if values.dtype == np.uint64 else np.zeros(len(values), bool)
        if bad.any():
            raise self._fault(row, bad, column, "a whole number", values[int(bad.argmax())])
        return values.astype(np.int64)

    def _action(self, data: Any, row: np.ndarray) -> np.ndarray:
        """The actions, -1 where there is none."""
        column = self.layout.action
        values, missing = _numbers(data.column(column))
        if values.dtype.kind == "f":
            missing = missing | np.isnan(values)
        action = self._as_int(np.where(missing, 0, values), row, column)
        bad = (action < 0) | (action >= LARGEST_STEP)
        if bad.any():
            raise self._fault(row, bad, column, "an action, 0 or more", action[int(bad.argmax())])
        action[missing] = -1
        return action

    def _reward(self, data: Any, row: np.ndarray, action: np.ndarray) -> np.ndarray:
        column = self.layout.reward
        values, missing = _numbers(data.column(column))
        values = values.astype(np.float64)
        bad = missing & (action >= 0)
        if bad.any():
            raise self._fault(row, bad, column, "the reward of the action in this row", "nothing")
        bad = ~missing & ~np.isnan(values) & (action < 0)
        if bad.any():
            raise self._fault(row, bad, self.layout.action, "the action that this row has a reward for", "nothing")
        return values

    def _flags(self, data: Any, row: np.ndarray, column: str, needed: np.ndarray) -> np.ndarray:
        """True and false; where nothing is `needed`, an empty cell is false."""
        values, missing = _numbers(data.column(column))
        if values.dtype.kind == "f":
            missing = missing | np.isnan(values)
        values = np.where(missing, 0, values)
        bad = (values != 0) & (values != 1)
        if bad.any():
            raise self._fault(row, bad, column, "0, 1, true or false", values[int(bad.argmax())])
        bad = missing & needed
        if bad.any():
            raise self._fault(row, bad, column, "true or false", "nothing")
        return values.astype(bool)

    def _masks(self, data: Any, row: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
        return self._matrix(data, row, columns, masks=True)

    def _matrix(self, data: Any, row: np.ndarray, columns: tuple[str, ...], masks: bool = False) -> np.ndarray:
        """Columns side by side, or the lists of one column, shape (n, columns): bool for masks (see `TableRows`)."""
        import pyarrow.types as types

        first = data.column(columns[0])
        if types.is_nested(first.type):
            width, values, missing = self._lists(data, row, columns[0])
            self._check(columns[0], np.repeat(row, width), values, missing, masks)
            return values.astype(bool if masks else _kept([values]), copy=False).reshape(len(row), width)
        parts = []
        for column in columns:
            values, missing = _numbers(data.column(column))
            self._check(column, row, values, missing, masks)
            parts.append(values != 0 if masks else values)
        out: np.ndarray = np.empty((len(row), len(parts)), bool if masks else _kept(parts))
        for start in range(0, len(row), TILE):  # in tiles that fit a cache, twice as fast as column by column
            tile = slice(start, start + TILE)
            np.stack([part[tile] for part in parts], axis=1, out=out[tile], casting="same_kind")
        return out

    def _check(self, column: str, row: np.ndarray, values: np.ndarray, missing: np.ndarray, masks: bool) -> None:
        if missing.any():
            raise self._fault(row, missing, column, "a number", "nothing")
        if masks and values.dtype.kind != "b":
            bad = (values != 0) & (values != 1)
            if bad.any():
                raise self._fault(row, bad, column, "0 or 1", values[int(bad.argmax())])

    def _lists(self, data: Any, row: np.ndarray, column: str) -> tuple[int, np.ndarray, np.ndarray]:
        """The width of the lists, their values one after the other, and which of these are missing."""
        import pyarrow.compute as compute

        lists = data.column(column)
        empty = lists.is_null().to_numpy(zero_copy_only=False)
        if empty.any():
            raise self._fault(row, empty, column, "a list of numbers", "nothing")
        lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        width = self._widths.setdefault(column, int(lengths[0]) if len(lengths) else 0)
        bad = lengths != width
        if bad.any() or width == 0:
            raise self._fault(row, bad, column, f"a list of {width or 'some'} numbers", int(lengths[int(bad.argmax())]))
        return width, *_numbers(lists.flatten())


def _kept(parts: list[np.ndarray]) -> type:
    """The type that numbers are handed on in: single precision, unless it would round any of them."""
    wide = (part for part in parts if part.dtype.kind in "fiu" and part.dtype.itemsize >= 4 and part.dtype != "f4")
    return np.float64 if any(map(_rounds, wide)) else np.float32


def _rounds(values: np.ndarray) -> bool:
    """Whether single precision would change a number; in tiles, as the first ones mostly tell."""
    for start in range(0, len(values), TILE):
        tile = values[start : start + TILE]
        single = tile.astype(np.float32)
        if ((single != tile) & ~np.isnan(single)).any():
            return True
    return False


def _without_blanks(batch: TableBatch, lay: TableLayout) -> tuple[Any, np.ndarray]:
    """The rows that hold anything, and their numbers: blank lines of text do not."""
    data = batch.data
    row = np.arange(batch.first, batch.first + data.num_rows)
    ids = [data.column(name) for name in (lay.episode, lay.step, lay.agent)]
    if all(column.null_count for column in ids):
        import pyarrow as pa

        empty = [column.is_null().to_numpy(zero_copy_only=False) for column in data.columns]
        kept = ~np.logical_and.reduce(empty)
        return data.filter(pa.array(kept)), row[kept]
    return data, row


def _numbers(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column, 0 where one is missing, and where one is."""
    import pyarrow.types as types

    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if types.is_null(values.type) or not values.null_count:
        missing = np.zeros(len(values), bool)
        return values.to_numpy(zero_copy_only=False), missing
    missing = values.is_null().to_numpy(zero_copy_only=False)
    zero = False if types.is_boolean(values.type) else 0
    return values.fill_null(zero).to_numpy(zero_copy_only=False), missing
