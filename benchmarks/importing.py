"""How fast logs are imported, and in how much memory: `python -m benchmarks.importing --gigabytes 2`.

A log of each format is written by the format's own writer, imported in a process of its own, and compared: the
dataset's checksum must be that of the play. MB/s are bytes of the log on disk per second of the whole import.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

AGENTS, ACTIONS, OBS, STATE, LIMIT = 5, 11, 98, 120, 70
IMPORT = """
import json, sys, time
from pathlib import Path
from ovmse.data.importing import import_dataset

def most():
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")]
    return 1024 * int(line.split()[1])

before, began = most(), time.monotonic()
found = import_dataset(Path(sys.argv[1]), sys.argv[2]).metadata
print(json.dumps({"seconds": time.monotonic() - began, "peak": most(), "start": before,
                  "episodes": found.episodes, "steps": found.steps}))
"""


@dataclasses.dataclass(frozen=True)
class Play:
    """Episodes of equal chance lengths; every block of them is drawn from its own seed, so none must be kept."""

    episodes: int
    block: int = 100

    def blocks(self) -> Iterator[dict[str, np.ndarray]]:
        """Blocks of padded episodes, `LIMIT` + 1 rows, as PyMARL lays them out."""
        for first in range(0, self.episodes, self.block):
            count = min(self.block, self.episodes - first)
            rng = np.random.default_rng(first)
            length = rng.integers(LIMIT // 2, LIMIT + 1, count)
            row = np.arange(LIMIT + 1) <= length[:, None]
            avail = rng.random((count, LIMIT + 1, AGENTS, ACTIONS)) < 0.5
            action = rng.integers(0, ACTIONS, (count, LIMIT + 1, AGENTS))
            np.put_along_axis(avail, action[..., None], True, axis=-1)
            yield {
                "obs": rng.standard_normal((count, LIMIT + 1, AGENTS, OBS), np.float32) * row[..., None, None],
                "state": rng.standard_normal((count, LIMIT + 1, STATE), np.float32) * row[..., None],
                "avail": avail & row[..., None, None],
                "action": action * (row & (np.arange(LIMIT + 1) < length[:, None]))[..., None],
                "reward": rng.standard_normal((count, LIMIT + 1), np.float32)
                * (np.arange(LIMIT + 1) < length[:, None]),
                "length": length,
            }

    def flat(self) -> Iterator[dict[str, np.ndarray]]:
        """The same, unpadded: rows (one more per episode than steps) and steps, end to end."""
        for block in self.blocks():
            rows = np.arange(LIMIT + 1) <= block["length"][:, None]
            steps = np.arange(LIMIT + 1) < block["length"][:, None]
            ends = np.arange(LIMIT + 1) == block["length"][:, None] - 1
            yield {
                **{name: block[name][rows] for name in ("obs", "state", "avail")},
                **{name: block[name][steps] for name in ("action", "reward")},
                "terminal": ends[steps],
                "length": block["length"].astype(np.int32),
            }


def hdf5(play: Play, path: Path) -> Path:
    """PyMARL's layout, by h5py, as CFCQL's files are: not compressed."""
    import h5py

    with h5py.File(path / "log.h5", "w") as file:
        for block in play.blocks():
            rows = np.arange(LIMIT + 1) <= block["length"][:, None]
            ends = np.arange(LIMIT + 1) == block["length"][:, None] - 1
            values = {
                "state": block["state"],
                "obs": block["obs"],
                "actions": block["action"][..., None],
                "avail_actions": block["avail"].astype(np.int32),
                "reward": block["reward"][..., None],
                "terminated": ends[..., None].astype(np.uint8),
                "filled": rows[..., None].astype(np.int64),
            }
            for name, new in values.items():
                if name not in file:
                    file.create_dataset(name, data=new, chunks=(10, *new.shape[1:]), maxshape=(None, *new.shape[1:]))
                    continue
                old = file[name]
                old.resize(len(old) + len(new), axis=0)
                old[-len(new) :] = new
    return path / "log.h5"


def vault(play: Play, path: Path) -> Path:
    """By flashbax, with its own settings."""
    import jax.numpy as jnp
    from flashbax.buffers.trajectory_buffer import TrajectoryBufferState
    from flashbax.vault import Vault

    opened: Any = None
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for flat in play.flat():
            last = np.cumsum(flat["length"] + 1) - 1
            at = np.delete(np.arange(len(flat["obs"])), last)  # a vault has no final rows
            agents = np.ones(AGENTS, bool)
            tree = {
                "observations": jnp.asarray(flat["obs"][at][None]),
                "actions": jnp.asarray(flat["action"][None], jnp.int32),
                "rewards": jnp.asarray(flat["reward"][None, :, None] * agents.astype(np.float32)),
                "terminals": jnp.asarray(flat["terminal"][None, :, None] & agents),
                "truncations": jnp.zeros((1, len(at), AGENTS), bool),
                "infos": {
                    "state": jnp.asarray(flat["state"][at][None]),
                    "legals": jnp.asarray(flat["avail"][at][None]),
                },
            }
            opened = opened or Vault("log.vlt", tree, rel_dir=str(path), vault_uid="Good")
            # flashbax takes what lies between its last index and this one
            opened._last_received_fbx_index = 0
            state = TrajectoryBufferState(experience=tree, current_index=jnp.int32(len(at)), is_full=jnp.array(False))
            opened.write(state, source_interval=(0, len(at)))
    return path / "log.vlt" / "Good"


def npz(play: Play, path: Path) -> Path:
    """By NumPy, not compressed."""
    parts = list(play.flat())
    arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    np.savez(path / "log.npz", **arrays)
    return path / "log.npz"


def table(play: Play) -> Iterator[Any]:
    """One row per step and agent, final rows included, as pyarrow's tables."""
    import pyarrow as pa

    first = 0
    for flat in play.flat():
        length = flat["length"]
        last = np.cumsum(length + 1) - 1
        at = np.delete(np.arange(len(flat["obs"])), last)
        rows = len(flat["obs"])
        per_row = {"episode": np.repeat(first + np.arange(len(length)), length + 1)}
        per_row["step"] = np.arange(rows) - np.repeat(last - length, length + 1)
        first += len(length)
        null = np.ones(rows, bool)
        null[at] = False
        reward, terminal = np.zeros(rows, np.float32), np.zeros(rows, bool)
        reward[at], terminal[at] = flat["reward"], flat["terminal"]
        action = np.zeros((rows, AGENTS), np.int64)
        action[at] = flat["action"]
        columns = {name: pa.array(np.repeat(x, AGENTS)) for name, x in per_row.items()}
        columns["agent"] = pa.array(np.tile(np.arange(AGENTS), rows))
        obs, state = flat["obs"].reshape(-1, OBS), np.repeat(flat["state"], AGENTS, axis=0)
        avail = flat["avail"].reshape(-1, ACTIONS).astype(np.int8)
        for name, values in (("obs", obs), ("state", state), ("avail", avail)):
            columns |= {f"{name}_{i}": pa.array(np.ascontiguousarray(values[:, i])) for i in range(values.shape[1])}
        mask = np.repeat(null, AGENTS)
        columns["action"] = pa.array(action.ravel(), mask=mask)
        columns["reward"] = pa.array(np.repeat(reward, AGENTS), mask=mask)
        columns["terminal"] = pa.array(np.repeat(terminal, AGENTS), mask=mask)
        yield pa.table(columns)


