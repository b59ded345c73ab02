"""Arrays in .npz files, episodes from Python, and pickles: what goes in comes out, damage and pickles are refused."""

import io
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.corrupt import damaged
from support.episodes import SPEC, random_episode, write_dataset

from ovmse.core.errors import UserError
from ovmse.data.formats import episodes, pickles
from ovmse.data.formats.npz import reader
from ovmse.data.raw_episode import AssumptionLog, ImportRules, complete_episode
from ovmse.data.schema import KINDS

FIELDS = ("obs", "state", "avail", "action", "reward", "terminal")


def random_log(rng, lengths, n=2, o=3, s=2, a=4, final=True):
    """The arrays of random episodes, one dictionary each."""
    made = []
    for steps in lengths:
        rows = steps + final
        made.append(
            {
                "obs": rng.normal(size=(rows, n, o)).astype(np.float32),
                "state": rng.normal(size=(rows, s)).astype(np.float32),
                "avail": rng.random((rows, n, a)) < 0.7,
                "action": rng.integers(0, a, (steps, n)),
                "reward": rng.normal(size=steps).astype(np.float32),
                "terminal": np.arange(steps) == steps - 1,
            }
        )
    return made


def flat_arrays(made):
    arrays = {name: np.concatenate([each[name] for each in made]) for name in FIELDS}
    return arrays | {"length": np.array([len(each["action"]) for each in made])}


def padded_arrays(made, extra=0):
    steps = max(len(each["action"]) for each in made) + extra

    def pad(array, final):
        out = np.full((steps + final, *array.shape[1:]), 7).astype(array.dtype)
        out[: len(array)] = array
        return out

    final = len(made[0]["obs"]) - len(made[0]["action"])
    arrays = {f: np.stack([pad(each[f], final * (f in FIELDS[:3])) for each in made]) for f in FIELDS}
    lengths = np.array([len(each["action"]) for each in made])
    return arrays | {"filled": np.arange(steps) < lengths[:, None]}


