"""The doctor's findings: each at its place in a broken dataset, none in a sound one, and the same in any blocks."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings, strategies as st
from support.places import ROOT

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data import stream, zarr_files
from ovmse.data.dataset import Dataset, Metadata
from ovmse.data.findings import KINDS_FOUND, Finding, merge
from ovmse.data.schema import starts, step_rows
from ovmse.inspection import examination
from ovmse.inspection.inspect import diagnose, inspect
from ovmse.system import files

SPEC = EnvSpec("toy:duel", "toy 1.2", {}, 2, 4, 5, 6, 9, True)
LENGTHS = (3, 1, 4, 9, 2, 5)


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk():
    """Writing datasets takes a third of the time when nothing waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync", lambda path: None)
        yield


SEVERITY = {kind: known.severity for kind, known in KINDS_FOUND.items()}


def make_flat(spec=SPEC, lengths=LENGTHS, seed=0):
    """Sound random play; action 0 is always legal, an episode that reaches the limit was cut, all others ended."""
    rng = np.random.default_rng(seed)
    length = np.array(lengths)
    steps, rows = int(length.sum()), int((length + 1).sum())
    avail = rng.random((rows, spec.n_agents, spec.n_actions)) < 0.6
    avail[..., 0] = True
    weight = rng.random((steps, spec.n_agents, spec.n_actions)) * avail[step_rows(length)]
    terminal = np.zeros(steps, bool)
    terminal[np.cumsum(length) - 1] = length < spec.episode_limit
    return {
        "obs": rng.normal(size=(rows, spec.n_agents, spec.obs_size)).astype(np.float32),
        "state": rng.normal(size=(rows, spec.state_size)).astype(np.float32),
        "avail": avail,
        "action": weight.argmax(-1).astype(np.uint8),
        "reward": rng.normal(size=steps).astype(np.float32),
        "terminal": terminal,
        "length": length.astype(np.int32),
        "won": (rng.random(len(length)) < 0.5) & spec.has_win,
    }


def metadata_of(flat, spec=SPEC, **others):
    """What the metadata of these arrays would say, as far as they can be summed up."""
    length = np.maximum(flat["length"], 1)
    reward = np.nan_to_num(np.resize(flat["reward"], length.sum()).astype(np.float64), posinf=0.0)
    returns = np.add.reduceat(reward, starts(length))
    values = {"return_mean": returns.mean(), "return_std": returns.std()}
    values |= {"return_min": returns.min(), "return_max": returns.max()}
    return Metadata(
        schema_version=1,
        env=spec,
        behaviour="random <b>play</b>",
        quality="",
        seed=None,
        git_revision="",
        command="",
        created="2026-01-31",
        episodes=len(length),
        steps=int(flat["length"].sum()),
        win_rate=float(flat["won"].mean()) if spec.has_win else None,
        **{k: float(v) for k, v in values.items()},
        **others,
    )


def write(path, flat, spec=SPEC, **others):
    """Write arrays without any check."""
    zarr_files.write_whole(path, metadata_of(flat, spec, **others), zarr_files.in_memory(flat))
    return path


def examined(path):
    """All findings on a dataset, without the fit, by kind."""
    return {f.kind: f for f in diagnose(path, clone=False).findings}


def errors(found):
    return {kind for kind in found if SEVERITY[kind] == "error"}


def change_attributes(path, **changes):
    file = path / "zarr.json"
    content = json.loads(file.read_text())
    content["attributes"] |= changes
    file.write_text(json.dumps(content))


# --- faults of values: (change, kind, episode, step, agent, a part of the words)


def put(field, index, value):
    def change(flat):
        flat[field][index] = value

    return change


def illegal(flat):
    flat["avail"][7, 1] = [True, False, True, False]
    flat["action"][5, 1] = 3


def widen_then_negative(flat):
    flat["action"] = flat["action"].astype(np.int32)
    flat["action"][7, 0] = -1


