"""Text files of a table: their header, the types of their cells, and errors that name line, column and cell."""

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import is_number
from ovmse.system import bounds

HEAD_BYTES = 2**19
TEXT_BYTES = 2**20  # at once: twice as fast as 2**23, and the parser holds several blocks
EMPTY = ("", "NA", "N/A", "null", "NULL", "None")
NAN = ("nan", "NaN", "NAN", "-nan")  # a number where numbers are, else nothing
TRUE = ("1", "1.0", "true", "True", "TRUE")
FALSE = ("0", "0.0", "false", "False", "FALSE")
FLAGS = ("done", "truncated", "won")  # read as text: their cells may be NaN after the last step


class Dialect(NamedTuple):
    """How the cells of a text file are told apart, the names in its first line, and the decimal sign."""

    separator: str
    names: list[str]
    decimal: str = "."


def csv_dialect(file: Path, separator: str | None, decimal: str = ".") -> Dialect:
    """The separator, found in the first line unless given, and the columns.

    Raises `UserError` for files that are empty, no UTF-8 text, or have no usable first line.
    """
    line, expected = re.split(rb"[\r\n]", _head(file), maxsplit=1)[0], f"{file}: line 1: expected"
    if len(line) == HEAD_BYTES:
        raise UserError(f"{expected} the names of the columns, got a line beyond 512 KiB.")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{expected} text in UTF-8: {error}. Save the file as UTF-8.") from error
    if "\0" in text:
        raise UserError(f"{expected} text, got binary data or UTF-16. Save the file as UTF-8.")
    if separator is not None and len(separator) != 1:
        raise UserError(f"separator: expected one character, got {separator!r}.")
    separator = separator or max((",", ";", "\t"), key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]
    if all(re.fullmatch(r"[-+0-9.eE]*", name) for name in names):
        got = f"{text[:80]!r}. Add a first line" if any(names) else "nothing"
        raise UserError(f"{expected} the names of the columns, got {got}.")
    names = [name or f"column {i + 1}" for i, name in enumerate(names)]
    check_names(f"{file}: line 1", names)
    return Dialect(separator, names, decimal)