def save(path, arrays, compressed=True):
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def refused(read, *words):
    with pytest.raises(UserError) as caught:
        list(read().episodes)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def same(got, made):
    assert len(got) == len(made)
    for logged, true in zip(got, made, strict=True):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(logged, name), true[name], err_msg=name)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_what_is_saved_is_read(tmp_path_factory, seed, data):
    """Flat or padded, with final rows or without, compressed or not, in blocks of any size."""
    made = random_log(
        np.random.default_rng(seed),
        data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6)),
        n=data.draw(st.integers(1, 3)),
        final=data.draw(st.booleans()),
    )
    arrays = padded_arrays(made, data.draw(st.integers(0, 2))) if data.draw(st.booleans()) else flat_arrays(made)
    path = save(tmp_path_factory.mktemp("n") / "log.npz", arrays, data.draw(st.booleans()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVMSE_BLOCK_BYTES", str(data.draw(st.sampled_from([1, 200, 2**24]))))
        source = reader.read(path)
        same(list(source.episodes), made)
    assert (source.n_actions, source.total, source.assumed) == (4, len(made), ())


def test_the_arrays_of_a_dataset_come_back_exactly(tmp_path):
    rng = np.random.default_rng(1)
    made = [random_episode(rng, int(rng.integers(1, 7)), ends=("terminal", "truncated")[i % 2]) for i in range(8)]
    dataset = write_dataset(tmp_path / "data", SPEC, made, rng.random(8) < 0.5)
    source = reader.read(save(tmp_path / "log.npz", dataset.flat))
    parts = [complete_episode(logged, ImportRules(), source.n_actions, AssumptionLog()) for logged in source.episodes]
    for field in KINDS:
        np.testing.assert_array_equal(np.concatenate([part[field] for part in parts]), getattr(dataset, field))


def test_other_names_shapes_and_silence(tmp_path):
    made = random_log(np.random.default_rng(2), [2, 3])
    arrays = flat_arrays(made)
    changed = {
        "observations": arrays["obs"],
        "actions": arrays["action"][..., None],
        "rewards": np.repeat(arrays["reward"][:, None], 2, axis=1),
        "dones": np.repeat(arrays["terminal"][:, None], 2, axis=1).astype(np.uint8),
        "lengths": arrays["length"],
        "notes": np.array(["anything"]),
    }
    source = reader.read(save(tmp_path / "log.npz", changed))
    got = list(source.episodes)
    np.testing.assert_array_equal(got[1].action, made[1]["action"])
    np.testing.assert_array_equal(got[1].reward[:, 1], made[1]["reward"])
    np.testing.assert_array_equal(got[1].terminal, made[1]["terminal"])
    assert (got[0].state, got[0].avail, got[0].won) == (None, None, None)
    largest = max(each["action"].max() for each in made)
    assert source.n_actions == largest + 1
    assert "largest action" in source.assumed[0]
    assert "true for all" in source.assumed[1]
    del changed["dones"]
    source = reader.read(save(tmp_path / "cut.npz", changed), n_actions=9)
    assert source.n_actions == 9
    assert not list(source.episodes)[0].terminal.any()
    assert "no array terminal" in source.assumed[0]
    assert [len(x.action) for x in reader.read(tmp_path).episodes] == [2, 3, 2, 3]  # a directory


def test_padding_does_not_count_among_the_actions(tmp_path):
    arrays = padded_arrays(random_log(np.random.default_rng(3), [1, 4], a=3))
    del arrays["avail"]
    assert reader.read(save(tmp_path / "log.npz", arrays)).n_actions <= 3
    arrays["action"] = arrays["action"] * 10**8 + 10**8
    refused(lambda: reader.read(save(tmp_path / "far.npz", arrays)), "65,536 actions", "--n-actions")


@pytest.mark.parametrize("layout", [flat_arrays, padded_arrays])
@pytest.mark.parametrize("name", ["truncated", "truncations"])
def test_a_truncated_step_is_no_end_of_the_task(tmp_path, layout, name):
    made = random_log(np.random.default_rng(10), [2, 3])
    arrays = layout(made)
    cut = np.array([False, True, False, False, False])
    padded = np.array([[False, True, False], [False, False, False]])
    truncated = cut if layout is flat_arrays else padded
    source = reader.read(save(tmp_path / "log.npz", arrays | {name: truncated}))
    assert [each.terminal.tolist() for each in source.episodes] == [[False, False], [False, False, True]]
    assert source.assumed == ("a step that is both terminal and truncated counts as cut",)
    assert source.facts["arrays"]["truncated"] == name
    one_agent = np.stack([truncated, np.zeros_like(truncated)], axis=-1)
    source = reader.read(save(tmp_path / "log.npz", arrays | {name: one_agent}))
    assert [bool(each.terminal[-1]) for each in source.episodes] == [False, True]
    refused(
        lambda: reader.read(save(tmp_path / "log.npz", arrays | {name: np.ones_like(truncated)})),
        "episode 0: step 0: truncated before the last step",
    )


def test_arrays_without_a_meaning_are_told(tmp_path):
    arrays = flat_arrays(random_log(np.random.default_rng(11), [2, 3])) | {"mask": np.ones(5), "probs": np.ones(5)}
    source = reader.read(save(tmp_path / "log.npz", arrays))
    assert source.facts["ignored_arrays"] == ["mask", "probs"]
    assert source.assumed == ("arrays without a meaning here were left out: mask, probs",)
    source = reader.read(save(tmp_path / "log.npz", arrays | {f"x{i}": np.ones(1) for i in range(20)}))
    assert source.assumed[0].endswith("x9 and 10 more")


@pytest.mark.parametrize("n_actions", [0, -1, 65_537])
@pytest.mark.parametrize("masked", [True, False])
def test_impossible_numbers_of_actions_are_refused(tmp_path, n_actions, masked):
    arrays = flat_arrays(random_log(np.random.default_rng(12), [2, 3]))
    if not masked:
        del arrays["avail"]
    path = save(tmp_path / "log.npz", arrays)
    refused(lambda: reader.read(path, n_actions=n_actions), "log.npz", "1 to 65,536 actions", f"{n_actions:,}")
    refused(lambda: episodes.read([], n_actions=n_actions, name="mine"), "mine: expected 1 to 65,536 actions")


def test_the_hint_on_discrete_actions_is_for_actions(tmp_path):
    arrays = flat_arrays(random_log(np.random.default_rng(13), [2, 3]))
    for name, hinted in (("obs", False), ("action", True)):
        path = save(tmp_path / "log.npz", arrays | {name: arrays[name].astype(complex)})
        with pytest.raises(UserError, match="got complex128") as caught:
            reader.read(path)
        assert ("Only discrete actions" in str(caught.value)) == hinted


def test_fortran_order(tmp_path):
    made = random_log(np.random.default_rng(4), [2, 3])
    arrays = {name: np.asfortranarray(array) for name, array in flat_arrays(made).items()}
    same(list(reader.read(save(tmp_path / "log.npz", arrays)).episodes), made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"obs": None}, ["no array for obs", "observations", "action, avail"]),
        ({"length": None}, ["no array length"]),
        ({"obs": np.zeros((7, 6))}, ["obs", "(7, 6)", "axes"]),
        ({"obs": np.zeros((9, 2, 3))}, ["obs", "expected 5 entries", "or 7", "got 9"]),
        ({"obs": np.array(["x"])}, ["obs", "numbers", "<U1"]),
        ({"obs": np.zeros((7, 2, 0))}, ["obs", "expected values"]),
        ({"action": np.zeros((5, 3), int)}, ["action", "(5, 3)", "2 agents"]),
        ({"action": np.zeros((6, 2), int)}, ["action", "expected 5 entries", "got 6"]),
        ({"action": np.zeros((5, 2), complex)}, ["action", "whole numbers"]),
        ({"reward": np.zeros((7,))}, ["reward", "got 7"]),
        ({"terminal": np.full(5, 2)}, ["episode 0", "terminal", "got 2"]),
        ({"length": np.array([5, 0])}, ["length", "episode 1", "got 0"]),
        ({"length": np.array([2.0, 3.0])}, ["length", "whole numbers"]),
        ({"length": np.array([2, 2**62])}, ["length", "episode 1"]),
        ({"won": np.array([True])}, ["won", "(2,)", "one value per episode"]),
        ({"won": np.array([3, 0])}, ["won", "got 3"]),
        ({"observations": np.zeros(3)}, ["obs and observations", "Leave"]),
        ({"avail": np.zeros((7, 3, 4), bool)}, ["avail", "2 agents"]),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, words):
    arrays = flat_arrays(random_log(np.random.default_rng(5), [2, 3])) | change
    path = save(tmp_path / "log.npz", {name: array for name, array in arrays.items() if array is not None})
    refused(lambda: reader.read(path), "log.npz", *words)


