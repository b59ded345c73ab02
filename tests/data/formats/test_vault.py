"""Vaults: what flashbax wrote is read exactly, what is exported flashbax reads, and damage is an error."""

import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.corrupt import DAMAGE, damaged
from support.episodes import SPEC, random_episode, write_dataset
from support.vault_logs import A, N, O, experience, flashbax_read, flashbax_write, leaves

from ovmse.core.errors import UserError, number_of
from ovmse.data.dataset import Dataset
from ovmse.data.formats.vault import reader, writer
from ovmse.data.raw_episode import AssumptionLog, ImportRules, complete_episode
from ovmse.system import bounds

ts = pytest.importorskip("tensorstore")


def store_array(path, name, values, index=False, **metadata):
    kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}, "path": name}
    compressor = {"compressor": {"id": "gzip", "level": 1}}
    spec = {"driver": "zarr", "kvstore": kvstore, "metadata": compressor | metadata}
    shape = values.shape if index else (values.shape[0], 10**13, *values.shape[2:])
    store = ts.open(spec, shape=shape, dtype=values.dtype, create=True).result()
    (store if index else store[:, : values.shape[1]]).write(values).result()


def by_hand(path, tree, steps=None, version=1.2, **chunks):
    """A vault without flashbax: its own structure is not told in metadata.json, so that any array can be wrong."""
    path.mkdir(parents=True)
    arrays = dict(leaves(tree))
    for name, values in arrays.items():
        store_array(path, name, values, **chunks.get(name, {}))
    steps = next(iter(arrays.values())).shape[1] if steps is None else steps
    store_array(path, "vault_index", np.array([steps], np.int32), index=True)
    (path / "metadata.json").write_text(json.dumps({"version": version, "quality": "Good"}))
    return path


def as_dataset(path, source, rules=None, limit=50):
    """Import the way the library does: every episode supplied, then written."""
    flats = [
        complete_episode(logged, rules or ImportRules(), source.n_actions, AssumptionLog())
        for logged in source.episodes
    ]
    flat = {key: np.concatenate([f[key] for f in flats]) for key in flats[0]}
    n, o, s = *flat["obs"].shape[1:], flat["state"].shape[1]
    spec = SPEC._replace(n_agents=n, n_actions=source.n_actions, obs_size=o, state_size=s, episode_limit=limit)
    return Dataset.write(path, spec=spec, behaviour="test", **flat)


@pytest.mark.parametrize("block_bytes", [bounds.BLOCK, 200])
def test_reads_episodes_with_every_value(tmp_path, monkeypatch, block_bytes):
    """Also when the blocks are shorter than an episode."""
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", str(block_bytes))
    lengths = [3, 1, 9, 2]
    tree = experience(np.random.default_rng(0), lengths, cut={2})
    source = reader.read(by_hand(tmp_path / "game.vlt" / "Good", tree))
    assert (source.n_actions, source.assumed, source.format) == (A, (), "vault")
    assert source.facts == {"version": 1.2, "quality": "Good", "time_steps": 15}
    episodes = list(source.episodes)
    assert [len(e.action) for e in episodes] == lengths
    assert [bool(e.terminal[-1]) for e in episodes] == [True, True, False, True]
    assert not any(e.terminal[:-1].any() for e in episodes)
    for field, values in {"obs": tree["observations"], "avail": tree["infos"]["legals"], "action": tree["actions"],
                          "reward": tree["rewards"], "state": tree["infos"]["state"]}.items():  # fmt: skip
        np.testing.assert_array_equal(np.concatenate([getattr(e, field) for e in episodes]), values[0])
    assert episodes[2].where == f"{tmp_path}/game.vlt/Good: episode 2 (time steps 4 to 12)"


@pytest.mark.parametrize("n_actions", [0, -1, 65_537])
@pytest.mark.parametrize("masked", [True, False])
def test_impossible_numbers_of_actions_are_refused(tmp_path, n_actions, masked):
    tree = experience(np.random.default_rng(0), [3])
    if not masked:
        del tree["infos"]["legals"]
    with pytest.raises(UserError, match="expected 1 to 65,536 actions"):
        reader.read(by_hand(tmp_path / "v", tree), n_actions=n_actions)


