"""A dataset as a table: one row per step and agent, and one per agent for what was seen after the last step."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.table.files import SUFFIXES, suffix
from ovmse.data.schema import cuts, places, starts
from ovmse.system import bounds
from ovmse.system.files import atomic_path

METADATA_KEY = b"ovmse"
WRITABLE = tuple(ending for ending in SUFFIXES if ending not in (".tsv", ".csv.gz", ".tsv.gz"))


def write(dataset: Dataset, path: Path) -> list[str]:
    """Write a dataset as Parquet, Arrow or CSV, by the ending of `path`; return what could not be carried over.

    obs, state and avail are one column of lists each; in CSV numbered columns obs_0, obs_1, and so on. The row after an
    episode's last step has no action, reward, terminal and truncated. Where no game can be won, there is no column won.
    The file appears when it is whole. Raises `UserError` where `path` exists or has another ending.
    """
    if suffix(path) not in WRITABLE:
        raise UserError(f"{path}: expected one of the endings {', '.join(WRITABLE)}.")
    form = SUFFIXES[suffix(path)]
    spec = dataset.spec
    row_bytes = spec.n_agents * (4 * (spec.obs_size + spec.state_size) + spec.n_actions + 40)
    blocks = cuts((dataset.length.astype(np.int64) + 1) * row_bytes, bounds.block_bytes())
    with atomic_path(path) as partial, _opened(partial, form, _schema(dataset, form == "CSV")) as out:
        for first, last in pairwise(blocks):
            out.write_batch(_batch(dataset, first, last, form == "CSV"))
    has_none = "CSV has" if form == "CSV" else "Arrow files have"
    checksums = f"{has_none} no checksums: a damaged file can be read without an error"
    metadata = "CSV has no place for the metadata: the environment, who played, the seed"
    return {"CSV": [metadata, checksums], "Arrow": [checksums], "Parquet": []}[form]


def _opened(path: Path, form: str, schema: Any) -> Any:
    from pyarrow import csv, ipc, parquet

    if form == "CSV":
        return csv.CSVWriter(path, schema, write_options=csv.WriteOptions(quoting_header="none"))
    if form == "Arrow":
        return ipc.new_file(path, schema)
    # Lists of observations hardly repeat: a dictionary for them costs time and space.
    plain = [name for name in schema.names if name not in ("obs", "state")]
    return parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=plain, write_page_checksum=True)


def _schema(dataset: Dataset, flat: bool) -> Any:
    metadata = {**dataclasses.asdict(dataset.metadata), "env": dataset.spec.described()}
    return _batch(dataset, 0, 0, flat).schema.with_metadata({METADATA_KEY: json.dumps(metadata).encode()})


def _batch(dataset: Dataset, first: int, last: int, flat: bool) -> Any:
    """The rows of the episodes from `first` to before `last`, agents of a step together, as a record batch; flat: with
    a column for each place of obs, state and avail, not one of lists."""
    import pyarrow as pa

    n = dataset.spec.n_agents
    length = dataset.length[first:last].astype(np.int64)
    part = places(dataset.length, first, last)
    rows, acts = part["obs"], part["action"]
    count = rows.stop - rows.start
    begin = starts(length + 1)
    final = np.zeros(count, bool)
    final[begin + length] = True

    def by_step(values: np.ndarray) -> np.ndarray:
        """Values of steps, on the rows that lead to them, for every agent."""
        out = np.zeros((count, *values.shape[1:]), values.dtype)
        out[~final] = values
        return out.ravel() if values.ndim > 1 else np.repeat(out, n)

    terminal = dataset.terminal[acts]
    cut = np.zeros(len(terminal), bool)
    ends = np.cumsum(length) - 1
    cut[ends] = ~terminal[ends]
    columns = {
        "episode": np.repeat(np.arange(first, last, dtype=np.int32), (length + 1) * n),
        "step": np.repeat(np.arange(count, dtype=np.int32) - np.repeat(begin, length + 1), n).astype(np.int32),
        "agent": np.tile(np.arange(n, dtype=np.int32), count),
    }
    vectors = {
        "obs": dataset.obs[rows],
        "state": np.repeat(dataset.state[rows], n, axis=0),
        "avail": dataset.avail[rows],
    }
    for name, values in vectors.items():
        matrix = values.reshape(-1, values.shape[-1])
        if flat:
            kept = matrix.astype(np.uint8) if matrix.dtype == bool else matrix
            columns |= {f"{name}_{i}": column for i, column in enumerate(np.ascontiguousarray(kept.T))}
        else:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    by_steps = {"action": dataset.action[acts].astype(np.int32), "reward": dataset.reward[acts]}
    by_steps |= {"terminal": terminal, "truncated": cut}
    columns |= {name: pa.array(by_step(values), mask=np.repeat(final, n)) for name, values in by_steps.items()}
    if dataset.spec.has_win:
        columns["won"] = np.repeat(dataset.won[first:last], (length + 1) * n)
    return pa.RecordBatch.from_pydict(columns)
