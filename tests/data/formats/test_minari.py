"""Minari datasets of a team, written by Minari itself."""

import dataclasses
import json
import re

import numpy as np
import pytest
from support.corrupt import damaged
from support.minari_logs import FORMATS, UNEQUAL, buffers, spaces, write

from ovmse.core.errors import UserError
from ovmse.data.formats.minari import reader
from ovmse.data.raw_episode import AssumptionLog, ImportRules, complete_episode

minari = pytest.importorskip("minari")
h5py = pytest.importorskip("h5py")
from gymnasium.spaces import Box, Dict, Discrete  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402


def refused(path, *words, **options):
    with pytest.raises(UserError) as caught:
        list(reader.read(path, **options).episodes)
    for word in words:
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_a_team_of_unequal_agents(tmp_path, form):
    """Agents in natural order; zeros after the shorter observation, actions beyond the smaller count never legal."""

    def infos(rng, steps):
        told = {"state": rng.normal(size=(steps + 1, 5)), "won": [False] * steps + [True]}
        return told | {"unit2": {"action_mask": np.tile(np.array([0, 1], np.int8), (steps + 1, 1))}}

    made = buffers(np.random.default_rng(0), UNEQUAL, [3, 1, 4], False, infos)
    path = write(tmp_path, made, *spaces(UNEQUAL, False), form)
    source = reader.read(path)
    got = list(source.episodes)
    assert (source.n_actions, source.total, source.facts["agents"]) == (4, 3, ["unit2", "unit10"])
    assert any("never legal" in line for line in source.assumed)
    assert source.kinds == (0, 1)
    for logged, true in zip(got, made, strict=True):
        np.testing.assert_array_equal(logged.obs[:, 1], true.observations["unit10"])
        np.testing.assert_array_equal(logged.obs[:, 0, :2], true.observations["unit2"])
        assert not logged.obs[:, 0, 2].any()
        np.testing.assert_array_equal(logged.action[:, 1], true.actions["unit10"])
        np.testing.assert_array_equal(logged.reward, true.rewards)
        np.testing.assert_array_equal(logged.terminal, true.terminations)
        np.testing.assert_array_equal(logged.state, true.infos["state"])
        assert logged.avail[:, 1].all()
        assert (logged.avail[:, 0] == [False, True, False, False]).all()
        assert logged.won is True
        complete_episode(logged, ImportRules(), source.n_actions, AssumptionLog())
    assert [len(x.action) for x in reader.read(path / "data").episodes] == [3, 1, 4]


@pytest.mark.parametrize("form", FORMATS)
def test_masks_beside_the_observations_and_rewards_of_agents(tmp_path, form):
    agents = {"a": (2, 3), "b": (2, 3)}

    def infos(rng, steps):
        return {"rewards": {name: rng.normal(size=steps + 1) for name in agents}}

    made = buffers(np.random.default_rng(1), agents, [2, 3], True, infos)
    got = list(reader.read(write(tmp_path, made, *spaces(agents, True), form)).episodes)
    assert got[1].avail.shape == (4, 2, 3)
    np.testing.assert_array_equal(got[1].reward[:, 1], made[1].infos["rewards"]["b"][1:])
    assert (got[0].state, got[0].won) == (None, None)


def test_equal_agents_without_masks_have_none(tmp_path):
    agents = {"a": (2, 3), "b": (2, 3)}
    made = buffers(np.random.default_rng(2), agents, [2], False)
    assert next(iter(reader.read(write(tmp_path, made, *spaces(agents, False))).episodes)).avail is None


def test_discrete_observations_and_actions_that_start_elsewhere(tmp_path):
    made = EpisodeBuffer(
        observations={"a": np.array([5, 7]), "b": np.array([6, 5])},
        actions={"a": np.array([2]), "b": np.array([1])},
        rewards=[1.0],
        terminations=[False],
        truncations=[True],
    )
    seen = Dict({name: Discrete(3, start=5) for name in "ab"})
    path = write(tmp_path, [made], seen, Dict({name: Discrete(2, start=1) for name in "ab"}))
    (logged,) = reader.read(path).episodes
    np.testing.assert_array_equal(logged.obs[0], [[1, 0, 0], [0, 1, 0]])
    assert logged.action.tolist() == [[1, 0]]
    assert logged.terminal.tolist() == [False]
    refused(path, "2 actions", "9", n_actions=9)