def parquet(play: Play, path: Path) -> Path:
    """By pyarrow, with its own settings."""
    import pyarrow.parquet as pq

    writer: Any = None
    for part in table(play):
        writer = writer or pq.ParquetWriter(path / "log.parquet", part.schema)
        writer.write_table(part)
    writer.close()
    return path / "log.parquet"


def csv(play: Play, path: Path) -> Path:
    """By pyarrow."""
    from pyarrow import csv as pyarrow_csv

    writer: Any = None
    for part in table(play):
        writer = writer or pyarrow_csv.CSVWriter(str(path / "log.csv"), part.schema)
        writer.write_table(part)
    writer.close()
    return path / "log.csv"


STEP = 4 * (AGENTS * OBS + STATE)
FORMATS: dict[str, tuple[Callable[[Play, Path], Path], float]] = {
    "hdf5": (hdf5, 1.5 * STEP),
    "vault": (vault, 1.3 * STEP),
    "npz": (npz, 1.06 * STEP),
    "parquet": (parquet, 1.6 * STEP),
    "csv": (csv, 5.0 * STEP),
}
"""The writer, and about how many bytes it takes for a step."""


def measure(name: str, size: float) -> dict[str, Any]:
    """Write a log of about `size` bytes, import it, and compare."""
    write, per_step = FORMATS[name]
    play = Play(max(1, round(size / per_step / (0.75 * LIMIT))))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = write(play, Path(folder))
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        log_bytes = sum(file.stat().st_size for file in files)
        out = Path(folder) / "dataset"
        done = subprocess.run([sys.executable, "-c", IMPORT, path, out], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        found = json.loads(done.stdout)
        same = equal(play, out, final_rows=name != "vault")
        shutil.rmtree(out)
    return {
        "format": name,
        "log_bytes": log_bytes,
        "array_bytes": found["steps"] * STEP,
        "seconds": found["seconds"],
        "mb_per_s": log_bytes / 1e6 / found["seconds"],
        "array_mb_per_s": found["steps"] * STEP / 1e6 / found["seconds"],
        "peak_bytes": found["peak"],
        "peak_over_start_bytes": found["peak"] - found["start"],
        "episodes": found["episodes"],
        "equal": same,
    }


def equal(play: Play, out: Path, final_rows: bool) -> bool:
    """Whether the dataset is the play, bit for bit; final rows only where the format has them."""
    import zarr

    group: Any = zarr.open_group(out, mode="r")
    row = step = 0
    for flat in play.flat():
        last = np.cumsum(flat["length"] + 1) - 1
        at = np.arange(len(flat["obs"])) if final_rows else np.delete(np.arange(len(flat["obs"])), last)
        for name in ("obs", "state", "avail"):
            if not np.array_equal(group[name][row : row + len(flat[name])][at], flat[name][at]):
                return False
        for name in ("action", "reward", "terminal"):
            if not np.array_equal(group[name][step : step + len(flat[name])], flat[name]):
                return False
        row, step = row + len(flat["obs"]), step + len(flat["reward"])
    return row == group["obs"].shape[0] and step == group["reward"].shape[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of each log on disk, about")
    parser.add_argument("--only", nargs="*", choices=list(FORMATS), default=list(FORMATS))
    asked = parser.parse_args()
    for name in asked.only:
        found = measure(name, asked.gigabytes * 1e9)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
