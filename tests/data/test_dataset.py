"""Datasets on disk: what is written comes back, what is damaged or wrong is refused with its place."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings, strategies as st
from support.places import ROOT

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Episode, action_dtype
from ovmse.data import folder, zarr_files
from ovmse.data.dataset import Dataset, Metadata
from ovmse.data.flat import pack
from ovmse.data.schema import KINDS, NAMED, Names, starts, step_rows
from ovmse.data.validation import examine
from ovmse.inspection.inspect import diagnose
from ovmse.system import files

SPEC = EnvSpec("toy:duel", "toy 1.2", {"map": "small", "inputs": [3, 4]}, 2, 4, 5, 6, 9, True)
LENGTHS = (3, 1, 4)


def make_flat(spec=SPEC, lengths=LENGTHS, seed=0):
    """Sound random play: action 0 is always legal, every episode but the last one ends by the task."""
    rng = np.random.default_rng(seed)
    length = np.array(lengths)
    steps, rows = int(length.sum()), int((length + 1).sum())
    avail = rng.random((rows, spec.n_agents, spec.n_actions)) < 0.5
    avail[..., 0] = True
    weight = rng.random((steps, spec.n_agents, spec.n_actions)) * avail[step_rows(length)]
    terminal = np.zeros(steps, bool)
    terminal[np.cumsum(length)[:-1] - 1] = True
    return {
        "obs": rng.normal(size=(rows, spec.n_agents, spec.obs_size)).astype(np.float32),
        "state": rng.normal(size=(rows, spec.state_size)).astype(np.float32),
        "avail": avail,
        "action": weight.argmax(-1),
        "reward": rng.normal(size=steps).astype(np.float32),
        "terminal": terminal,
        "length": length,
        "won": (rng.random(len(length)) < 0.5) & spec.has_win,
    }


def write(path, flat=None, spec=SPEC, **fields):
    return Dataset.write(path, spec=spec, **(flat or make_flat(spec)), **{"behaviour": "random", **fields})


def in_memory(flat):
    """A dataset that was never on disk."""
    metadata = Metadata(1, SPEC, "", "", None, "", "", "", 1, 1, 0.0, 0.0, 0.0, 0.0, None)
    return Dataset(Path("memory"), metadata, **flat)


def message(call, *args, **kwargs):
    """What the `UserError` of a call says."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "play"
    write(path)
    return path


@pytest.fixture
def copy(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "copy")
    return tmp_path / "copy"


# --- what is written comes back


@settings(max_examples=25, deadline=None)
@given(
    n_agents=st.integers(1, 3),
    n_actions=st.integers(1, 5),
    obs_size=st.integers(1, 4),
    state_size=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    has_win=st.booleans(),
    seed=st.integers(0, 99),
)
@pytest.mark.slow
def test_round_trip(tmp_path_factory, n_agents, n_actions, obs_size, state_size, lengths, has_win, seed):
    spec = EnvSpec("toy", "1", {}, n_agents, n_actions, obs_size, state_size, 7, has_win)
    flat = make_flat(spec, lengths, seed)
    path = tmp_path_factory.mktemp("trip") / "play"
    written = write(path, flat, spec, seed=seed, created="2026-01-31")
    read = Dataset.open(path)
    assert read.metadata == written.metadata
    for field, expected in flat.items():
        np.testing.assert_array_equal(getattr(read, field), expected)
        np.testing.assert_array_equal(getattr(written, field), expected)
        assert getattr(read, field).dtype == getattr(written, field).dtype
    ends = np.cumsum(lengths)
    returns = [flat["reward"][end - n : end].astype(float).sum() for end, n in zip(ends, lengths, strict=True)]
    np.testing.assert_allclose(read.returns(), returns, rtol=1e-6, atol=1e-6)
    assert read.metadata.return_max == pytest.approx(max(returns), abs=1e-6)
    assert read.metadata.win_rate == (pytest.approx(flat["won"].mean()) if has_win else None)
    read.check_env(spec)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_packing_padded_episodes_undoes_episode(lengths, seed):
    """Episodes cut out of a dataset, padded with rubbish and packed again, are the dataset."""
    flat = make_flat(lengths=lengths, seed=seed)
    dataset = in_memory(flat)
    episodes = [dataset.episode(i) for i in range(len(lengths))]
    assert [len(e.action) for e in episodes] == lengths
    assert all(len(e.obs) == len(e.state) == len(e.avail) == len(e.action) + 1 for e in episodes)

    def pad(x, size):
        filler = np.full((size - len(x), *x.shape[1:]), 77).astype(x.dtype)
        return np.concatenate([x, filler])

    def stack(field):
        size = SPEC.episode_limit + (field in ("obs", "state", "avail"))
        return np.stack([pad(getattr(e, field), size) for e in episodes])

    valid = np.stack([np.arange(SPEC.episode_limit) < n for n in lengths])
    stacked = Episode(**{f: stack(f) for f in Episode._fields if f != "valid"}, valid=valid)
    packed = pack(stacked, flat["won"])
    assert packed.keys() == flat.keys()
    for field in flat:
        np.testing.assert_array_equal(packed[field], flat[field])


