"""Text files of a table: their header, the types of their cells, and errors that name line, column and cell."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError

HEAD_BYTES = 2**19
BLOCK_BYTES = 2**20  # of text: twice as fast as 2**23, and the parser holds several blocks
SEPARATORS = (",", ";", "\t")
EMPTY = ("", "NA", "N/A", "null", "NULL", "None")
NAN = ("nan", "NaN", "NAN", "-nan")  # a number where numbers are, else nothing
TRUE = ("1", "1.0", "true", "True", "TRUE")
FALSE = ("0", "0.0", "false", "False", "FALSE")
FLAGS = ("done", "truncated", "won")  # read as text: their cells may be NaN after the last step


class Dialect(NamedTuple):
    """How the cells of a text file are told apart, and the names in its first line."""

    separator: str
    names: list[str]


def csv_schema(file: Path, separator: str | None) -> Dialect:
    """The separator, found in the first line unless given, and the columns.

    Raises `UserError` for files that are empty, no UTF-8 text, or have no usable first line.
    """
    line = re.split(rb"[\r\n]", _head(file), maxsplit=1)[0]
    if len(line) == HEAD_BYTES:
        raise UserError(f"{file}: line 1: expected the names of the columns, got a line beyond 512 KiB.")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: line 1: expected text in UTF-8: {error}. Save the file as UTF-8.") from error
    if "\0" in text:
        raise UserError(f"{file}: line 1: expected text, got binary data or UTF-16. Save the file as UTF-8.")
    if separator is not None and len(separator) != 1:
        raise UserError(f"separator: expected one character, got {separator!r}.")
    separator = separator or max(SEPARATORS, key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]
    if not any(names):
        raise UserError(f"{file}: line 1: expected the names of the columns, got nothing.")
    if all(re.fullmatch(r"[-+0-9.eE]*", name) for name in names):
        raise UserError(f"{file}: line 1: expected the names of the columns, got {text[:80]!r}. Add a first line.")
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise UserError(f"{file}: line 1: two columns are named {twice[0]!r}. Rename one of them.")
    return Dialect(separator, [name or f"column {i + 1}" for i, name in enumerate(names)])


def csv_batches(file: Path, dialect: Dialect, columns: dict[str, str]) -> Iterator[Any]:
    """Record batches of the given columns (by name, with their roles)."""
    from pyarrow import csv as pyarrow_csv

    types = _types(file, dialect, columns)
    line = 2
    with _open(file) as stream:
        try:
            for batch in pyarrow_csv.open_csv(
                stream,
                pyarrow_csv.ReadOptions(
                    use_threads=False, block_size=BLOCK_BYTES, column_names=dialect.names, skip_rows=1
                ),
                pyarrow_csv.ParseOptions(delimiter=dialect.separator, ignore_empty_lines=False),
                _conversion(types, columns),
            ):
                yield _told(file, line, batch, columns)
                line += batch.num_rows
        except UserError:
            raise
        except (ValueError, KeyError, OSError) as error:
            raise _worded(file, dialect, types, str(error)) from error


def _told(file: Path, line: int, batch: Any, columns: dict[str, str]) -> Any:
    """The batch with flags as bool, and nothing instead of NaN in text. line: that of its first row."""
    import pyarrow as pa
    from pyarrow import compute

    for i, name in enumerate(batch.schema.names):
        values = batch.column(i)
        if values.type != pa.string():
            continue
        values = compute.if_else(compute.is_in(values, pa.array(NAN)), pa.scalar(None, pa.string()), values)
        if columns[name] in FLAGS:
            true = compute.is_in(values, pa.array(TRUE))
            known = compute.or_kleene(true, compute.is_in(values, pa.array([*FALSE, None], pa.string())))
            if known.false_count:
                row = known.index(False).as_py()
                raise _unexpected(file, line + row, name, "bool", values[row].as_py())
            values = compute.if_else(values.is_valid(), true, pa.scalar(None, pa.bool_()))
        batch = batch.set_column(i, name, values)
    return batch


def _open(file: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(str(file), compression="gzip" if file.name.lower().endswith(".gz") else None)


def _head(file: Path) -> bytes:
    """The first bytes of the text."""
    try:
        with _open(file) as stream:
            head = stream.read(HEAD_BYTES)
    except (ValueError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {error}.") from error
    if not head.strip():
        raise UserError(f"{file}: the file is empty: expected a line with the names of the columns, and rows.")
    return head


def _conversion(types: dict[str, Any], columns: Iterable[str]) -> Any:
    from pyarrow import csv as pyarrow_csv

    return pyarrow_csv.ConvertOptions(
        column_types=types,
        include_columns=list(columns),
        null_values=list(EMPTY),
        true_values=list(TRUE),
        false_values=list(FALSE),
        strings_can_be_null=True,
    )


def _types(file: Path, dialect: Dialect, columns: dict[str, str]) -> dict[str, Any]:
    """The type of every column, by its role; whether ids are numbers or text shows in the first rows."""
    import pyarrow as pa

    by_role = {"obs": pa.float32(), "state": pa.float32(), "action": pa.float64(), "reward": pa.float32()}
    by_role |= {"step": pa.float64()} | {"avail": pa.bool_()} | dict.fromkeys(FLAGS, pa.string())
    types = {name: by_role[role] for name, role in columns.items() if role in by_role}
    ids = {name: role for name, role in columns.items() if role not in by_role}
    return types | (id_types(file, dialect, ids) if ids else {})


def id_types(file: Path, dialect: Dialect, ids: dict[str, str]) -> dict[str, Any]:
    """Whether ids are whole numbers, other numbers or text, by the first rows; too large whole numbers are text."""
    import pyarrow as pa

    seen = _first_rows(file, dialect, {}, ids).schema
    types = {n: k if (k := seen.field(n).type) in (pa.int64(), pa.float64()) else pa.string() for n in ids}
    if doubtful := {name: pa.string() for name, kind in types.items() if kind == pa.float64()}:
        cells = _first_rows(file, dialect, doubtful, doubtful)
        for name in doubtful:
            if all(re.fullmatch("-?[0-9]+", cell) for cell in cells.column(name).drop_null().to_pylist()):
                types[name] = pa.string()
    return types


def _first_rows(file: Path, dialect: Dialect, types: dict[str, Any], columns: Iterable[str]) -> Any:
    from pyarrow import csv as pyarrow_csv

    head = _head(file)
    whole = head if len(head) < HEAD_BYTES else head[: head.rfind(b"\n") + 1]
    try:
        return pyarrow_csv.read_csv(
            io.BytesIO(whole),
            pyarrow_csv.ReadOptions(use_threads=False, column_names=dialect.names, skip_rows=1),
            pyarrow_csv.ParseOptions(delimiter=dialect.separator, ignore_empty_lines=False),
            _conversion(types, columns),
        )
    except (ValueError, KeyError, OSError) as error:
        raise _worded(file, dialect, {}, str(error)) from error


def _worded(file: Path, dialect: Dialect, types: dict[str, Any], message: str) -> UserError:
    """The error for a message of the parser."""
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
    """The error for a cell that is not of the kind that its column needs."""
    needed = {"bool": "0, 1, true or false", "int64": "a whole number, as in the first rows"}.get(kind, "a number")
    advice = " Write decimals with a point." if re.fullmatch(r"-?\d+,\d+", value) else ""
    return UserError(f"{file}: line {line}, column {name!r}: expected {needed}, got {value[:80]!r}.{advice}")
