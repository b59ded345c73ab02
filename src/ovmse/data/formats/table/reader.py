"""Tables with one row per step and agent: Parquet, CSV or Arrow, in one file or in a directory of them.

Read in constant memory, a block of some 16 MiB at a time; an episode has to fit in memory.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from ovmse.core.errors import UserError, check_known
from ovmse.data.formats.reading import bounded, decoding, settled_actions
from ovmse.data.formats.table.cells import Cells
from ovmse.data.formats.table.columns import Columns, TableLayout, layout
from ovmse.data.formats.table.files import Table
from ovmse.data.formats.table.grouping import episodes
from ovmse.data.formats.table.writer import METADATA_KEY
from ovmse.data.raw_episode import NO_CHECKSUMS, Source

T = TypeVar("T")


def read(
    path: Path,
    *,
    n_actions: int | None = None,
    columns: Columns | None = None,
    missing_agents: Literal["refuse", "idle"] = "refuse",
    separator: str | None = None,
) -> Source:
    """Open a table: `path` is a file, or a directory of files of one kind, read in natural order.

    missing_agents: an agent without a row at a step is refused, or idle: out of play. separator: between the cells of
    a CSV file, by default the comma, semicolon or tab that its first line has. n_actions counts where there are no
    masks; without either, the actions are read once to find the largest.

    Raises `UserError` where columns are missing or of another type; rows are checked as they are read.
    """
    check_known("way to treat missing agents", missing_agents, ("refuse", "idle"))
    table = Table(path, separator)
    lay = layout(str(path), columns or Columns(), table.kinds)
    actions, how = _actions(table, lay, n_actions)
    blocks = _decoded(table, dict(lay.roles()), lambda cells: (table.file_of(cells.row[0]), cells.rows(lay)))
    facts: dict[str, Any] = {"columns": lay.facts(), **_stated(table)}
    return Source(
        name=str(path),
        format=table.format,
        episodes=episodes(blocks, table, actions, missing_agents == "idle"),
        n_actions=actions,
        assumed=(*how, *_assumed(table, lay, missing_agents == "idle")),
        facts=bounded(facts),
    )


def _decoded(table: Table, columns: dict[str, str], decode: Callable[[Cells], T]) -> Iterator[T]:
    """What `decode` makes of the batches of the given columns (by name, with their roles)."""
    widths: dict[str, int] = {}
    for first, data in table.batches(columns):
        with decoding(f"{table.path}: damaged, or no {table.format} file"):
            decoded = decode(Cells(data, np.arange(first, first + data.num_rows), table.place, widths))
        yield decoded


def _actions(table: Table, lay: TableLayout, n_actions: int | None) -> tuple[int, tuple[str, ...]]:
    masks = len(lay.avail) or None
    if lay.avail and table.kinds[lay.avail[0]] == "list":
        masks = next(_decoded(table, {lay.avail[0]: "avail"}, lambda cells: cells.lists(lay.avail[0])[1]), None)
        if masks is None:
            raise UserError(f"{table.path}: the table has no rows.")
    actions = settled_actions(table.path, masks, "avail", n_actions, lambda: _largest_action(table, lay))
    told = masks is not None or n_actions is not None
    return actions, () if told else (f"the largest action in the table is {actions - 1}: {actions} actions",)


def _largest_action(table: Table, lay: TableLayout) -> int:
    blocks = _decoded(table, {lay.action: "action"}, lambda cells: int(cells.action(lay.action).max()))
    if (largest := max(blocks, default=-1)) < 0:
        raise UserError(f"{table.path}: no row with an action. Write the table again.")
    return largest


def _assumed(table: Table, lay: TableLayout, idle: bool) -> Iterator[str]:
    if lay.done is None:
        yield "no done column: every episode counts as cut"
    else:
        yield "a final row that is done ends the task with the step before it"
    if lay.done is not None and lay.truncated is not None:
        yield "a step that is both done and truncated counts as cut"
    if table.format == "CSV":
        yield "numbers in text are read in single precision"
    if idle:
        masks = "" if lay.avail else "; there are no masks, so all actions of the others are legal"
        yield (
            "agents without a row at a step are out of play: zeros seen, only action 0, and the reward that the others "
            f"agree on throughout the episode, else 0{masks}"
        )
    if table.is_text(lay.agent):
        yield "agents are numbered in the natural order of their names"
    yield NO_CHECKSUMS  # Parquet's pages may have some, its footer has none


def _stated(table: Table) -> dict[str, Any]:
    """What our own export says of the play."""
    try:
        metadata = json.loads(table.metadata.get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return {"metadata": metadata} if metadata and isinstance(metadata, dict) else {}
