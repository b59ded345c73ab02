"""A dataset as a table: one row per step and agent, and one per agent for what was seen after the last step."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.table.files import SUFFIXES, require_pyarrow, suffix
from ovmse.system.files import atomic_path

METADATA_KEY = b"ovmse"
BLOCK_BYTES = 2**25
WRITABLE = tuple(ending for ending in SUFFIXES if ending not in (".tsv", ".csv.gz", ".tsv.gz"))


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as Parquet, Arrow or CSV, by the ending of `path`; return what could not be carried over.

    obs, state and avail are one column of lists each; in CSV numbered columns obs_0, obs_1, and so on. The row after an
    episode's last step has no action, reward, terminal and truncated. Where no game can be won, there is no column won.
    The file appears when it is whole. Raises
    `UserError` where `path` exists or has another ending.
    """
    require_pyarrow()
    if suffix(path) not in WRITABLE:
        raise UserError(f"{path}: expected one of the endings {', '.join(WRITABLE)}.")
    form = SUFFIXES[suffix(path)]
    writers: dict[str, Callable[..., None]] = {"Parquet": _parquet, "Arrow": _arrow, "CSV": _csv}
    with atomic_path(path) as partial:
        writers[form](partial, _schema(dataset, flat=form == "CSV"), _batches(dataset, flat=form == "CSV"))
    if form == "CSV":
        return [
            "CSV has no place for the metadata: the environment, who played, the seed",
            "CSV has no checksums: a damaged file can be read without an error",
        ]
    return ["Arrow files have no checksums: a damaged file can be read without an error"] if form == "Arrow" else []


def _parquet(path: Path, schema: Any, batches: Iterator[Any]) -> None:
    from pyarrow import parquet

    # Lists of observations hardly repeat: a dictionary for them costs time and space.
    plain = [field.name for field in schema if field.name not in ("obs", "state")]
    with parquet.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=plain, write_page_checksum=True
    ) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=batch.num_rows)


def _arrow(path: Path, schema: Any, batches: Iterator[Any]) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _csv(path: Path, schema: Any, batches: Iterator[Any]) -> None:
    from pyarrow import csv as pyarrow_csv

    options = pyarrow_csv.WriteOptions(quoting_header="none")
    with pyarrow_csv.CSVWriter(str(path), schema, write_options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _schema(dataset: Dataset, flat: bool) -> Any:
    """The columns; numbered ones for vectors in a `flat` table."""
    import pyarrow as pa

    spec = dataset.spec
    vectors = {
        "obs": (pa.float32(), spec.obs_size),
        "state": (pa.float32(), spec.state_size),
        "avail": (pa.uint8() if flat else pa.bool_(), spec.n_actions),
    }
    fields = [pa.field(name, pa.int32()) for name in ("episode", "step", "agent")]
    for name, (kind, width) in vectors.items():
        names = [f"{name}_{i}" for i in range(width)] if flat else [name]
        fields += [pa.field(n, kind if flat else pa.list_(kind, width)) for n in names]
    fields += [pa.field("action", pa.int32()), pa.field("reward", pa.float32())]
    fields += [pa.field(name, pa.bool_()) for name in ("terminal", "truncated", *(["won"] if spec.has_win else []))]
    metadata = {**dataclasses.asdict(dataset.metadata), "env": spec._asdict()}
    return pa.schema(fields, {METADATA_KEY: json.dumps(metadata).encode()})


def _batches(dataset: Dataset, flat: bool) -> Iterator[Any]:
    """Blocks of whole episodes."""
    import pyarrow as pa

    schema = _schema(dataset, flat)
    spec = dataset.spec
    row_bytes = 4 * (spec.obs_size + spec.state_size) + spec.n_actions + 40
    rows_end = np.cumsum(dataset.length.astype(np.int64) + 1) * spec.n_agents
    block = rows_end * row_bytes // BLOCK_BYTES
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(dataset.length)]
    for first, last in zip(cuts[:-1], cuts[1:], strict=True):
        yield pa.record_batch(_columns(dataset, first, last, flat), schema=schema)


def _columns(dataset: Dataset, first: int, last: int, flat: bool) -> list[Any]:
    """The columns of the episodes from `first` to before `last`, agents of a step together."""
    import pyarrow as pa

    n = dataset.spec.n_agents
    length = dataset.length[first:last].astype(np.int64)
    row, step = int(dataset.row_start[first]), int(dataset.step_start[first])
    rows = slice(row, row + int((length + 1).sum()))
    count = rows.stop - rows.start
    begin = np.cumsum(length + 1) - (length + 1)
    final = np.zeros(count, bool)
    final[begin + length] = True
    acts = slice(step, step + int(length.sum()))

    def by_step(values: np.ndarray) -> np.ndarray:
        """Values of steps, on the rows that lead to them, for every agent."""
        out = np.zeros((count, *values.shape[1:]), values.dtype)
        out[~final] = values
        return out.ravel() if values.ndim > 1 else np.repeat(out, n)

    terminal = dataset.terminal[acts]
    cut = np.zeros(len(terminal), bool)
    ends = np.cumsum(length) - 1
    cut[ends] = ~terminal[ends]
    nothing = np.repeat(final, n)
    ids = [
        np.repeat(np.arange(first, last), (length + 1) * n),
        np.repeat(np.arange(count) - np.repeat(begin, length + 1), n),
        np.tile(np.arange(n), count),
    ]
    vectors = (dataset.obs[rows], np.repeat(dataset.state[rows], n, axis=0), dataset.avail[rows])
    return [
        *(pa.array(values.astype(np.int32)) for values in ids),
        *(column for values in vectors for column in _vector(values, flat)),
        pa.array(by_step(dataset.action[acts]).astype(np.int32), mask=nothing),
        *(pa.array(by_step(values), mask=nothing) for values in (dataset.reward[acts], terminal, cut)),
        *([pa.array(np.repeat(dataset.won[first:last], (length + 1) * n))] if dataset.spec.has_win else []),
    ]


def _vector(values: np.ndarray, flat: bool) -> Iterator[Any]:
    """One column of lists, or a column for each place; `values` ends with the axis of places."""
    import pyarrow as pa

    matrix = values.reshape(-1, values.shape[-1])
    if not flat:
        yield pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
        return
    for column in np.ascontiguousarray(matrix.T):
        yield pa.array(column.astype(np.uint8) if column.dtype == bool else column)
