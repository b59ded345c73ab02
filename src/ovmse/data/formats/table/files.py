"""The files of a table, opened and read as record batches of some 16 MiB: Parquet, CSV, Arrow.

Every error names the file and, for text, the line. Parquet pages with a checksum are checked against it.
"""

import bisect
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError
from ovmse.data.formats.table.columns import natural
from ovmse.data.formats.table.csv_files import Dialect, csv_batches, csv_schema, id_types

BLOCK_BYTES = 2**24
BUFFER_BYTES = 2**18
LARGE_BATCH = 2**27
LIST_ROWS = 8192  # rows of a block where the width of lists is not known beforehand
SUFFIXES = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".csv.gz": "CSV",
    ".tsv.gz": "CSV",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".ipc": "Arrow",
}
INSTALL = "pip install 'ovmse[tables]'"


class TableBatch(NamedTuple):
    """Rows that follow each other: the number of the first one among all files, and whether it starts a file."""

    first: int
    starts_file: bool
    data: Any


class Table:
    """A table in one file or several: the kinds of its columns, its batches, and the place of every row."""

    def __init__(self, path: Path, separator: str | None = None) -> None:
        """Raises `UserError` where there is no table, or files do not have the same columns."""
        self.path = path
        self.files, self.format = _files(path)
        self._starts: list[int] = []
        self.metadata: dict[bytes, bytes] = {}
        schemas = [self._open(file, separator) for file in self.files]
        self.kinds = schemas[0][0]
        self._dialects = {file: dialect for file, (_, dialect) in zip(self.files, schemas, strict=True)}
        for file, (kinds, _) in zip(self.files, schemas, strict=True):
            if kinds != self.kinds:
                here, first = (", ".join(f"{n} ({k})" for n, k in part.items()) for part in (kinds, self.kinds))
                raise UserError(f"{file}: expected the columns of {self.files[0].name}, {first}, got {here}.")

    def _open(self, file: Path, separator: str | None) -> tuple[dict[str, str], Dialect | None]:
        if self.format == "CSV":
            dialect = csv_schema(file, separator)
            return dict.fromkeys(dialect.names, "cell"), dialect
        names, metadata = reading(file, self.format, _typed_columns, file, self.format)
        self.metadata = self.metadata or metadata
        twice = [name for name, times in Counter(name for name, _ in names).items() if times > 1]
        if twice:
            raise UserError(f"{file}: two columns are named {twice[0]!r}. Rename one of them.")
        return dict(names), None

    def is_text(self, column: str) -> bool:
        """Whether an id is text."""
        if (dialect := self._dialects[self.files[0]]) is None:
            return self.kinds[column] == "text"
        return _kind(id_types(self.files[0], dialect, {column: ""})[column]) == "text"

    def batches(self, columns: dict[str, str]) -> Iterator[TableBatch]:
        """The rows of all files, the given columns of them (by name, with their roles)."""
        first = 0
        self._starts = []
        for file in self.files:
            self._starts.append(first)
            starts_file = True
            batches = iter(self._batches(file, columns))
            while (data := reading(file, self.format, next, batches, None)) is not None:
                if data.num_rows:
                    yield TableBatch(first, starts_file, data)
                    first, starts_file = first + data.num_rows, False

    def _batches(self, file: Path, columns: dict[str, str]) -> Iterator[Any]:
        if self.format == "CSV":
            dialect = self._dialects[file]
            assert dialect is not None
            return csv_batches(file, dialect, columns)
        return (_parquet_batches if self.format == "Parquet" else _arrow_batches)(file, list(columns))

    def place(self, row: int) -> str:
        """The file and the row there: lines of text count from 1, rows of other files from 0."""
        return self.span(row, row)

    def span(self, first: int, last: int) -> str:
        """The file and the rows from `first` to `last`."""
        index = max(0, bisect.bisect_right(self._starts, first) - 1)
        start = self._starts[index] if self._starts else 0
        offset = (2 if self.format == "CSV" else 0) - start
        word = "line" if self.format == "CSV" else "row"
        numbers = f" {first + offset}" if first == last else f"s {first + offset} to {last + offset}"
        return f"{self.files[index]}: {word}{numbers}"


