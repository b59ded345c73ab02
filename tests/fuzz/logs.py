"""Small sound logs to damage, one per format: each function writes one into a folder and returns its path.

Where the format has a writer of its own (flashbax, h5py, Minari, NumPy, pyarrow), that one writes.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from support import minari_logs, pymarl_logs, vault_logs

from ovmse.data.dataset import Dataset
from ovmse.data.exporting import export_dataset
from ovmse.data.writer import DatasetWriter

EPISODES = 12


def play(path: Path) -> Dataset:
    """A dataset of random episodes of a team of two."""
    rng = np.random.default_rng(0)
    with DatasetWriter(path, name="game") as writer:
        for _ in range(EPISODES):
            steps = int(rng.integers(3, 15))
            avail = rng.random((steps + 1, 2, 5)) < 0.6
            action = rng.integers(0, 5, (steps, 2))
            avail[np.arange(steps)[:, None], np.arange(2), action] = True
            writer.add_episode(
                obs=rng.normal(size=(steps + 1, 2, 6)).astype(np.float32),
                state=rng.normal(size=(steps + 1, 7)).astype(np.float32),
                avail=avail,
                action=action,
                reward=rng.normal(size=steps).astype(np.float32),
                terminal=bool(rng.random() < 0.7),
                won=bool(rng.random() < 0.5),
            )
    return Dataset.open(path)


def dataset(folder: Path) -> Path:
    """Our own format."""
    return play(folder / "dataset").path


def ours(name: str) -> Callable[[Path], Path]:
    """What our exporter writes."""

    def write(folder: Path) -> Path:
        with tempfile.TemporaryDirectory() as elsewhere:
            export_dataset(play(Path(elsewhere) / "made"), folder / name)
        return folder / name

    return write


def npz(save: Callable[..., None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with tempfile.TemporaryDirectory() as elsewhere:
            save(folder / "log.npz", **dict(play(Path(elsewhere) / "made").flat))
        return folder / "log.npz"

    return write


def rewritten(name: str, save: Callable[[pa.Table, Path], None]) -> Callable[[Path], Path]:
    """A table of the same rows, written by pyarrow with its own settings."""

    def write(folder: Path) -> Path:
        with tempfile.TemporaryDirectory() as elsewhere:
            save(pq.read_table(ours("log.parquet")(Path(elsewhere))), folder / name)
        return folder / name

    return write


def vault_of_flashbax(folder: Path) -> Path:
    return Path(vault_logs.flashbax_write(folder, vault_logs.experience(np.random.default_rng(0), [5, 9, 4, 12, 7])))


def hdf5(**options: object) -> Callable[[Path], Path]:
    """The way of PyMARL's kin."""

    def write(folder: Path) -> Path:
        lengths = [1 + i % pymarl_logs.LIMIT for i in range(EPISODES)]
        return pymarl_logs.save(folder / "log.h5", pymarl_logs.batch(np.random.default_rng(0), lengths), **options)

    return write


def minari(form: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        agents, rng = minari_logs.UNEQUAL, np.random.default_rng(0)
        made = minari_logs.buffers(rng, agents, [4, 7, 3, 9, 5, 6], True)
        return Path(minari_logs.write(folder, made, *minari_logs.spaces(agents, True), form))

    return write


SOURCES: dict[str, Callable[[Path], Path]] = {
    "dataset": dataset,
    "vault": ours("log.vlt"),
    "vault, flashbax": vault_of_flashbax,
    "hdf5": ours("log.h5"),
    "hdf5, plain": hdf5(),
    "hdf5, gzip": hdf5(compression="gzip"),
    "npz": npz(np.savez),
    "npz, compressed": npz(np.savez_compressed),
    "parquet": ours("log.parquet"),
    "parquet, pyarrow": rewritten("log.parquet", pq.write_table),
    "arrow": ours("log.arrow"),
    "feather, pyarrow": rewritten("log.feather", pyarrow.feather.write_feather),
    "csv": ours("log.csv"),
    "minari, hdf5": minari("hdf5"),
    "minari, arrow": minari("arrow"),
}
