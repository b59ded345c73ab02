"""What unpacks to far more than it stores is refused by its headers, before it is unpacked; a setting allows it."""

import tracemalloc
import zipfile
from functools import partial

import h5py
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.archives import make_zip, message
from support.episodes import SPEC, random_episode, write_dataset

from ovmse.collection.unpack import unpack
from ovmse.data.dataset import Dataset
from ovmse.data.importing import import_dataset
from ovmse.data.stream import scan_dataset
from ovmse.data.zarr_files import zstd_bytes
from ovmse.system import bounds

STEPS = 400_000


def episode(steps):
    """One episode of nothing but zeros, in the flat layout, and its table."""
    row = {"obs": np.zeros((steps, 1, 8), np.float32), "action": np.zeros((steps, 1), np.int64)}
    arrays = row | {"reward": np.zeros(steps), "terminal": np.zeros(steps, bool), "length": np.array([steps])}
    columns = {"episode": np.zeros(steps, int), "step": np.arange(steps), "agent": np.zeros(steps, int)}
    columns |= {"action": np.zeros(steps, int), "reward": np.zeros(steps)}
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8 * steps, np.float32)), 8)
    return arrays, pa.table(columns | {"obs": lists})


def hdf5(path, arrays, steps):
    shapes = {"obs": (1, steps, 1, 8), "actions": (1, steps, 1, 1), "reward": (1, steps, 1)}
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            kind = "i8" if name == "actions" else "f4"
            file.create_dataset(name, data=np.zeros(shape, kind), compression="gzip")
        for name in ("filled", "terminated"):
            file.create_dataset(name, data=np.full((1, steps, 1), name == "filled", "u1"), compression="gzip")


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Files of some kilobytes that hold an episode of 20 MB."""
    folder = tmp_path_factory.mktemp("bombs")
    arrays, table = episode(STEPS)
    np.savez_compressed(folder / "flat.npz", **arrays)
    padded = {name: values[None] for name, values in arrays.items() if name != "length"}
    np.savez_compressed(folder / "padded.npz", length=np.array([STEPS]), **padded)
    hdf5(folder / "log.h5", arrays, STEPS)
    parquet.write_table(table, folder / "log.parquet", compression="zstd", row_group_size=STEPS)
    return folder


@pytest.mark.parametrize("name", ["flat.npz", "padded.npz", "log.h5", "log.parquet"])
def test_an_episode_that_unpacks_to_too_much_is_refused_by_its_headers(tmp_path, monkeypatch, bombs, name):
    assert (bombs / name).stat().st_size < 2**20
    monkeypatch.setenv(bounds.VARIABLE, "8000000")
    tracemalloc.start()
    said = message(partial(import_dataset, n_actions=1), bombs / name, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert name in said and "expected at most 8,000,000" in said and f"set {bounds.VARIABLE}=" in said
    assert peak < 12_000_000 and not (tmp_path / "out").exists()


def test_the_setting_that_the_error_names_lets_the_file_through(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "log.npz", **episode(1000)[0])
    monkeypatch.setenv(bounds.VARIABLE, "20000")
    said = message(import_dataset, tmp_path / "log.npz", tmp_path / "out")
    monkeypatch.setenv(bounds.VARIABLE, said.rpartition("=")[2].rstrip("."))
    assert import_dataset(tmp_path / "log.npz", tmp_path / "out").metadata.steps == 1000


@pytest.mark.parametrize("text", ["much", "0", "-1", "1e9", "²", "9" * 30])
def test_the_setting_is_a_number_of_bytes(monkeypatch, text):
    monkeypatch.setenv(bounds.VARIABLE, text)
    assert f"{bounds.VARIABLE}: expected a number of bytes" in message(bounds.limit)
    monkeypatch.setenv(bounds.BLOCK_VARIABLE, text)
    assert f"{bounds.BLOCK_VARIABLE}: expected a number of bytes" in message(bounds.block_bytes)


def test_a_dataset_that_is_no_log_but_zeros_is_refused_whole_and_by_its_longest_episode(tmp_path, monkeypatch):
    arrays, _ = episode(STEPS // 2)
    np.savez_compressed(tmp_path / "log.npz", **arrays)
    import_dataset(tmp_path / "log.npz", tmp_path / "data")
    monkeypatch.setenv(bounds.VARIABLE, "4000000")
    assert "all of it" in message(Dataset.open, tmp_path / "data")
    assert "episode 0 would unpack to" in message(scan_dataset, tmp_path / "data")


def test_no_more_is_decoded_than_a_chunk_has(tmp_path):
    write_dataset(tmp_path / "data", SPEC, [random_episode(np.random.default_rng(0), 4) for _ in range(3)])
    chunk = next(path for path in (tmp_path / "data" / "obs").iterdir() if path.name != "zarr.json")
    whole = chunk.read_bytes()
    size = zstd_bytes(whole[:18])
    assert size == Dataset.open(tmp_path / "data").obs.nbytes
    chunk.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + (2**45).to_bytes(8, "little") + whole[9:])
    assert f"expected {size} bytes, it declares {2**45:,}" in message(Dataset.open, tmp_path / "data")
    found = scan_dataset(tmp_path / "data")
    assert not found.sound.any() and "it declares" in found.findings[-1].first


def test_a_text_that_comes_a_million_times_is_held_once(tmp_path):
    arrays, table = episode(3000)
    named = pa.array(["x" * 100_000] * 3000)
    parquet.write_table(table.set_column(0, "episode", named), tmp_path / "log.parquet")
    assert (tmp_path / "log.parquet").stat().st_size < 2**20
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    try:
        made = import_dataset(tmp_path / "log.parquet", tmp_path / "out")
    finally:
        pa.set_memory_pool(usual)
    assert made.metadata.episodes == 1
    assert 0 < counting.max_memory() < 3000 * 100_000


def test_a_file_of_more_episodes_than_memory_holds_is_refused(tmp_path, monkeypatch):
    arrays, _ = episode(4000)
    np.savez_compressed(tmp_path / "log.npz", **arrays | {"length": np.ones(4000, np.int8)})
    monkeypatch.setenv(bounds.VARIABLE, "50000")
    assert "4,000 episodes would unpack" in message(import_dataset, tmp_path / "log.npz", tmp_path / "out")


def test_an_archive_over_its_bound_names_the_setting(tmp_path, monkeypatch):
    (tmp_path / "archive").write_bytes(make_zip({"zeros": bytes(2**25)}, compression=zipfile.ZIP_DEFLATED))
    (tmp_path / "into").mkdir()
    assert bounds.VARIABLE in message(unpack, tmp_path / "archive", tmp_path / "into")
    monkeypatch.setenv(bounds.VARIABLE, str(2**26))
    unpack(tmp_path / "archive", tmp_path / "into")
    assert (tmp_path / "into" / "zeros").stat().st_size == 2**25