# Lengths 3, 1, 4, 9: row 7 and step 5 are episode 2, step 1.
VALUES = [
    (put("obs", (7, 1, 4), np.nan), "obs is not finite", 2, 1, 1, "got nan"),
    (put("state", (5, slice(2, 4)), np.inf), "state is not finite", 1, 1, None, "feature 2"),
    (put("reward", [3, 4], np.nan), "reward is not finite", 1, 0, None, "got nan"),
    (put("action", (5, 1), 4), "action out of range", 2, 1, 1, "expected 0 to 3, got 4"),
    (widen_then_negative, "action out of range", 2, 3, 0, "got -1"),
    (illegal, "illegal recorded action", 2, 1, 1, "action 3, legal are 0, 2"),
    (put("avail", (4, 1), False), "no legal action", 1, 0, 1, "at least one true value"),
    (put("terminal", [0, 5], True), "terminal before the last step", 0, 0, None, "only at step 2"),
]


@pytest.mark.parametrize(("change", "kind", "episode", "step", "agent", "says"), VALUES)
@pytest.mark.parametrize("block_bytes", [1, 2**25])
def test_a_fault_of_a_value_is_found_at_its_place(
    tmp_path, monkeypatch, change, kind, episode, step, agent, says, block_bytes
):
    """In blocks of single episodes and in one block; the report is full, and the other episodes are in it."""
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", str(block_bytes))
    flat = make_flat()
    change(flat)
    report = diagnose(write(tmp_path / "play", flat), clone=False)
    found = {f.kind: f for f in report.findings}
    assert (found[kind].episode, found[kind].step, found[kind].agent) == (episode, step, agent)
    assert says in found[kind].first and f"episode {episode}" in found[kind].first
    assert not report.usable and found[kind].severity == "error"
    assert 0 < report.profile["examined"] < len(LENGTHS)
    with pytest.raises(UserError):
        Dataset.open(tmp_path / "play")


def test_a_sound_dataset_has_no_findings(tmp_path):
    report = diagnose(write(tmp_path / "play", make_flat()), clone=False)
    assert report.findings == () and report.usable
    assert report.profile["examined"] == len(LENGTHS)


def test_faults_in_many_blocks_are_one_finding(tmp_path, monkeypatch):
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", "1")
    flat = make_flat()
    flat["reward"][[2, 5, 9]] = np.nan  # episodes 0, 2, 3
    found = examined(write(tmp_path / "play", flat))["reward is not finite"]
    assert (found.times, found.episode, found.step) == (3, 0, 2)


def test_merging_keeps_the_first_place_and_puts_errors_first():
    parts = [Finding("sparse rewards", 1, "a"), Finding("no legal action", 2, "b"), Finding("sparse rewards", 5, "c")]
    assert merge(parts) == (Finding("no legal action", 2, "b"), Finding("sparse rewards", 6, "a"))


# --- faults of files and sizes


def test_short_rewards_leave_out_the_last_episodes_only(tmp_path):
    flat = make_flat()
    flat["reward"] = flat["reward"][:-6]  # the last two episodes have 2 and 5 steps
    report = diagnose(write(tmp_path / "play", flat), clone=False)
    (found,) = [f for f in report.findings if f.kind == "array does not fit the lengths"]
    assert found.file == "reward" and found.episode == 4
    assert "expected 24 entries for 6 episodes of 24 steps, got 18" in found.first
    assert report.profile["examined"] == 4


def test_another_number_of_agents_than_the_metadata_says(tmp_path):
    report = diagnose(write(tmp_path / "play", make_flat(), SPEC._replace(n_agents=3)), clone=False)
    found = {f.kind: f for f in report.findings}
    assert found["wrong shape"].times == 3 and "expected (30, 3, 5), got (30, 2, 5)" in found["wrong shape"].first
    assert report.profile["agents"] == 2 and report.profile["examined"] == 6