def test_pack_refuses_a_gap():
    flat = make_flat(lengths=(2,))
    episode = in_memory(flat).episode(0)
    stacked = Episode(*(np.stack([x, x]) for x in episode))
    stacked.valid[1, 0] = False
    assert "episode 1: expected its valid steps first" in message(pack, stacked, np.zeros(2, bool))


def test_offsets_point_at_the_episodes(sound):
    dataset = Dataset.open(sound)
    assert dataset.step_start.tolist() == [0, 3, 4]
    assert dataset.row_start.tolist() == [0, 4, 6]
    assert step_rows(dataset.length).tolist() == [0, 1, 2, 4, 6, 7, 8, 9]
    assert starts(np.array([5])).tolist() == [0]
    last = dataset.episode(2)
    np.testing.assert_array_equal(last.obs, dataset.obs[6:11])
    np.testing.assert_array_equal(last.reward, dataset.reward[4:8])
    assert last.action.dtype == np.int32 and last.valid.all()
    for index in (-1, 3):
        assert f"no episode {index}; expected 0 to 2" in message(dataset.episode, index)


def test_the_last_episodes_are_read_as_fast_as_the_first():
    """Where the lengths before an episode are summed up each time, a loop over all takes the square of their number."""
    flat = {field: np.zeros((1, 1), np.uint8) for field in KINDS}
    dataset = in_memory(flat | {"length": np.ones(4_000_000, np.int32)})
    dataset.episode(0)  # the one time that all are summed up

    def seconds(first):
        began = time.process_time()
        for index in range(first, first + 100):
            dataset.episode(index)
        return time.process_time() - began

    assert seconds(len(dataset.length) - 100) < 10 * seconds(0)


def test_half_precision_is_read_as_float32(tmp_path):
    flat = make_flat()
    flat["obs"][0, 0, 0] = 1e-12  # becomes 0
    written = write(tmp_path / "half", flat, float_dtype="float16")
    read = Dataset.open(tmp_path / "half")
    assert read.obs.dtype == read.state.dtype == np.float32
    np.testing.assert_array_equal(read.obs, flat["obs"].astype(np.float16))
    np.testing.assert_array_equal(read.state, written.state)
    assert zarr.open_group(tmp_path / "half", mode="r")["obs"].dtype == np.float16
    flat["state"][2, 1] = -70000
    assert "state reaches 70000, float16 holds up to 65504" in message(
        write, tmp_path / "over", flat, float_dtype="float16"
    )
    assert "unknown float_dtype 'float61'" in message(write, tmp_path / "over", flat, float_dtype="float61")


def test_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_files, "CHUNK_BYTES", 100)
    flat = make_flat(lengths=(5, 7, 2))
    write(tmp_path / "many", flat)
    assert len(list((tmp_path / "many" / "obs").glob("c.*"))) > 5
    np.testing.assert_array_equal(Dataset.open(tmp_path / "many").obs, flat["obs"])