def test_episodes_of_a_block_share_its_arrays(tmp_path):
    first, second = reader.read(by_hand(tmp_path / "v", experience(np.random.default_rng(0), [3, 2]))).episodes
    assert first.obs.base is not None and first.obs.base is second.obs.base


def test_an_unfinished_last_episode_counts_as_cut(tmp_path):
    tree = experience(np.random.default_rng(0), [3], unfinished=2)
    source = reader.read(by_hand(tmp_path / "v", tree))
    assert source.assumed == ("the log stops in the middle of its last episode, which counts as cut",)
    assert [e.terminal.tolist() for e in source.episodes] == [[False, False, True], [False, False]]


@pytest.mark.parametrize(
    ("terminal", "truncated", "ends", "by_task"),
    [
        ([1, 1], [0, 0], True, True),
        ([1, 1], [1, 0], True, True),
        ([1, 1], [1, 1], True, False),
        ([1, 0], [0, 1], True, False),
        ([0, 0], [1, 1], True, False),
        ([1, 0], [0, 0], False, False),
    ],
)
def test_an_episode_ends_where_all_agents_are_done(tmp_path, terminal, truncated, ends, by_task):
    tree = experience(np.random.default_rng(0), [4])
    tree["terminals"][0, 1], tree["truncations"][0, 1] = terminal, truncated
    first, *rest = reader.read(by_hand(tmp_path / "v", tree)).episodes
    assert (len(first.action), len(rest)) == ((2, 1) if ends else (4, 0))
    assert bool(first.terminal[1]) == by_task


def test_streams_follow_each_other(tmp_path):
    a, b = (experience(np.random.default_rng(seed), lengths) for seed, lengths in enumerate([[3, 2], [1, 4]]))
    pairs = zip(leaves(a), leaves(b), strict=True)
    tree = {name.rstrip("."): np.concatenate([x, y]) for (name, x), (_, y) in pairs}
    episodes = list(reader.read(by_hand(tmp_path / "v", tree)).episodes)
    assert [len(e.action) for e in episodes] == [3, 2, 1, 4]
    np.testing.assert_array_equal(episodes[3].obs, b["observations"][0, 1:])
    assert "stream 1, time steps 1 to 4" in episodes[3].where


def test_without_masks_state_and_truncations(tmp_path):
    tree = experience(np.random.default_rng(0), [3, 2])
    del tree["infos"], tree["truncations"]
    tree["actions"] %= 3
    tree["actions"][0, 4, 1] = 2
    tree["extra"] = tree["rewards"]
    path = by_hand(tmp_path / "v", tree)
    source = reader.read(path)
    assert source.n_actions == 3
    assert source.assumed == ("no truncations: the task ended every episode",)
    assert source.facts["ignored_arrays"] == ["extra."]
    assert all(e.state is None and e.avail is None for e in source.episodes)
    assert reader.read(path, n_actions=7).n_actions == 7


def test_finds_the_one_vault_below(tmp_path):
    tree = experience(np.random.default_rng(0), [2])
    good = by_hand(tmp_path / "game.vlt" / "Good", tree)
    for place in (tmp_path, tmp_path / "game.vlt", good):
        assert reader.read(place).name == str(good)
    by_hand(tmp_path / "game.vlt" / "Poor", tree)
    with pytest.raises(UserError, match="expected one vault, got 2: Good, Poor. Name one of them"):
        reader.read(tmp_path / "game.vlt")


def _without(name):
    return lambda tree: tree.pop(name)


def _set(name, change):
    return lambda tree: tree.__setitem__(name, change(tree[name]))