def check_names(where: str, names: list[str]) -> None:
    """Refuse columns of the same name."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where}: two columns are named {twice!r}. Rename one of them.")


def csv_batches(file: Path, dialect: Dialect, columns: dict[str, str], words: Iterable[str] = ()) -> Iterator[Any]:
    """Record batches of the given columns (by name, with their roles). words: those whose cells are no numbers."""
    import pyarrow as pa

    ids = [name for name, role in columns.items() if role in ("episode", "agent")]
    by_role = {"avail": pa.bool_(), "step": pa.float64(), "action": pa.float64(), **dict.fromkeys(FLAGS, pa.string())}
    types = {name: by_role.get(role, pa.float32()) for name, role in columns.items()} | id_types(file, dialect, ids)
    types |= dict.fromkeys(words, pa.string())
    line = 2
    with _open(file) as stream:
        for batch in _parsed(file, dialect, stream, types):
            yield _without_nan(file, line, batch, columns)
            line += batch.num_rows


def _parsed(file: Path, dialect: Dialect, stream: Any, types: dict[str, Any]) -> Iterator[Any]:
    from pyarrow import csv as pyarrow_csv

    block = min(TEXT_BYTES, bounds.block_bytes())
    read = pyarrow_csv.ReadOptions(use_threads=False, block_size=block, column_names=dialect.names, skip_rows=1)
    convert = pyarrow_csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=EMPTY,
        true_values=TRUE,
        false_values=FALSE,
        strings_can_be_null=True,
        decimal_point=dialect.decimal,
    )
    parse = pyarrow_csv.ParseOptions(delimiter=dialect.separator, ignore_empty_lines=False)
    try:
        yield from pyarrow_csv.open_csv(stream, read, parse, convert)
    except (ValueError, KeyError, OSError) as error:
        raise _worded(file, dialect, str(error)) from error


def _without_nan(file: Path, line: int, batch: Any, columns: dict[str, str]) -> Any:
    """The batch with flags as bool, and nothing instead of NaN in text. line: that of its first row."""
    import pyarrow as pa
    from pyarrow import compute

    for i, name in enumerate(batch.schema.names):
        if batch.column(i).type != pa.string():
            continue
        values = compute.if_else(compute.is_in(batch.column(i), pa.array(NAN)), None, batch.column(i))
        if columns[name] in FLAGS:
            place = compute.index_in(values, pa.array([*FALSE, *TRUE]))
            row = compute.and_(values.is_valid(), place.is_null()).index(True).as_py()
            if row >= 0:
                raise _unexpected(file, line + row, name, "bool", values[row].as_py())
            values = compute.greater_equal(place, len(FALSE))
        batch = batch.set_column(i, name, values)
    return batch


def _open(file: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(file), compression="gzip" if file.name.lower().endswith(".gz") else None)


def _head(file: Path) -> bytes:
    try:
        with _open(file) as stream:
            head = stream.read(HEAD_BYTES)
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {error}.") from error
    if not head.strip():
        raise UserError(f"{file}: the file is empty: expected a line with the names of the columns, and rows.")
    return head


def id_types(file: Path, dialect: Dialect, ids: list[str]) -> dict[str, Any]:
    """Whether ids are whole numbers, other numbers or text, by the first rows; too large whole numbers are text."""
    return {name: _id_type(column) for name, column in _first_cells(file, dialect, ids).items()}


def is_words(file: Path, dialect: Dialect, column: str) -> bool:
    """Whether the first rows of a column hold words: cells, and not one number among them."""
    found = _first_cells(file, dialect, [column])[column].unique().to_pylist()
    words = [cell for cell in found if cell not in NAN]
    return bool(words) and not any(is_number(cell.replace(dialect.decimal, ".")) for cell in words)


def _first_cells(file: Path, dialect: Dialect, columns: list[str]) -> dict[str, Any]:
    """The cells of the first rows that are not empty, as text without blanks around it."""
    import pyarrow as pa
    from pyarrow import compute

    head = _head(file)
    whole = io.BytesIO(head if len(head) < HEAD_BYTES else head[: head.rfind(b"\n") + 1])
    batches = list(_parsed(file, dialect, whole, dict.fromkeys(columns, pa.string()))) if columns else []
    found = {name: pa.chunked_array([batch.column(name) for batch in batches], pa.string()) for name in columns}
    return {name: compute.utf8_trim_whitespace(column.drop_null()) for name, column in found.items()}


def _id_type(cells: Any) -> Any:
    import pyarrow as pa

    for kind in (pa.int64(), pa.float64()) if len(cells) else ():
        with contextlib.suppress(ValueError):
            cells.cast(kind)
            too_large = all(re.fullmatch("-?[0-9]+", cell) for cell in cells.to_pylist())
            return pa.string() if kind == pa.float64() and too_large else kind
    return pa.string()


def _worded(file: Path, dialect: Dialect, message: str) -> UserError:
    cell = re.search(r"column #(\d+): Row #(\d+): CSV conversion error to (\w+): invalid value '(.*)'", message, re.S)
    if cell:
        column, line, kind, value = int(cell[1]), cell[2], cell[3], cell[4]
        name = dialect.names[column] if column < len(dialect.names) else str(column)
        return _unexpected(file, line, name, kind, value)
    line = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", message, re.S)
    if line:
        return UserError(f"{file}: line {line[1]}: expected {line[2]} cells, got {line[3]}: {line[4][:80]!r}.")
    if "Could not skip initial" in message:
        return UserError(f"{file}: no rows after the names of the columns: expected one per step and agent.")
    return UserError(f"{file}: cannot be read as CSV: {message[:300]}. Correct the file, or write it again.")


def _unexpected(file: Path, line: object, name: str, kind: str, value: str) -> UserError:
    needed = {"bool": "0, 1, true or false", "int64": "a whole number, as in the first rows"}.get(kind, "a number")
    advice = " If decimals have a comma: --decimal ,." if re.fullmatch(r"-?\d+,\d+", value) else ""
    return UserError(f"{file}: line {line}, column {name!r}: expected {needed}, got {value[:80]!r}.{advice}")