def test_zero_arrays_are_stored(tmp_path):
    """Zarr leaves out chunks of fill values by default; then a lost chunk could not be told from zeros."""
    flat = make_flat()
    flat["reward"] = np.zeros_like(flat["reward"])
    write(tmp_path / "zero", flat)
    assert (tmp_path / "zero" / "reward" / "c.0").is_file()
    (tmp_path / "zero" / "reward" / "c.0").unlink()
    assert "chunk (0,) of reward is missing" in message(Dataset.open, tmp_path / "zero")


@pytest.mark.parametrize(("n_actions", "dtype"), [(256, "uint8"), (257, "uint16"), (65537, "int32")])
def test_actions_use_the_smallest_dtype(tmp_path, n_actions, dtype):
    assert action_dtype(n_actions) == dtype
    if n_actions < 1000:
        spec = SPEC._replace(n_actions=n_actions)
        flat = make_flat(spec)
        flat["action"][0, 0] = n_actions - 1
        flat["avail"][0, 0, -1] = True
        assert write(tmp_path / "a", flat, spec).action.dtype == dtype
        assert Dataset.open(tmp_path / "a").action[0, 0] == n_actions - 1


def test_arrays_are_read_only_and_the_callers_stay_writable(tmp_path):
    flat = make_flat()
    written = write(tmp_path / "a", flat)
    for dataset in (written, Dataset.open(tmp_path / "a")):
        for field in KINDS:
            assert not getattr(dataset, field).flags.writeable
    assert all(array.flags.writeable for array in flat.values())


def test_metadata_is_kept(tmp_path):
    fields = {
        "quality": "medium",
        "seed": 7,
        "git_revision": "abc",
        "command": "ovmse collect",
        "created": "2026-02-03",
    }
    write(tmp_path / "a", behaviour="QMIX half-way", **fields)
    metadata = Dataset.open(tmp_path / "a").metadata
    assert metadata.env == SPEC
    assert metadata.behaviour == "QMIX half-way"
    assert {name: getattr(metadata, name) for name in fields} == fields
    assert (metadata.episodes, metadata.steps, metadata.schema_version) == (3, 8, 1)


# --- finding a dataset


def test_a_shipped_dataset_opens_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_shipped_root", lambda: tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    assert "no such dataset" in message(Dataset.open, "smax-3m-medium")
    write(tmp_path / "shipped" / "smax-3m-medium", quality="shipped")
    assert folder.shipped() == ("smax-3m-medium",)
    assert Dataset.open("smax-3m-medium").metadata.quality == "shipped"
    assert "Did you mean 'smax-3m-medium'?" in message(Dataset.open, "smax-3m-medum")
    write(tmp_path / "smax-3m-medium", quality="local")  # a path that exists wins
    assert Dataset.open("smax-3m-medium").metadata.quality == "local"