def reading(file: Path, form: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """What `read` returns; whatever it raises on damaged files becomes a `UserError`."""
    try:
        return read(*arguments)
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on bytes that are not theirs
        text = re.sub(r"\s+", " ", str(error))[:300]
        raise UserError(
            f"{file}: cannot be read as {form}: {text or type(error).__name__}. The file is damaged or holds "
            "something else: write or fetch it again."
        ) from error


def suffix(path: Path) -> str:
    """The end of the name that tells the format, such as .csv.gz."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), path.suffix.lower())


def _files(path: Path) -> tuple[list[Path], str]:
    """The files of a table in natural order, and their format."""
    require_pyarrow()
    if not path.exists():
        raise UserError(f"{path}: no such file or directory.")
    if path.is_file():
        if suffix(path) not in SUFFIXES:
            raise UserError(f"{path}: expected a table with one of the endings {', '.join(SUFFIXES)}.")
        return [path], SUFFIXES[suffix(path)]
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_"))]
    tables = sorted((file for file in files if suffix(file) in SUFFIXES), key=lambda file: natural(file.name))
    formats = sorted({SUFFIXES[suffix(file)] for file in tables})
    if not tables:
        raise UserError(f"{path}: no table in this directory: expected files ending with {', '.join(SUFFIXES)}.")
    if len(formats) > 1:
        raise UserError(f"{path}: expected files of one kind, got {' and '.join(formats)}. Give one file instead.")
    return tables, formats[0]


def require_pyarrow() -> None:
    """Raise `UserError` where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UserError(f"tables need pyarrow: {INSTALL}") from error


def _kind(kind: Any) -> str:
    """The name of a column's type in `columns`."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _kind(kind.value_type) in ("int", "float", "bool") else "other"
    tests = {
        "int": types.is_integer,
        "float": types.is_floating,
        "bool": types.is_boolean,
        "text": lambda k: types.is_string(k) or types.is_large_string(k),
    }
    return next((name for name, test in tests.items() if test(kind)), "other")


def _rows(schema: Any, columns: list[str]) -> int:
    """The rows of a batch of some 16 MiB, or few where lists have no stated width."""
    width = 0
    for name in columns:
        kind = schema.field(name).type
        if _kind(kind) == "list" and not hasattr(kind, "list_size"):
            return LIST_ROWS
        width += 8 * getattr(kind, "list_size", 1)
    return max(1, min(2**17, BLOCK_BYTES // max(1, width)))


def _parquet(file: Path) -> Any:
    from pyarrow import parquet

    # Without a buffer size, or with pre_buffer, whole column chunks are held in memory.
    return parquet.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)


def _typed_columns(file: Path, form: str) -> tuple[list[tuple[str, str]], dict[bytes, bytes]]:
    """The columns with their kinds, and the metadata."""
    if form == "Parquet":
        with _parquet(file) as opened:
            schema = opened.schema_arrow
    else:
        schema = _arrow(file)[0].schema
    return [(field.name, _kind(field.type)) for field in schema], dict(schema.metadata or {})


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[Any]:
    with _parquet(file) as opened:
        rows = _rows(opened.schema_arrow, columns)
        for batch in opened.iter_batches(rows, columns=columns, use_threads=False):
            batch.validate()
            yield batch


def _arrow(file: Path) -> tuple[Any, bool]:
    """A reader of an Arrow file, or of an Arrow stream, and whether it is the former."""
    import pyarrow as pa

    with file.open("rb") as handle:
        is_file = handle.read(6) == b"ARROW1"
    if not is_file:
        return pa.ipc.open_stream(pa.OSFile(str(file))), False
    reader = pa.ipc.open_file(pa.OSFile(str(file)))
    if file.stat().st_size > LARGE_BATCH * max(1, reader.num_record_batches):
        reader = pa.ipc.open_file(pa.memory_map(str(file)))  # of a large batch only the pages in use are in memory
    return reader, True


def _arrow_batches(file: Path, columns: list[str]) -> Iterator[Any]:
    reader, is_file = _arrow(file)
    rows = _rows(reader.schema, columns)
    batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
    for batch in batches:
        batch = batch.select(columns)
        batch.validate(full=True)  # offsets come from the file, and nothing else has looked at them
        yield from map(functools.partial(batch.slice, length=rows), range(0, batch.num_rows, rows))
