"""What the cells of the action are as numbers from 0: numbers as they are, names by their place, bins of continuous
columns.

Axes: n rows, A actions.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.cells import Cells
from ovmse.data.formats.table.columns import natural

MOST_SAMPLED = 2**22  # values of a column that its bins are taken from
Scan = Callable[[Callable[[Cells], np.ndarray]], Iterator[np.ndarray]]
"""What a function makes of the columns of the action, block by block."""


class Actions(NamedTuple):
    """How the action is read. columns: where it is. names: of the actions, None where they are numbers without names.

    edges: the inner edges of the bins of each column; none where nothing is binned. words: the cells are names.
    assumed: what was taken for granted.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...] | None = None
    edges: tuple[np.ndarray, ...] = ()
    words: bool = False
    assumed: tuple[str, ...] = ()

    def read(self, cells: Cells) -> np.ndarray:
        """The actions as numbers, (n,), -1 where there is none. Raises `UserError` naming row and column."""
        if self.edges:
            return self._binned(cells)
        if self.words:
            return cells.places(self.columns[0], self.names or (), "the name of an action")
        return cells.action(self.columns[0])

    def _binned(self, cells: Cells) -> np.ndarray:
        """The bin, or of several columns the number of the combination of bins, the last column changing fastest."""
        action, missing = np.zeros(len(cells.row), np.int64), np.zeros(len(cells.row), bool)
        for column, edges in zip(self.columns, self.edges, strict=True):
            values = cells.real(column)
            action = action * (len(edges) + 1) + np.searchsorted(edges, values, side="right")
            missing |= np.isnan(values)
        return np.where(missing, -1, action)


def named(where: str, column: str, scan: Scan, given: tuple[str, ...]) -> Actions:
    """Actions that the column has by name: numbered as `given`, or all that there are in natural order."""
    if given:
        return Actions((column,), given, words=True)
    found: set[str] = set()
    for texts in scan(lambda cells: np.array(sorted(cells.distinct(column)), object)):
        found.update(texts)
    if not found:
        raise UserError(f"{where}: no row with an action. Write the table again.")
    names = tuple(sorted(found, key=natural))
    return Actions((column,), names, words=True, assumed=("actions are numbered in the natural order of their names",))


def binned(where: str, bins: dict[str, int], scan: Scan) -> Actions:
    """Continuous columns in bins of equal frequency, each named by the median of what lies in it.

    Edges are quantiles of the column, so that every bin is logged about equally often, whatever its outliers; a value
    that comes very often fills several of the bins, which are then one.
    """
    columns = tuple(bins)
    matrix = _sampled(scan(lambda cells: np.stack([cells.real(column) for column in columns], axis=1)))
    if not len(matrix):
        raise UserError(f"{where}: no row with an action. Write the table again.")
    edges, names, assumed = [], [""], []
    for column, values in zip(columns, matrix.T, strict=True):
        inner = _inner_edges(values, bins[column])
        middles = _texts([float(np.median(values[np.searchsorted(inner, values, "right") == i]))
                          for i in range(len(inner) + 1)])  # fmt: skip
        edges.append(inner)
        names = [f"{name}{', ' if name else ''}{column}={middle}" for name in names for middle in middles]
        shown = ", ".join(f"{edge:.4g}" for edge in inner)
        assumed.append(f"{column} is in {len(inner) + 1} bins of about equal frequency; edges: {shown or 'none'}")
    return Actions(columns, tuple(names), tuple(edges), assumed=tuple(assumed))


def _inner_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """The edges between bins of equal frequency, each of which belongs to the bin above it."""
    distinct = np.unique(values)
    if len(distinct) <= bins:
        return (distinct[1:] + distinct[:-1]) / 2
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.unique(np.where(edges == distinct[0], distinct[1], edges))  # nothing lies below the smallest value


def _texts(values: list[float]) -> list[str]:
    """Short texts of the numbers that all differ."""
    short = [f"{value:.4g}" for value in values]
    return short if len(set(short)) == len(short) else [repr(value) for value in values]


def _sampled(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """The rows without NaN, of many evenly thinned ones."""
    kept: list[np.ndarray] = []
    stride = 1
    for block in blocks:
        kept.append(block[~np.isnan(block).any(axis=1)][::stride])
        if sum(map(len, kept)) > MOST_SAMPLED:
            kept, stride = [np.concatenate(kept)[::2]], 2 * stride
    return np.concatenate(kept) if kept else np.zeros((0, 1))


def by_masks(where: str, columns: tuple[str, ...], actions: Actions) -> Actions:
    """The actions in the order of the columns of masks that have their names, such as avail_brake."""
    if not actions.words or len(columns) < 2:
        return actions
    names = actions.names or ()
    ends = {name: (f"_{name}", f".{name}", f"-{name}") for name in names}
    place = {name: [c for c in columns if c == name or c.endswith(ends[name])] for name in names}
    if any(len(found) != 1 for found in place.values()):
        raise UserError(
            f"{where}: the actions have names ({', '.join(names[:12])}), and the columns of masks do not end in them. "
            "Name the actions in the order of these columns: --action-names NAME NAME ..."
        )
    called = {found[0]: name for name, found in place.items()}
    ordered = tuple(called.get(column, column) for column in columns)
    return actions._replace(names=ordered, assumed=("actions are numbered in the order of the columns of masks",))
