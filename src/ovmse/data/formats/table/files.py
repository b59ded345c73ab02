"""The files of a table, opened and read as record batches of some 16 MiB: Parquet, CSV, Arrow.

Every error names the file and, for text, the line. Parquet pages with a checksum are checked against it.
"""

import bisect
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.reading import decoding, files
from ovmse.data.formats.table.csv_files import Dialect, check_names, csv_batches, csv_dialect, id_types, is_words
from ovmse.system import bounds

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
Row = int | np.integer


class Table:
    """A table in one file or several: the kinds of its columns, its batches, and the place of every row."""

    def __init__(self, path: Path, separator: str | None = None, decimal: str = ".", union: bool = False) -> None:
        """union: where files have other columns, all of them together, empty where a file lacks one.

        Raises `UserError` where there is no table, or files do not have the same columns.
        """
        self.path, self._decimal = path, decimal
        self.files, self.format = _files(path)
        self.metadata: dict[bytes, bytes] = {}
        self._starts = [0]
        self._dialects: dict[Path, Dialect] = {}
        self._words: dict[str, bool] = {}
        kinds = {file: self._kinds(file, separator) for file in self.files}
        self._own, self.kinds = kinds, kinds[self.files[0]]
        for file, found in kinds.items():
            shared = found if not union else {name: found.get(name, kind) for name, kind in self.kinds.items()}
            if shared != self.kinds:
                here, first = (", ".join(f"{n} ({k})" for n, k in part.items()) for part in (found, self.kinds))
                raise UserError(
                    f"{file}: expected the columns of {self.files[0].name}, {first}, got {here}. If there is a "
                    "file for each agent, and agents have features of their own: --unlike-agents pad --unsorted sort."
                )
            self.kinds = self.kinds | found

    def _kinds(self, file: Path, separator: str | None) -> dict[str, str]:
        if self.format == "CSV":
            self._dialects[file] = csv_dialect(file, separator, self._decimal)
            return dict.fromkeys(self._dialects[file].names, "cell")
        with decoding(f"{file}: damaged, or no {self.format} file"):
            schema = _parquet(file).schema_arrow if self.format == "Parquet" else _arrow(file).schema
            check_names(str(file), schema.names)
            self.metadata = self.metadata or schema.metadata or {}
            return {field.name: _kind(field.type) for field in schema}

    def is_text(self, column: str) -> bool:
        """Whether an id is text."""
        if self.format != "CSV":
            return self.kinds[column] == "text"
        file = self.files[0]
        return _kind(id_types(file, self._dialects[file], [column])[column]) == "text"

    def is_words(self, column: str) -> bool:
        """Whether a column of actions or steps holds words or times rather than numbers, by its first rows."""
        if self.format != "CSV":
            return self.kinds[column] in ("text", "time")
        if column not in self._words:
            file = next(file for file in self.files if column in self._own[file])
            self._words[column] = is_words(file, self._dialects[file], column)
        return self._words[column]

    def batches(self, columns: dict[str, str]) -> Iterator[tuple[int, Any]]:
        """Record batches of the given columns (by name, with their roles), each with the number of its first row."""
        first = 0
        self._starts = []
        for file in self.files:
            self._starts.append(first)
            with decoding(f"{file}: damaged, or no {self.format} file"):
                for batch in self._batches(file, columns):
                    batch.validate(full=True)  # offsets come from the file, and nothing else has looked at them
                    if batch.num_rows:
                        yield first, batch
                    first += batch.num_rows

    def _batches(self, file: Path, columns: dict[str, str]) -> Iterator[Any]:
        own = {name: role for name, role in columns.items() if name in self._own[file]}
        if self.format == "CSV":
            words = [name for name, role in own.items() if role in ("step", "action") and self.is_words(name)]
            found = csv_batches(file, self._dialects[file], own, words)
        else:
            found = (_parquet_batches if self.format == "Parquet" else _arrow_batches)(file, list(own))
        return found if len(own) == len(columns) else (_with_empty(batch, list(columns)) for batch in found)

    def file_of(self, row: Row) -> int:
        """The index of the file that a row lies in."""
        return bisect.bisect_right(self._starts, row) - 1

    def place(self, row: Row) -> str:
        """The file and the row there: lines of text count from 1, rows of other files from 0."""
        return self.span(row, row)

    def span(self, first: Row, last: Row) -> str:
        """The file and the rows from `first` to `last`."""
        index = self.file_of(first)
        word, offset = ("line", 2) if self.format == "CSV" else ("row", 0)
        first, last = (row + offset - self._starts[index] for row in (first, last))
        rows = f"{word} {first}" if first == last else f"{word}s {first} to {last}"
        return f"{self.files[index]}: {rows}"