def test_bad_padding_is_named(tmp_path):
    arrays = padded_arrays(random_log(np.random.default_rng(6), [2, 3]))
    cases = [
        ({"filled": np.array([[1, 0, 1], [1, 1, 1]])}, ["filled", "episode 0", "ones and then zeros"]),
        ({"filled": np.array([[0, 0, 0], [1, 1, 1]])}, ["episode 0", "1 to 3 steps, got 0"]),
        ({"filled": np.ones((2, 5))}, ["filled", "(2, 5)"]),
        ({"length": np.array([1, 3])}, ["length and valid disagree"]),
        ({"state": np.zeros((2, 9, 1))}, ["state", "3 or 4"]),
    ]
    for change, words in cases:
        path = save(tmp_path / "log.npz", arrays | change)
        refused(lambda path=path: reader.read(path), *words)
    del arrays["filled"]
    path = save(tmp_path / "log.npz", arrays)
    refused(lambda: reader.read(path), "length", "valid")


def header_of(shape, dtype="<f4"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_absurd_headers_reserve_no_memory(tmp_path):
    arrays = flat_arrays(random_log(np.random.default_rng(7), [2, 3]))
    del arrays["obs"]
    for shape in ((2**40, 2, 3), (2**62, 2**62, 3), (-1, 2, 3), (7, 2, 4)):
        path = save(tmp_path / "log.npz", arrays)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("obs.npy", header_of(shape) + bytes(7 * 2 * 3 * 4))
        tracemalloc.start()
        refused(lambda path=path: reader.read(path), "obs.npy", "header declares")
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()


def test_a_file_that_unpacks_to_much_is_read_in_parts(tmp_path, monkeypatch):
    """Zeros shrink a thousandfold; 64 MiB of them pass through without ever being in memory together."""
    rows = 2**16
    arrays = {"obs": np.zeros((rows, 1, 256), np.float32), "action": np.zeros((rows, 1), np.uint8)}
    arrays |= {"reward": np.zeros(rows, np.float32), "length": np.full(rows // 64, 64)}
    path = save(tmp_path / "log.npz", arrays)
    del arrays
    assert path.stat().st_size < 2**20
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", str(2**20))
    tracemalloc.start()
    steps = sum(len(logged.action) for logged in reader.read(path, n_actions=1).episodes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert steps == rows
    assert peak < 2**24


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_files_are_refused_or_harmless(tmp_path, compressed):
    """Zip files have checksums: no changed value passes."""
    made = random_log(np.random.default_rng(8), [2, 3, 4])
    data = save(tmp_path / "log.npz", flat_arrays(made), compressed).read_bytes()
    rng, path, refusals = np.random.default_rng(0), tmp_path / "bad.npz", 0
    for _ in range(300):
        path.write_bytes(damaged(data, rng))
        try:
            source = reader.read(path)
            got = list(source.episodes)
        except UserError:
            refusals += 1
            continue
        assert len(got) == len(made)
        for logged, true in zip(got, made, strict=True):
            for name in FIELDS:
                if getattr(logged, name) is not None and name != "terminal":
                    np.testing.assert_array_equal(getattr(logged, name), true[name])
    assert refusals > 150


def test_files_that_are_no_npz(tmp_path):
    refused(lambda: reader.read(tmp_path / "none.npz"), "no such file")
    refused(lambda: reader.read(tmp_path), "no .npz file in this directory")
    np.save(tmp_path / "obs.npy", np.zeros(3))
    refused(lambda: reader.read(tmp_path / "obs.npy"), "np.savez")
    (tmp_path / "log.npz").write_bytes(b"hello")
    refused(lambda: reader.read(tmp_path / "log.npz"), "damaged, or no .npz file")


def test_episodes_from_python():
    made = random_log(np.random.default_rng(9), [2, 3])
    same(list(episodes.read(made, n_actions=4).episodes), made)
    lists = {"obs": [[[1]], [[2]]], "action": [[0]], "reward": [1], "terminal": True, "won": np.bool_(True)}
    source = episodes.read((lists for _ in range(2)), n_actions=2, name="mine")
    first, second = source.episodes
    assert (first.terminal.tolist(), first.won, first.state) == ([True], True, None)
    assert second.where == "mine: episode 1"
    assert source.n_actions == 2
    cut = next(iter(episodes.read([lists | {"terminal": False}], n_actions=2).episodes))
    assert cut.terminal.tolist() == [False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ops": 1}, ["episode 0", "'ops'", "Did you mean 'obs'"]),
        ({"reward": None}, ["episode 0", "reward is missing"]),
        ({"obs": [[1], [1, 2]]}, ["episode 0: obs", "equal lengths"]),
        ({"obs": "x"}, ["episode 0: obs", "numbers"]),
        ({"terminal": 2}, ["terminal", "got 2"]),
        ({"won": [True, False]}, ["won", "one bool"]),
    ],
)
def test_bad_episodes_from_python(change, words):
    good = {"obs": [[[1]], [[2]]], "action": [[0]], "reward": [1], "terminal": True}
    refused(lambda: episodes.read([good | change], n_actions=2), *words)


def test_episodes_must_be_mappings():
    refused(lambda: episodes.read(iter([3]), n_actions=2), "episode 0", "int")


TRAP = """
import pickle, pathlib, sys
import numpy as np
class Trap:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(sys.argv[1]) / "ran",)
folder = pathlib.Path(sys.argv[1])
(folder / "trap").write_bytes(pickle.dumps(Trap()))
np.savez(folder / "objects.npz", obs=np.array([Trap()], object))
np.save(folder / "objects.npy", np.array([Trap()], object))
for i in range(3):
    one = {"obs": np.full((4, 2, 3), i, np.float32), "actions": np.ones((4, 2, 1), int),
           "rewards": np.arange(4.0), "dones": np.arange(4) == 3}
    (folder / "episodes").mkdir(exist_ok=True)
    (folder / "episodes" / f"{i}.pkl").write_bytes(pickle.dumps(one))
"""


@pytest.fixture(scope="module")
def trapped(tmp_path_factory):
    """Pickles, made by another process."""
    folder = tmp_path_factory.mktemp("pickles")
    subprocess.run([sys.executable, "-c", TRAP, str(folder)], check=True)
    return folder


@pytest.mark.parametrize("name", ["trap", "objects.npz", "objects.npy", "episodes", "episodes/0.pkl"])
def test_pickles_are_refused_unloaded(trapped, name):
    with pytest.raises(UserError, match="runs code"):
        pickles.refuse(trapped / name)
    assert not (trapped / "ran").exists()


def test_arrays_of_objects_are_refused_unloaded(trapped):
    refused(lambda: reader.read(trapped / "objects.npz"), "obs.npy", "Python objects", "runs code")
    assert not (trapped / "ran").exists()


def test_other_files_are_not_taken_for_pickles(trapped, tmp_path):
    save(tmp_path / "log.npz", {"obs": np.zeros(2)})
    (tmp_path / "log.csv").write_text("a,b\n")
    for path in (tmp_path, tmp_path / "log.npz", tmp_path / "log.csv", tmp_path / "none"):
        pickles.refuse(path)
    (tmp_path / "extra.pkl").write_bytes(b"x")
    pickles.refuse(tmp_path)  # there is a log beside it
    (tmp_path / "log.npz").unlink()
    (tmp_path / "log.csv").unlink()
    with pytest.raises(UserError, match="extra.pkl"):
        pickles.refuse(tmp_path)


def test_the_recipe_makes_a_log(trapped, tmp_path):
    """The script that the error prints, run as it says."""
    (tmp_path / "convert.py").write_text(pickles.RECIPE)
    command = [sys.executable, "convert.py", str(trapped / "episodes"), "log.npz"]
    subprocess.run(command, cwd=tmp_path, check=True)
    source = reader.read(tmp_path / "log.npz")
    got = list(source.episodes)
    assert [each.obs[0, 0, 0] for each in got] == [0, 1, 2]
    assert got[0].terminal.tolist() == [False, False, False, True]
    assert got[0].action.shape == (4, 2)
    assert len(pickles.RECIPE.splitlines()) <= 12