def test_arrays_that_disagree_on_agents_give_no_profile(tmp_path):
    flat = make_flat()
    flat["obs"] = np.repeat(flat["obs"][:, :1], 3, axis=1)
    report = inspect(str(write(tmp_path / "play", flat)), tmp_path / "r", clone=False)
    assert report.profile is None and not report.usable
    assert (tmp_path / "r" / "index.html").read_text().count("wrong shape") == 1


def test_a_wrong_dtype_is_named(tmp_path):
    flat = make_flat()
    flat["avail"] = flat["avail"].astype(np.uint8)
    found = examined(write(tmp_path / "play", flat))
    assert errors(found) == {"wrong dtype"} and "avail: expected bool, got uint8" in found["wrong dtype"].first


def test_an_episode_without_steps(tmp_path):
    flat = make_flat(lengths=(3, 1, 4))
    flat["length"][:] = (3, 0, 5)
    found = examined(write(tmp_path / "play", flat))
    assert found["episode without steps"].episode == 1


def test_a_win_where_nothing_can_be_won(tmp_path):
    flat = make_flat()
    flat["won"][4] = True
    flat["won"][:4] = False
    found = examined(write(tmp_path / "play", flat, SPEC._replace(has_win=False)))
    assert found["win where nothing can be won"].episode == 4


@pytest.mark.parametrize("field", ["obs", "reward", "length", "won"])
def test_a_missing_chunk_is_named(tmp_path, field):
    path = write(tmp_path / "play", make_flat())
    (chunk,) = (path / field).glob("c.*")
    chunk.unlink()
    assert examined(path)["missing chunk file"].file == f"{field}/{chunk.name}"


def test_a_damaged_chunk_costs_its_episodes_only(tmp_path, monkeypatch):
    monkeypatch.setattr(
        zarr_files, "CHUNK_BYTES", 400
    )  # 10 rows of obs: episode 2 has rows 6 to 10, episode 3 11 to 20
    path = write(tmp_path / "play", make_flat())
    chunk = path / "obs" / "c.1.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-9] + b"tampered!")
    report = diagnose(path, clone=False)
    found = {f.kind: f for f in report.findings}
    assert found["damaged chunk file"].file == "obs/c.1.0.0" and "episodes 2 to 3" in found["damaged chunk file"].first
    assert report.profile["examined"] == 4 and not report.usable


def test_an_array_that_is_not_there(tmp_path):
    path = write(tmp_path / "play", make_flat())
    shutil.rmtree(path / "action")
    report = diagnose(path, clone=False)
    assert "action" in report.findings[0].first and report.profile is None


def test_arrays_without_checksums(tmp_path):
    path = write(tmp_path / "play", make_flat())
    reward = zarr.open_array(path / "reward", mode="r")[...]
    shutil.rmtree(path / "reward")
    zarr.create_array(path / "reward", data=reward, zarr_format=3)
    assert "reward" in examined(path)["array without checksums"].first


def test_metadata_that_contradicts_the_data(tmp_path):
    path = write(tmp_path / "play", make_flat())
    change_attributes(path, return_mean=100.0, win_rate=None)
    found = examined(path)["metadata contradicts the data"]
    assert found.times == 2 and "return_mean: the metadata says 100.0" in found.first


def test_unfinished_metadata_still_gives_a_report(tmp_path):
    path = write(tmp_path / "play", make_flat())
    change_attributes(path, complete=False)
    report = diagnose(path, clone=False)
    assert "complete = true" in report.findings[0].first and report.profile["examined"] == 6


def test_what_is_no_dataset_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a dataset"):
        inspect(str(tmp_path / "empty"), tmp_path / "report")
    (tmp_path / "empty" / "zarr.json").write_text("{")
    with pytest.raises(UserError, match="cannot read it"):
        inspect(str(tmp_path / "empty"), tmp_path / "report")
    with pytest.raises(UserError, match="nowhere"):
        inspect("nowhere", tmp_path / "report")