MALFORMED = {
    "no actions": (_without("actions"), "expected the array actions.; got infos.legals."),
    "continuous": (_set("actions", lambda x: x.astype(np.float32)), "actions.: .*Only discrete actions"),
    "vectors": (_set("actions", lambda x: x[..., None]), "actions.: .*Only discrete actions"),
    "axes": (_set("observations", lambda x: x[..., 0]), r"observations.: expected axes \(B, T, N, O\) of numbers, got"),
    "agents": (_set("rewards", lambda x: x[..., :1]), r"rewards.: .* with N = 2 as in observations., got shape"),
    "complex": (_set("rewards", lambda x: x.astype(np.complex64)), "rewards.: .* of numbers, got complex64"),
    "flags": (_set("terminals", lambda x: 3 * x.astype(np.int32)), "terminals.: time step 4, agent 0: expected 0 or 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_refuses_what_it_cannot_use(tmp_path, case):
    change, message = MALFORMED[case]
    tree = experience(np.random.default_rng(0), [3, 2])
    change(tree)
    with pytest.raises(UserError, match=message):
        list(reader.read(by_hand(tmp_path / "v", tree)).episodes)


@pytest.mark.parametrize(
    ("steps", "message"),
    [(0, "vault_index: expected at least 1"), (-4, "got -4"), (2**31 - 1, r"chunk [\d.]+ is missing")],
)
def test_refuses_an_index_beyond_the_data(tmp_path, steps, message):
    with pytest.raises(UserError, match=message):
        reader.read(by_hand(tmp_path / "v", experience(np.random.default_rng(0), [3, 2]), steps=steps))


def test_refuses_a_lost_chunk(tmp_path):
    """Zarr would give zeros for it."""
    tree = experience(np.random.default_rng(0), [30])
    path = by_hand(tmp_path / "v", tree, **{"observations.": {"chunks": [1, 10, N, O]}})
    store = ts.KvStore.open({"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}}).result()
    store.delete_range(ts.KvStore.KeyRange(b"observations./0.1", b"observations./0.2")).result()
    with pytest.raises(UserError, match=r"observations\.: chunk 0\.1\.0\.0 is missing"):
        reader.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[1]", "version None"),
        ('{"version": 2.0}', "version 2.0"),
        ('{"version": "1"}', "version '1'"),
        ("[" * 100_000, "expected JSON"),
        (" " * (2**20 + 1), "version None"),
    ],
)
def test_refuses_other_metadata(tmp_path, text, message):
    path = by_hand(tmp_path / "v", experience(np.random.default_rng(0), [2]))
    (path / "metadata.json").write_text(text)
    with pytest.raises(UserError, match=message):
        reader.read(path)


def test_an_array_must_be_what_metadata_tells(tmp_path):
    path = by_hand(tmp_path / "v", experience(np.random.default_rng(0), [2]))
    told = {"version": 1.2, "structure_dtype": {"infos": {"state": "int32"}}, "structure_shape": {}}
    (path / "metadata.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"infos.state.: metadata.json tells of int32"):
        reader.read(path)


def test_refuses_what_would_take_too_much_memory(tmp_path, monkeypatch):
    tree = experience(np.random.default_rng(0), [40])
    path = by_hand(tmp_path / "v", tree)
    monkeypatch.setenv("OVMSE_UNPACK_BYTES", "1000")
    with pytest.raises(UserError, match="a chunk would unpack to .* expected at most 1,000"):
        reader.read(path)
    monkeypatch.undo()
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", "200")
    source = reader.read(path)
    monkeypatch.setenv("OVMSE_UNPACK_BYTES", "400")
    with pytest.raises(UserError, match="no episode ends within"):
        list(source.episodes)


def test_masks_and_the_stated_number_of_actions_must_agree(tmp_path):
    path = by_hand(tmp_path / "v", experience(np.random.default_rng(0), [2]))
    with pytest.raises(UserError, match="for 5 actions, n_actions says 6"):
        reader.read(path, n_actions=6)


def test_says_how_to_install_tensorstore(tmp_path, monkeypatch):
    path = by_hand(tmp_path / "v", experience(np.random.default_rng(0), [2]))
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(UserError, match=r"pip install 'ovmse\[vault\]'"):
        reader.read(path)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data())
@pytest.mark.slow
def test_a_dataset_comes_back_from_a_vault(tmp_path_factory, seed, data):
    """Its final rows are the last ones again: a vault has none."""
    spec = SPEC._replace(n_agents=data.draw(st.integers(1, 4)), n_actions=data.draw(st.integers(1, 4)))
    lengths = data.draw(st.lists(st.integers(1, spec.episode_limit), min_size=1, max_size=6))
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("vault")
    ends = rng.choice(["terminal", "truncated"], len(lengths))
    episodes = [random_episode(rng, length, spec, end) for length, end in zip(lengths, ends, strict=True)]
    dataset = write_dataset(folder / "first", spec, episodes)
    lost = writer.write(dataset, folder / "v")
    assert f"{number_of(len(lengths), 'episode')}, {(ends == 'truncated').sum()} of them cut" in lost[0]
    again = as_dataset(folder / "again", reader.read(folder / "v"), limit=spec.episode_limit)
    final = dataset.row_start + dataset.length
    row = np.arange(len(dataset.obs))
    row[final] -= 1
    for field in ("obs", "state", "avail"):
        np.testing.assert_array_equal(getattr(again, field), getattr(dataset, field)[row])
    for field in ("action", "reward", "terminal", "length"):
        np.testing.assert_array_equal(getattr(again, field), getattr(dataset, field))


def test_exports_in_blocks_of_whole_chunks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(rng, 1 + i % 6) for i in range(50)])
    writer.write(dataset, tmp_path / "v")
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", "64")
    create = writer._create

    def in_small_chunks(path, name, shape, dtype, metadata):
        chunks = {"chunks": [1, 16, *shape[2:]]} if len(shape) > 1 else {}
        return create(path, name, shape, dtype, {"metadata": metadata.get("metadata", {}) | chunks})

    monkeypatch.setattr(writer, "_create", in_small_chunks)
    writer.write(dataset, tmp_path / "w")
    monkeypatch.undo()
    a, b = (list(reader.read(tmp_path / name).episodes) for name in "vw")
    for x, y in zip(a, b, strict=True):
        for field in ("obs", "action", "reward", "terminal", "state", "avail"):
            np.testing.assert_array_equal(getattr(x, field), getattr(y, field))