@pytest.mark.parametrize("n_actions", [0, -1, 65_537])
def test_impossible_numbers_of_actions_are_refused(tmp_path, n_actions):
    refused(write_small(tmp_path), "1 to 65,536 actions", f"{n_actions:,}", n_actions=n_actions)


@pytest.mark.parametrize("form", FORMATS)
def test_a_step_that_is_also_truncated_is_no_end_of_the_task(tmp_path, form):
    agents = {"a": (2, 3), "b": (2, 3)}
    cut, ended = buffers(np.random.default_rng(4), agents, [2, 3], False)
    cut = dataclasses.replace(cut, truncations=np.array([False, True]))
    source = reader.read(write(tmp_path, [cut, ended], *spaces(agents, False), form))
    assert [each.terminal.tolist() for each in source.episodes] == [[False, False], [False, False, True]]
    assert "a step that is both terminated and truncated counts as cut" in source.assumed


def test_observations_in_double_precision_are_not_rounded_unsaid(tmp_path):
    (made,) = buffers(np.random.default_rng(5), {"a": (2, 3), "b": (2, 3)}, [2], False)
    doubles = {name: values.astype(np.float64) + 0.1 for name, values in made.observations.items()}
    _, acting = spaces({"a": (2, 3), "b": (2, 3)}, False)
    seen = Dict({name: Box(-99, 99, (2,), np.float64) for name in doubles})
    (logged,) = reader.read(write(tmp_path, [dataclasses.replace(made, observations=doubles)], seen, acting)).episodes
    np.testing.assert_array_equal(logged.obs[:, 0], doubles["a"])


def test_what_is_no_team_is_refused(tmp_path):
    single = EpisodeBuffer(
        observations=np.zeros((2, 3), np.float32),
        actions=np.zeros(1, np.int64),
        rewards=[1.0],
        terminations=[True],
        truncations=[False],
    )
    path = write(tmp_path / "one", [single], Box(-1, 1, (3,)), Discrete(2))
    refused(path, "Box", "Discrete", "single agent")
    path = tmp_path / "two"
    with pytest.raises(UserError, match="agent a acts in Box"):
        reader.read(altered(write_small(path), action_space={"a": box(), "b": box()}))
    with pytest.raises(UserError, match="same agents"):
        reader.read(altered(write_small(path / "3"), action_space={"a": {"type": "Discrete", "n": 2, "start": 0}}))
    nested = {"type": "MultiDiscrete", "nvec": [2], "dtype": "int64", "start": [0]}
    with pytest.raises(UserError, match="agent a sees MultiDiscrete"):
        reader.read(altered(write_small(path / "4"), observation_space={"a": nested, "b": nested}))
    many = {"type": "Discrete", "n": 10**12, "start": 0}
    for space in ("action_space", "observation_space"):
        with pytest.raises(UserError, match="1,000,000,000,000"):
            reader.read(altered(write_small(path / space), **{space: {"a": many, "b": many}}))


def box():
    return {"type": "Box", "dtype": "float32", "shape": [1], "low": [0.0], "high": [1.0]}


def write_small(folder, form="hdf5", seed=3):
    agents = {"a": (2, 2), "b": (2, 2)}
    made = buffers(np.random.default_rng(seed), agents, [3, 2], True)
    return write(folder, made, *spaces(agents, True), form)


