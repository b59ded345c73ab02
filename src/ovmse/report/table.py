"""Tables of scores: printed to fit a terminal, and written as CSV in full precision."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from ovmse.system import files


class Column(NamedTuple):
    """A column: its heading (empty: only in the CSV file), its name there (empty: only shown), and its values by row.

    show: how an estimate is written as text; without it the values are plain ones.
    """

    heading: str
    name: str
    values: Sequence[Any]
    show: Callable[[Any], str] | None = None


class Table(NamedTuple):
    """A table, its columns in order. file: the name of its CSV file."""

    file: str
    title: str
    caption: str
    columns: Sequence[Column]

    def texts(self) -> dict[str, list[str]]:
        """Heading to one text per row."""
        shown = [column for column in self.columns if column.heading]
        return {column.heading: list(map(column.show or str, column.values)) for column in shown}


def print_table(table: Table, console: Console, without: Sequence[str] = ()) -> None:
    """Print a table and its caption, without some columns and the sentences from the first of them on: a narrow
    terminal has room for what counts."""
    style: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False, "show_edge": False}
    shown = RichTable(title=escape(table.title), title_justify="left", **style)
    columns = {heading: texts for heading, texts in table.texts().items() if heading not in without}
    widths = _widths([[heading, *texts] for heading, texts in columns.items()], console.width)
    for heading, width in zip(columns, widths, strict=True):
        shown.add_column(escape(heading), justify="right" if shown.columns else "left", overflow="fold", width=width)
    for row in zip(*columns.values(), strict=True):
        shown.add_row(*map(escape, row))
    console.print(shown)
    caption = table.caption.partition(f" {without[0].capitalize()}")[0] if without else table.caption
    console.print(f"{caption}\n", highlight=False, markup=False)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """How wide each column of texts is, in a table of so many characters: room for whole words before whole texts."""
    widths = [max(len(word) for text in texts for word in text.split() or [""]) for texts in columns]
    wanted = [max(map(len, texts)) for texts in columns]
    left = room - 2 * (len(columns) - 1) - sum(widths)  # without the two spaces between columns
    for _ in range(left):
        widest = max(range(len(columns)), key=lambda i: wanted[i] - widths[i])
        widths[widest] += widths[widest] < wanted[widest]
    for _ in range(-left):
        widths[widths.index(max(widths))] -= 1
    return widths


def write_csv(path: Path, columns: Sequence[Column]) -> None:
    """Full precision: an estimate is three columns (value, low, high), an empty cell means none."""
    cells: dict[str, Sequence[Any]] = {}
    for column in columns:
        if column.show:
            for part, field in (("", "value"), ("_low", "low"), ("_high", "high")):
                cells[column.name + part] = [getattr(value, field, None) for value in column.values]
        elif column.name:
            cells[column.name] = column.values
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([cells, *zip(*cells.values(), strict=True)])