def _with_empty(batch: Any, columns: list[str]) -> Any:
    """The batch with all columns; those that its file lacks are empty."""
    import pyarrow as pa

    there, empty = set(batch.schema.names), pa.nulls(batch.num_rows, pa.float32())
    return pa.RecordBatch.from_arrays([batch.column(n) if n in there else empty for n in columns], columns)


def suffix(path: Path) -> str:
    """The end of the name that tells the format, such as .csv.gz."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), path.suffix.lower())


def _files(path: Path) -> tuple[list[Path], str]:
    if not path.exists():
        raise UserError(f"{path}: no such file or directory.")
    if path.is_file() and suffix(path) not in SUFFIXES:
        raise UserError(f"{path}: expected a table with one of the endings {', '.join(SUFFIXES)}.")
    tables = files(path, *SUFFIXES, hidden=(".", "_"))
    formats = sorted({SUFFIXES[suffix(file)] for file in tables})
    if len(formats) > 1:
        raise UserError(f"{path}: expected files of one kind, got {' and '.join(formats)}. Give one file instead.")
    return tables, formats[0]


def _kind(kind: Any) -> str:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "list" if _kind(kind.value_type) in ("int", "float", "bool") else "other"
    tests = {
        "int": types.is_integer,
        "float": types.is_floating,
        "bool": types.is_boolean,
        "time": types.is_timestamp,
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
    return max(1, min(2**17, bounds.block_bytes() // max(1, width)))


def parquet_bytes(opened: Any, columns: Collection[str] | None = None) -> tuple[int, int]:
    """The bytes of the largest row group of a file: stored, and unpacked, by what its footer says."""
    sizes = [(0, 0)]
    for i in range(opened.metadata.num_row_groups):
        group = opened.metadata.row_group(i)
        parts = [group.column(j) for j in range(group.num_columns)]
        parts = [part for part in parts if columns is None or part.path_in_schema.partition(".")[0] in columns]
        unpacked = sum(max(part.total_uncompressed_size, 8 * part.num_values) for part in parts)
        sizes.append((unpacked, sum(part.total_compressed_size for part in parts)))
    return max(sizes)[::-1]


def _parquet(file: Path, texts: Sequence[str] = ()) -> Any:
    from pyarrow import parquet

    # Without a buffer size, or with pre_buffer, whole column chunks are held in memory.
    return parquet.ParquetFile(
        file, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True, read_dictionary=list(texts)
    )


def _parquet_batches(file: Path, columns: list[str]) -> Iterator[Any]:
    with _parquet(file) as plain:
        stored, needed = parquet_bytes(plain, columns)
        bounds.check_whole(file, needed, stored)
        texts = [name for name in columns if _kind(plain.schema_arrow.field(name).type) == "text"]
    with _parquet(file, texts) as opened:  # a long text that comes often is held once
        yield from opened.iter_batches(_rows(opened.schema_arrow, columns), columns=columns, use_threads=False)


def _arrow(file: Path) -> Any:
    import pyarrow as pa

    with file.open("rb") as handle:
        if handle.read(6) != b"ARROW1":
            return pa.ipc.open_stream(pa.OSFile(str(file)))
    reader = pa.ipc.open_file(pa.OSFile(str(file)))
    if file.stat().st_size > LARGE_BATCH * max(1, reader.num_record_batches):
        return pa.ipc.open_file(pa.memory_map(str(file)))  # of a large batch only the pages in use are in memory
    return reader


def _arrow_batches(file: Path, columns: list[str]) -> Iterator[Any]:
    reader = _arrow(file)
    rows = _rows(reader.schema, columns)
    is_stream = not hasattr(reader, "get_batch")
    for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
        kept = batch.select(columns)
        yield from (kept.slice(start, rows) for start in range(0, kept.num_rows, rows))