def corrupt(flat, kind, rng):
    """One of many ways to break arrays, or a harmless one."""
    if kind in ("obs", "state", "reward"):
        flat[kind].ravel()[rng.integers(flat[kind].size)] = rng.choice([np.nan, np.inf, 1e30, 0.0])
    elif kind == "action":
        flat["action"].ravel()[rng.integers(flat["action"].size)] = rng.integers(0, 6)
    elif kind == "avail":
        flat["avail"].ravel()[rng.integers(flat["avail"].size)] ^= True
    elif kind == "terminal":
        flat["terminal"][rng.integers(len(flat["terminal"]))] ^= True
    elif kind == "length":
        flat["length"][rng.integers(len(flat["length"]))] += rng.integers(-1, 2)
    elif kind == "short":
        field = rng.choice(["obs", "state", "avail", "action", "reward", "terminal", "won"])
        flat[field] = flat[field][: len(flat[field]) - rng.integers(0, 2)]


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(
        st.sampled_from(["obs", "state", "reward", "action", "avail", "terminal", "length", "short"]), max_size=2
    ),
    seed=st.integers(0, 999),
    has_win=st.booleans(),
)
@pytest.mark.slow
def test_usable_is_what_can_be_opened(tmp_path_factory, kinds, seed, has_win):
    """The doctor calls a dataset usable exactly when `Dataset.open` reads it."""
    spec = SPEC._replace(has_win=has_win)
    flat = make_flat(spec, seed=seed)
    for kind in kinds:
        corrupt(flat, kind, np.random.default_rng(seed))
    path = write(tmp_path_factory.mktemp("any") / "play", flat, spec)
    report = diagnose(path, clone=False)
    try:
        Dataset.open(path)
        opened = True
    except UserError:
        opened = False
    assert opened == report.usable, report.findings


# --- blocks


@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), seed=st.integers(0, 99))
@pytest.mark.slow
def test_blocks_are_the_dataset(tmp_path_factory, lengths, seed):
    """Every episode once, in order; the profile does not depend on the size of the blocks."""
    path = write(tmp_path_factory.mktemp("any") / "play", make_flat(lengths=lengths, seed=seed))
    whole = Dataset.open(path)
    profiles = []
    for block_bytes in (1, 700, 2**25):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OVMSE_BLOCK_BYTES", str(block_bytes))
            parts = list(stream.blocks(stream.scan_dataset(path)))
            starts = np.cumsum([0, *[len(p.flat["length"]) for p in parts]])[:-1]
            assert [part.first for part in parts] == starts.tolist()
            for field, array in whole.flat.items():
                np.testing.assert_array_equal(np.concatenate([part.flat[field] for part in parts]), array)
            found = stream.scan_dataset(path)
            gathered = examination.gather(found, 0, False, None)[1]
            profiles.append(examination.profile_of(found, gathered, 0))
            if block_bytes == 1:
                assert len(parts) == len(lengths)
    assert profiles[0] == profiles[1] == profiles[2]


# --- oddities: a dataset that can be used, and looks odd


def cut_all(flat):
    flat["terminal"][:] = False


def zero_final(flat):
    row, step = starts(flat["length"] + 1)[3] + 9, starts(flat["length"])[3] + 8
    flat["obs"][row], flat["state"][row], flat["terminal"][step] = 0, 0, False


def repeated_final(flat):
    row = starts(flat["length"] + 1)[3] + 9
    flat["obs"][row], flat["state"][row] = flat["obs"][row - 1], flat["state"][row - 1]


def copy_episode(flat):
    """Episode 5 becomes episode 2, both with 4 steps."""
    rows, steps = starts(flat["length"] + 1), starts(flat["length"])
    for field in flat:
        first = rows if field in ("obs", "state", "avail") else steps
        if field not in ("length", "won"):
            n = 5 if field in ("obs", "state", "avail") else 4
            flat[field][first[5] : first[5] + n] = flat[field][first[2] : first[2] + n]