def altered(path, **changes):
    """The dataset with other metadata: spaces, or entries as they are; None leaves one out."""
    file = path / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    for name, value in changes.items():
        is_space = isinstance(value, dict)
        metadata[name] = json.dumps({"type": "Dict", "subspaces": value}) if is_space else value
    file.write_text(json.dumps({name: value for name, value in metadata.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observation_space": None}, ["observation_space", "environment's code"]),
        ({"action_space": None, "env_spec": "{}"}, ["action_space", "environment's code"]),
        ({"minari_version": "9.9"}, ["9.9", "Install"]),
        ({"data_format": "pickle"}, ["'pickle'", "hdf5, arrow or parquet"]),
        ({"total_episodes": 0}, ["at least 1"]),
        ({"total_episodes": 5}, ["episode_2"]),
        ({"observation_space": "{"}, ["Minari cannot open it"]),
        ({"observation_space": '{"type": "Graph"}'}, ["Minari cannot open it"]),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path, changes, words):
    refused(altered(write_small(tmp_path), **changes), *words)


def test_the_environment_is_never_made(tmp_path):
    """The description of an environment names code; it is not run, and not even looked at."""
    spec = {"id": "X-v0", "entry_point": "tests.no_such_module:touch", "additional_wrappers": [], "kwargs": {}}
    path = altered(write_small(tmp_path), env_spec=json.dumps(spec), eval_env_spec="no JSON")
    assert len(list(reader.read(path).episodes)) == 2


def test_a_directory_that_is_none(tmp_path):
    refused(tmp_path, "metadata.json is missing")
    (tmp_path / "metadata.json").write_text("[]")
    refused(tmp_path, "expected an object")
    (tmp_path / "metadata.json").write_text("{")
    refused(tmp_path, "expected JSON")


def test_steps_that_disagree_with_the_metadata(tmp_path):
    path = write_small(tmp_path, "arrow")
    (path / "data" / "1" / "metadata.json").write_text('{"total_steps": 7}')
    refused(path, "episode 1", "expected 7 steps, got 2")


def test_without_minari_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write_small(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    refused(path, "pip install 'ovmse[minari]'")


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_are_refused_or_harmless(tmp_path, form):
    """Whatever happens to the bytes, nothing but a `UserError` or episodes comes out."""
    path = write_small(tmp_path, form)
    files = [file for file in sorted((path / "data").rglob("*")) if file.is_file()]
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(120):
        file = files[int(rng.integers(len(files)))]
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, rng))
        try:
            list(reader.read(path).episodes)
        except UserError:
            refusals += 1
        file.write_bytes(whole)
    assert refusals > 20
    assert len(list(reader.read(path).episodes)) == 2


def _virtual(file, other):
    layout = h5py.VirtualLayout(shape=(2,), dtype="f8")
    layout[:] = h5py.VirtualSource(other, "rewards", shape=(2,))
    file.create_virtual_dataset("rewards", layout)


ELSEWHERE = {
    "external link": (lambda f, other: f.__setitem__("rewards", h5py.ExternalLink(other, "rewards")), "got a link"),
    "soft link": (lambda f, other: f.__setitem__("rewards", h5py.SoftLink("/other")), "got a link"),
    "virtual": (_virtual, "they are kept in others"),
    "external": (lambda f, other: f.create_dataset("rewards", (2,), "f8", external=[(other, 0, 16)]),
                 "they are kept in others"),
    "a group that holds itself": (lambda f, other: f.__setitem__("rewards", f), "one that holds itself"),
}  # fmt: skip


@pytest.mark.parametrize("case", ELSEWHERE)
def test_values_of_hdf5_are_in_the_file_itself(tmp_path, monkeypatch, case):
    monkeypatch.setattr("ovmse.data.formats.minari.opening.MOST_ARRAYS", 100)
    create, words = ELSEWHERE[case]
    path = write(tmp_path, buffers(np.random.default_rng(0), UNEQUAL, [2], False), *spaces(UNEQUAL, False))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["rewards"] = [1.0, 2.0]
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0"]["rewards"]
        create(file["episode_0"], str(tmp_path / "other.h5"))
    refused(path, words)


def test_a_box_that_memory_does_not_hold_is_not_made(tmp_path):
    path = write(tmp_path, buffers(np.random.default_rng(0), UNEQUAL, [2], False), *spaces(UNEQUAL, False))
    file = path / "data" / "metadata.json"
    told = json.loads(file.read_text())
    told["observation_space"] = re.sub(r'"shape": \[\d+\]', '"shape": [10000000000]', told["observation_space"])
    file.write_text(json.dumps(told))
    refused(path, "observation_space: a box would unpack to 160,000,000,000 bytes", "OVMSE_UNPACK_BYTES")


@pytest.mark.parametrize("form", ["hdf5", "parquet"])
def test_an_episode_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, form):
    agents = {"a": (8, 2), "b": (8, 2)}
    made = buffers(np.random.default_rng(0), agents, [2000], False)
    path = write(tmp_path, made, *spaces(agents, False), form)
    monkeypatch.setenv("OVMSE_UNPACK_BYTES", "1000")
    refused(path, "would unpack to", "OVMSE_UNPACK_BYTES")
