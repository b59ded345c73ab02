"""The cells of a block of rows as NumPy arrays: every value is checked, and errors name its row and its column."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import TableLayout
from ovmse.data.raw_episode import is_rounded

TILE = 1024
LARGEST_ACTION = 2**31
Rows = dict[str, np.ndarray]
"""n rows, by role, without the roles that the table lacks.

row (n,): its number among all files; episode, agent (n,): whole numbers, or texts as objects; step (n,); action (n,):
-1 in the row after the last step; reward (n,); obs (n, O), state (n, S): float32, or float64 where that would round;
avail (n, A) bool; done, truncated, won (n,) bool.
"""


@dataclasses.dataclass(frozen=True)
class Cells:
    """A record batch, the number of each of its rows, and where these lie in words.

    widths: the length that the lists of a column have had so far.
    """

    data: Any
    row: np.ndarray
    place: Callable[[int], str]
    widths: dict[str, int]

    def rows(self, lay: TableLayout) -> Rows:
        """All columns, without the rows that hold nothing. Raises `UserError` naming row and column."""
        cells = self._without_blanks(lay)
        with np.errstate(over="ignore", invalid="ignore"):  # the doctor finds what is not finite
            action = cells.action(lay.action)
            acts = action >= 0
            rows = {
                "row": cells.row,
                "episode": cells._ids(lay.episode),
                "step": cells._whole(lay.step),
                "agent": cells._ids(lay.agent),
                "obs": cells._matrix(lay.obs),
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
        action = self._as_int(values, column)
        self._refuse((action < 0) | (action >= LARGEST_ACTION), column, "an action, 0 or more", action)
        return np.where(missing, -1, action)

    def lists(self, column: str) -> tuple[Any, int]:
        """The lists of a column, and the length that all of them have."""
        import pyarrow.compute as compute

        lists = self._column(column)
        self._refuse(lists.is_null().to_numpy(zero_copy_only=False), column, "a list of numbers", "nothing")
        lengths = compute.list_value_length(lists).to_numpy(zero_copy_only=False)
        width = self.widths.setdefault(column, int(lengths[0])) if len(lengths) else 1
        self._refuse((lengths != width) | (width == 0), column, f"a list of {width or 'some'} numbers", lengths)
        return lists, width

    def _without_blanks(self, lay: TableLayout) -> "Cells":
        """The rows that hold anything: blank lines of text do not."""
        if not all(self.data.column(name).null_count for name in (lay.episode, lay.step, lay.agent)):
            return self
        kept = np.logical_or.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in self.data])
        return dataclasses.replace(self, data=self.data.take(np.flatnonzero(kept)), row=self.row[kept])

    def _column(self, column: str) -> Any:
        import pyarrow.types as types

        values = self.data.column(column)
        return values.dictionary_decode() if types.is_dictionary(values.type) else values

    def _refuse(self, bad: np.ndarray, column: str, expected: str, got: Any) -> None:
        """Raise the error for the first of the `bad` cells; a row has several in a column of lists."""
        if bad.any():
            first = int(bad.argmax())
            row = int(self.row[first * len(self.row) // len(bad)])
            value = got if isinstance(got, str) else got[first]
            raise UserError(f"{self.place(row)}, column {column!r}: expected {expected}, got {value}.")

    def _ids(self, column: str) -> np.ndarray:
        import pyarrow.types as types

        values = self.data.column(column)
        is_coded = types.is_dictionary(values.type)
        kind = values.type.value_type if is_coded else values.type
        if types.is_integer(kind) or types.is_floating(kind):
            return self._whole(column)
        coded = values if is_coded else values.dictionary_encode()
        texts = np.array([*(text or "" for text in coded.dictionary.to_pylist()), ""], object)
        ids = texts[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        self._refuse(ids == "", column, "a name or a number", "nothing")
        return ids

    def _whole(self, column: str) -> np.ndarray:
        values, missing = _numbers(self._column(column))
        self._refuse(missing, column, "a whole number", "nothing")
        return self._as_int(values, column)

    def _as_int(self, values: np.ndarray, column: str) -> np.ndarray:
        whole = values.astype(np.int64)
        bad = whole != values
        if values.dtype.kind == "f":
            bad |= np.abs(values) >= 2**53
        self._refuse(bad, column, "a whole number", values)
        return whole

    def _reward(self, lay: TableLayout, acts: np.ndarray) -> np.ndarray:
        values, missing = _numbers(self._column(lay.reward))
        reward = values.astype(np.float64)
        self._refuse(missing & acts, lay.reward, "the reward of the action in this row", "nothing")
        unearned = ~missing & ~np.isnan(reward) & ~acts
        self._refuse(unearned, lay.action, "the action that this row has a reward for", "nothing")
        return reward

    def _flags(self, column: str, needed: np.ndarray) -> np.ndarray:
        """True and false; where nothing is `needed`, an empty cell is false."""
        values, missing = _numbers(self._column(column), nan_is_null=True)
        self._refuse((values != 0) & (values != 1), column, "0, 1, true or false", values)
        self._refuse(missing & needed, column, "true or false", "nothing")
        return values != 0

    def _matrix(self, columns: tuple[str, ...], masks: bool = False) -> np.ndarray:
        """Columns side by side, or the lists of one column, shape (n, columns): bool for masks (see `Rows`)."""
        import pyarrow.types as types

        if types.is_nested(self._column(columns[0]).type):
            lists, width = self.lists(columns[0])
            values = self._filled(lists.flatten(), columns[0], masks)
            return values.astype(bool if masks else _precision([values]), copy=False).reshape(-1, width)
        parts = [self._filled(self._column(column), column, masks) for column in columns]
        out: np.ndarray = np.empty((len(self.row), len(parts)), bool if masks else _precision(parts))
        for start in range(0, len(out), TILE):  # in tiles that fit a cache, twice as fast as column by column
            tile = slice(start, start + TILE)
            np.stack([part[tile] for part in parts], axis=1, out=out[tile], casting="same_kind")
        return out

    def _filled(self, cells: Any, column: str, masks: bool) -> np.ndarray:
        """Numbers, or masks as bool; none may be missing."""
        values, missing = _numbers(cells)
        self._refuse(missing, column, "a number", "nothing")
        if masks:
            self._refuse((values != 0) & (values != 1), column, "0 or 1", values)
        return values != 0 if masks else values


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


def _precision(parts: list[np.ndarray]) -> type:
    """The type that numbers are handed on in: single precision, unless it would round any of them."""
    return np.float64 if any(map(is_rounded, parts)) else np.float32