def forced(flat):
    flat["avail"][:, 1] = [True, False, False, False]
    flat["action"][:, 1] = 0


def early(flat):
    flat["terminal"][starts(flat["length"])[4] + 1] = False


def scale(field, factor):
    def change(flat):
        flat[field] = (flat[field] * factor).astype(np.float32)

    return change


def sparse(flat):
    flat["reward"][:] = 0
    flat["reward"][100] = 1


MANY = (3, 1, 4, 9, 2, 4, *[9] * 6, *[5] * 8)  # 26 to be sparse in


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The findings on the dataset that the changes below make odd."""
    return examined(write(tmp_path_factory.mktemp("plain") / "play", make_flat(lengths=MANY)))


ODD = [
    (zero_final, "final row is all zeros", 3, "step 9"),
    (repeated_final, "final row repeats the one before", 3, "step 9"),
    (copy_episode, "duplicate episodes", 5, "5 = 2"),
    (forced, "agent without choices", None, "agent 1"),
    (early, "early end that is not terminal", 4, "2 of up to 9 steps"),
    (scale("obs", 100), "unscaled observations", None, "features 0, 1, 2, 3, 4 exceed 10"),
    (scale("state", 100), "unscaled state", None, "features 0, 1, 2, 3, 4, 5 exceed"),
    (scale("reward", 100), "large returns", None, "quantile of |return|"),
    (scale("reward", 0.001), "small returns", None, "quantile of |return|"),
    (scale("reward", 0), "rewards are all zero", None, "none with a reward"),
    (sparse, "sparse rewards", None, "1 of 117 steps"),
    (put("obs", (slice(None), slice(None), 2), 1.5), "constant observation features", None, "1 of 5 features"),
    (put("state", (slice(None), 4), 0.5), "constant state features", None, "1 of 6 features of the state"),
]


@pytest.mark.parametrize(("change", "kind", "episode", "says"), ODD, ids=[case[1] for case in ODD])
def test_an_oddity_is_found_and_can_be_used(tmp_path, plain, change, kind, episode, says):
    assert kind not in plain
    flat = make_flat(lengths=MANY)
    change(flat)
    found = examined(write(tmp_path / "play", flat))
    assert found[kind].episode == episode and says.replace(" of the state", "") in found[kind].first
    assert errors(found) == set()
    Dataset.open(tmp_path / "play")


def test_a_time_limit_taken_for_an_end(tmp_path):
    flat = make_flat(lengths=MANY)
    flat["terminal"][np.cumsum(flat["length"]) - 1] = True
    found = examined(write(tmp_path / "play", flat))["time limit recorded as an end"]
    assert (found.times, found.episode, found.step) == (7, 3, 8)


def test_agents_out_of_play_are_counted_from_their_last_choice(tmp_path):
    flat = make_flat(lengths=(6, 6), spec=SPEC._replace(n_agents=1))
    flat["avail"][:] = True
    flat["avail"][3:7, 0, 1:] = False  # steps 3, 4, 5 of episode 0
    flat["avail"][8, 0, 1:] = False  # a single step in the middle of episode 1 is no end of play
    flat["action"][[3, 4, 5, 7]] = 0
    found = examined(write(tmp_path / "play", flat, SPEC._replace(n_agents=1)))["agents out of play"]
    assert found.times == 3 and "25%" in found.first


def test_what_an_import_assumed_is_told(tmp_path):
    path = write(tmp_path / "play", make_flat(), assumptions=["No masks: all actions were legal."])
    assert "all actions were legal" in examined(path)["supplied by the import"].first


def test_every_kind_is_documented():
    """The page names every kind with its severity, and no other."""
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z][^|]*?) \| (error|warning|note) \|", text, re.MULTILINE))
    assert rows == SEVERITY


def test_finding_is_json():
    assert json.loads(json.dumps(Finding("sparse rewards", 1, "a")._asdict()))["kind"] == "sparse rewards"
    assert dataclasses.is_dataclass(Metadata)