def test_a_file_or_another_directory_is_no_dataset(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "expected a dataset's directory, got a file" in message(Dataset.open, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "zarr.json is missing" in message(Dataset.open, tmp_path / "empty")


# --- damage


@pytest.mark.parametrize("field", KINDS)
def test_a_flipped_bit_is_found(copy, field):
    file = next((copy / field).glob("c.*"))
    sound_bytes = file.read_bytes()
    for position in {*range(0, len(sound_bytes), max(1, len(sound_bytes) // 12)), len(sound_bytes) - 1}:
        damaged = bytearray(sound_bytes)
        damaged[position] ^= 1 << (position % 8)
        file.write_bytes(damaged)
        assert str(file) in message(Dataset.open, copy)
    file.write_bytes(sound_bytes)
    Dataset.open(copy)


@pytest.mark.parametrize("field", KINDS)
@pytest.mark.parametrize("keep", [0, 3, 0.5, -1])
def test_a_truncated_chunk_is_found(copy, field, keep):
    file = next((copy / field).glob("c.*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    assert str(file) in message(Dataset.open, copy)


@pytest.mark.parametrize("field", KINDS)
def test_a_missing_file_is_found(copy, field):
    file = next((copy / field).glob("c.*"))
    file.rename(copy / "aside")
    assert f"{file}: chunk" in message(Dataset.open, copy)
    (copy / "aside").rename(file)
    (copy / field / "zarr.json").rename(copy / "aside")
    assert str(copy / field / "zarr.json") in message(Dataset.open, copy)
    shutil.rmtree(copy / field)
    assert str(copy / field) in message(Dataset.open, copy)


@pytest.mark.parametrize("where", ["", "obs", "length"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"zarr_format": 3}', "\x00\xff", '{"zarr_format": 2}'])
def test_garbage_metadata_is_found(copy, where, text):
    file = copy / where / "zarr.json"
    file.write_bytes(text.encode("latin-1"))
    assert str(file) in message(Dataset.open, copy)


def test_the_damaged_chunk_among_many_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_files, "CHUNK_BYTES", 100)
    write(tmp_path / "many")
    file = tmp_path / "many" / "obs" / "c.4.0.0"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert str(file) in message(Dataset.open, tmp_path / "many")


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"complete": False}, "not a complete dataset"),
        ({"schema_version": 2}, "expected schema_version 1, got 2"),
        ({"episodes": 4}, "shape (12, 2, 5), got float32 of shape (11, 2, 5)"),
        ({"steps": 9}, "shape (12, 2, 5), got float32 of shape (11, 2, 5)"),
        ({"steps": 7, "episodes": 4}, "action: the metadata|shape (7, 2), got uint8|shape (8, 2)"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"steps": "8"}, "steps: expected int, got '8'"),
        ({"steps": True}, "steps: expected int, got True"),
        ({"seed": 1.5}, "seed: expected int or null, got 1.5"),
        ({"behaviour": None}, "behaviour: expected str, got None"),
        ({"env": 3}, "env: expected a JSON object, got 3"),
        ({"env": {"name": "toy"}}, "env: version: expected str, got 'nothing'"),
        ({"return_mean": 5}, "return_mean: the metadata says 5.0, the data"),
        ({"return_std": -1.0}, "return_std: the metadata says -1.0"),
        ({"win_rate": None}, "win_rate: the metadata says None"),
        ({"win_rate": 0.9}, "win_rate: the metadata says 0.9"),
    ],
)
def test_metadata_that_contradicts_the_data_is_refused(copy, change, says):
    edit(copy / "zarr.json", lambda content: content["attributes"].update(change))
    text = message(Dataset.open, copy)
    assert str(copy) in text and any(part in text for part in says.split("|"))


def test_no_wins_is_not_the_same_as_no_win_rate(tmp_path):
    write(tmp_path / "lost", {**make_flat(), "won": np.zeros(3, bool)})
    edit(tmp_path / "lost" / "zarr.json", lambda content: content["attributes"].update(win_rate=None))
    assert "win_rate: the metadata says None, the data 0.0" in message(Dataset.open, tmp_path / "lost")


def test_a_missing_attribute_is_named(copy):
    edit(copy / "zarr.json", lambda content: content["attributes"].pop("quality"))
    assert "quality: expected str" in message(Dataset.open, copy)


def test_lengths_that_contradict_the_arrays_are_refused(copy):
    length = zarr.open_group(copy, mode="r+")["length"]
    length[...] = np.array([3, 2, 4])
    assert "expected floating-point of shape (12, 2, 5), got float32 of shape (11, 2, 5)" in message(Dataset.open, copy)
    length[...] = np.array([3, 0, 5])
    assert "episode 1: expected a length of at least 1, got 0 (1 in all)" in message(Dataset.open, copy)


def test_an_array_without_checksums_is_refused(copy):
    group = zarr.open_group(copy, mode="r+")
    reward = group["reward"][...]
    group.create_array("reward", data=reward, overwrite=True)
    assert "expected crc32c as the last codec" in message(Dataset.open, copy)


def test_values_that_are_not_those_of_the_checksum_are_refused(copy):
    """Chunks have checksums of their own: only whoever writes a valid chunk, or changes the metadata, gets here."""
    state = zarr.open_group(copy, mode="r+")["state"]
    before = state[0]
    state[0] = before + 1
    assert "checksum: the metadata says 'sha256:" in message(Dataset.open, copy)
    state[0] = before
    Dataset.open(copy)
    edit(copy / "zarr.json", lambda content: content["attributes"].update(checksum="sha276:00"))
    assert "says 'sha276:00', the arrays have 'sha256:" in message(Dataset.open, copy)
    [found] = [f for f in diagnose(copy, clone=False).findings if f.severity == "error"]
    assert found.kind == "metadata contradicts the data" and found.first.startswith("checksum: ")


def test_values_are_checked_on_reading(copy):
    zarr.open_group(copy, mode="r+")["reward"][5] = np.nan
    assert "reward is not finite: episode 2, step 1: expected a finite number, got nan" in message(Dataset.open, copy)


# --- a writer that fails or is killed


@pytest.mark.parametrize(("module", "target"), [(zarr_files, "_write_files"), (files, "sync")])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, module, target, error):
    real = getattr(module, target)

    def fail(*args):
        real(*args)
        raise error("stop")

    monkeypatch.setattr(module, target, fail)
    with pytest.raises(UserError if error is OSError else error, match="stop"):
        write(tmp_path / "out" / "play")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_killed_write_leaves_nothing_that_opens(tmp_path):
    script = f"""
import sys, time, numpy as np
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from ovmse.data import zarr_files
from test_dataset import write
rows = []
class Slow(dict):
    def __getitem__(self, field):
        if field == "terminal":
            print("half", flush=True)
            time.sleep(60)
        return super().__getitem__(field)
real = zarr_files._write_files
zarr_files._write_files = lambda path, metadata, fields: real(path, metadata, Slow(fields))
write({str(tmp_path / "play")!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "play").exists()
    (left,) = tmp_path.iterdir()
    assert (left / "obs" / "zarr.json").is_file()
    assert "not a complete dataset" in message(Dataset.open, left)
    write(tmp_path / "play")
    Dataset.open(tmp_path / "play")


def test_a_directory_in_use_is_left_alone(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").write_text("keep")
    assert "output directory in use" in message(write, tmp_path / "used")
    assert [f.name for f in tmp_path.rglob("*")] == ["used", "notes"]
    assert "output directory in use" in message(write, tmp_path / "used" / "notes")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    Dataset.open(tmp_path / "empty")
    assert "output directory in use" in message(write, tmp_path / "empty")


def test_only_the_dataset_is_left_on_disk(tmp_path):
    write(tmp_path / "play")
    assert [entry.name for entry in tmp_path.iterdir()] == ["play"]
    found = {str(f.relative_to(tmp_path / "play").parent) for f in (tmp_path / "play").rglob("*") if f.is_file()}
    assert found == {".", *KINDS}


# --- the doctor: every fault with its place


def put(field, index, value):
    def change(flat):
        flat[field][index] = value

    return change


def illegal(flat):
    flat["avail"][7, 1] = [True, False, True, False]
    flat["action"][5, 1] = 3


# Lengths 3, 1, 4: row 7 and step 5 are episode 2, step 1; row 10 is that episode's final row.
FAULTS = [
    (
        put("obs", (7, 1, 4), np.nan),
        "obs is not finite: episode 2, step 1, agent 1, feature 4",
        "got nan (1 in all)",
    ),
    (
        put("obs", (3, 0, 2), -np.inf),
        "obs is not finite: episode 0, step 3, agent 0, feature 2",
        "got -inf (1 in",
    ),
    (
        put("state", (5, slice(2, 4)), np.inf),
        "state is not finite: episode 1, step 1, feature 2",
        "got inf (2 in all)",
    ),
    (put("reward", [3, 4], np.nan), "reward is not finite: episode 1, step 0:", "got nan (2 in all)"),
    (
        put("action", (5, 1), 4),
        "action out of range: episode 2, step 1, agent 1: expected 0 to 3, got 4",
        "(1 in",
    ),
    (
        put("action", (7, 0), -1),
        "action out of range: episode 2, step 3, agent 0: expected 0 to 3, got -1",
        "(1 in",
    ),
    (illegal, "illegal recorded action: episode 2, step 1, agent 1: action 3, legal are 0, 2", "(1 in all)"),
    (put("avail", (4, 1), False), "no legal action: episode 1, step 0, agent 1:", "(1 in all)"),
    (
        put("terminal", [0, 5], True),
        "terminal before the last step: episode 0, step 0:",
        "only at step 2",
        "(2 in",
    ),
    (put("terminal", 6, True), "terminal before the last step: episode 2, step 2:", "only at step 3"),
]


@pytest.mark.parametrize(("change", "says"), [(fault[0], fault[1:]) for fault in FAULTS])
def test_a_fault_is_named_with_its_place(tmp_path, change, says):
    flat = make_flat()
    change(flat)
    text = message(write, tmp_path / "play", flat)
    assert str(tmp_path / "play") in text
    for part in says:
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_all_kinds_of_fault_are_reported_at_once():
    flat = make_flat()
    assert examine(flat, SPEC.episode_limit) == ()
    for change, *_ in FAULTS:
        change(flat)
    assert len(examine(flat, SPEC.episode_limit)) == 7
    assert [finding.kind for finding in examine(make_flat(), 3)] == ["episode longer than episode_limit"]


def test_the_final_row_needs_no_legal_action(tmp_path):
    flat = make_flat()
    flat["avail"][[3, 5, 10]] = False
    write(tmp_path / "play", flat)
    np.testing.assert_array_equal(Dataset.open(tmp_path / "play").avail, flat["avail"])


def test_a_terminal_last_step_is_right(tmp_path):
    flat = make_flat()
    flat["terminal"][[2, 3, 7]] = True
    write(tmp_path / "play", flat)
    assert np.flatnonzero(Dataset.open(tmp_path / "play").terminal).tolist() == [2, 3, 7]


def test_an_action_beyond_the_small_dtype_is_found_before_it_wraps(tmp_path):
    flat = make_flat()
    flat["action"][0, 0] = 256  # would be 0 as uint8
    assert "episode 0, step 0, agent 0: expected 0 to 3, got 256" in message(write, tmp_path / "play", flat)


def test_lengths_in_a_small_dtype_do_not_wrap(tmp_path):
    spec = SPEC._replace(episode_limit=255)
    flat = make_flat(spec, (255, 3))
    flat["length"] = flat["length"].astype(np.uint8)
    write(tmp_path / "play", flat, spec)
    assert Dataset.open(tmp_path / "play").length.tolist() == [255, 3]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"length": np.array([3, 0, 5])}, "episode 1: expected a length of at least 1, got 0 (1 in all)"),
        ({"length": np.array([3, 6, -1])}, "episode 2: expected a length of at least 1, got -1 (1 in all)"),
        ({"length": np.zeros(0, int)}, "expected integers of shape (episodes,), at least one"),
        (
            {"length": np.array([3.0, 1, 4])},
            "expected integers of shape (episodes,), at least one; got float64",
        ),
        (
            {"length": np.array([8])},
            "obs: expected floating-point of shape (9, 2, 5), got float32 of shape (11, 2, 5)",
        ),
        ({"obs": np.zeros((11, 2, 5), int)}, "obs: expected floating-point of shape (11, 2, 5), got int64"),
        ({"avail": np.ones((11, 2, 4))}, "avail: expected bool of shape (11, 2, 4), got float64"),
        (
            {"action": np.zeros((8, 2))},
            "action: expected integer of shape (8, 2), got float64 of shape (8, 2)",
        ),
        (
            {"reward": np.zeros((8, 2))},
            "reward: expected floating-point of shape (8,), got float64 of shape (8, 2)",
        ),
        ({"won": np.zeros(2, bool)}, "won: expected bool of shape (3,), got bool of shape (2,)"),
        ({"obs": np.full((11, 2, 5), 1e300)}, "obs is not finite: episode 0, step 0, agent 0, feature 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, says):
    assert says in message(write, tmp_path / "play", {**make_flat(), **change})
    assert list(tmp_path.iterdir()) == []


def test_an_episode_beyond_the_limit_is_refused(tmp_path):
    spec = SPEC._replace(episode_limit=2)
    text = message(write, tmp_path / "play", make_flat(), spec)
    assert "episode 0: expected at most 2 steps, got 3 (2 in all)" in text


def test_wins_without_a_win_are_refused(tmp_path):
    flat = make_flat()
    flat["won"][:] = [False, True, False]
    text = message(write, tmp_path / "play", flat, SPEC._replace(has_win=False))
    assert "'toy:duel' cannot be won" in text and "episode 1 is true" in text


def test_settings_must_be_json(tmp_path):
    assert "expected JSON values only" in message(
        write, tmp_path / "play", make_flat(), SPEC._replace(settings={"f": object()})
    )


# --- the environment


def test_the_own_environment_is_accepted(sound):
    dataset = Dataset.open(sound)
    dataset.check_env(SPEC)
    dataset.check_env(SPEC._replace(settings={"map": "small", "inputs": (3, 4)}))  # JSON has no tuples
    with pytest.raises(UserError):
        dataset.check_env(SPEC._replace(settings={"map": "small", "inputs": (3, 5)}))


def test_all_size_mismatches_are_listed_before_the_name(sound):
    spec = SPEC._replace(name="other", n_agents=3, n_actions=9, obs_size=1, state_size=2, episode_limit=50)
    text = message(Dataset.open(sound).check_env, spec, allow_version_mismatch=True)
    for part in (
        "n_agents: expected 2, got 3",
        "n_actions: expected 4, got 9",
        "obs_size: expected 5, got 1",
    ):
        assert part in text
    assert "state_size: expected 6, got 2" in text and "episode_limit: expected 9, got 50" in text


def test_another_name_is_refused(sound):
    check = Dataset.open(sound).check_env
    for allow in (False, True):
        text = message(check, SPEC._replace(name="toy:trio"), allow_version_mismatch=allow)
        assert "expected the environment 'toy:duel'" in text and "got 'toy:trio'" in text


@pytest.mark.parametrize("other", [{"version": "toy 2.0"}, {"settings": {"map": "large"}}])
def test_another_version_or_settings_need_the_flag(sound, other):
    dataset = Dataset.open(sound)
    text = message(dataset.check_env, SPEC._replace(**other))
    assert next(iter(other)) in text and "--allow-version-mismatch" in text and repr(next(iter(other.values()))) in text
    dataset.check_env(SPEC._replace(**other), allow_version_mismatch=True)


def test_metadata_cannot_be_changed(sound):
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dataset.open(sound).metadata.steps = 3


def test_the_documented_example_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "datasets.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Dataset.write(" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert Dataset.open("my-data").metadata.steps == 10


NAMES = Names(("bee", "ant"), tuple("abcd"), tuple("vwxyz"), None)


def test_names_are_kept_and_are_optional(tmp_path):
    dataset = write(tmp_path / "play", names=NAMES)
    found = Dataset.open(dataset.path).metadata
    assert found.names == NAMES
    assert (found.agents, found.actions, found.state_features) == (NAMES.agents, NAMES.actions, None)
    file = dataset.path / "zarr.json"
    stored = json.loads(file.read_text())
    for name in NAMED:  # as an older version wrote it
        del stored["attributes"][name]
    file.write_text(json.dumps(stored))
    assert Dataset.open(dataset.path).metadata.names == Names()


@pytest.mark.parametrize(
    ("agents", "words"),
    [(("ant",), "agents: expected 2 names (n_agents), got 1"), (("ant", "ant"), "'ant' comes twice")],
)
def test_names_that_do_not_fit_are_refused(tmp_path, agents, words):
    with pytest.raises(UserError, match=re.escape(words)):
        write(tmp_path / "play", names=Names(agents))
    dataset = write(tmp_path / "play")
    file = dataset.path / "zarr.json"
    stored = json.loads(file.read_text())
    stored["attributes"]["agents"] = agents
    file.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=re.escape(words)):
        Dataset.open(dataset.path)