def test_flashbax_reads_what_was_read_from_flashbax(tmp_path):
    tree = experience(np.random.default_rng(0), [3, 1, 5], cut={1})
    source = reader.read(flashbax_write(tmp_path, tree, made_by="test"))
    assert source.facts["made_by"] == "test"
    writer.write(as_dataset(tmp_path / "d", source), tmp_path / "out" / "game.vlt" / "Good")
    found = flashbax_read(tmp_path / "out" / "game.vlt" / "Good")
    expected = dict(leaves(tree))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_export_is_whole_or_not_at_all(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(np.random.default_rng(0), 3)])
    path = tmp_path / "out" / "v"
    monkeypatch.setattr(writer, "_metadata_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.write(dataset, path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    writer.write(dataset, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["v"]
    with pytest.raises(UserError, match="exists already"):
        writer.write(dataset, path)


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_vault_is_an_error_or_reads_the_same(tmp_path, kind):
    rng = np.random.default_rng(sum(kind.encode()))
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(rng, 1 + i % 6) for i in range(40)])
    writer.write(dataset, tmp_path / "v")

    def contents(path):
        return [np.concatenate([np.ravel(x) for x in e[:6]]) for e in reader.read(path).episodes]

    expected = contents(tmp_path / "v")
    files = sorted(p.relative_to(tmp_path / "v") for p in (tmp_path / "v").rglob("*") if p.is_file())
    refused = 0
    for file in files:
        shutil.copytree(tmp_path / "v", bad := tmp_path / "bad")
        (bad / file).write_bytes(damaged((bad / file).read_bytes(), rng, kind))
        try:
            for x, y in zip(contents(bad), expected, strict=True):
                np.testing.assert_array_equal(x, y)
        except UserError as error:
            assert str(bad) in str(error)
            refused += 1
        shutil.rmtree(bad)
    assert refused >= len(files) // 4
