"""Padded HDF5 files: where episodes end by `filled` and `terminated`, exact round trips, and what is refused."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.corrupt import DAMAGE, damaged
from support.episodes import SPEC, random_episode, write_dataset
from support.pymarl_logs import FLAT, LIMIT, A, N, batch, save, save_growing

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.pymarl import reader, writer
from ovmse.data.raw_episode import NO_CHECKSUMS, AssumptionLog, ImportRules, complete_episode
from ovmse.system import bounds

h5py = pytest.importorskip("h5py")


SAVERS = {
    "contiguous": save,
    "gzip": lambda path, arrays: save(path, arrays, compression="gzip", compression_opts=9),
    "growing": save_growing,
}


def as_dataset(path, source, rules=None, limit=LIMIT):
    """Import the way the library does: every episode supplied, then written."""
    flats = [
        complete_episode(logged, rules or ImportRules(), source.n_actions, AssumptionLog())
        for logged in source.episodes
    ]
    flat = {key: np.concatenate([f[key] for f in flats]) for key in flats[0]}
    n, o, s = *flat["obs"].shape[1:], flat["state"].shape[1]
    spec = SPEC._replace(n_agents=n, n_actions=source.n_actions, obs_size=o, state_size=s, episode_limit=limit)
    return Dataset.write(path, spec=spec, behaviour="test", **flat)


@pytest.fixture
def arrays():
    return batch(np.random.default_rng(0), [3, 1, LIMIT, 2], cut=[2])


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("block_bytes", [bounds.BLOCK, 64])
def test_reads_episodes_with_every_value(tmp_path, monkeypatch, arrays, saver, block_bytes):
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", str(block_bytes))
    source = reader.read(SAVERS[saver](tmp_path / "log.h5", arrays))
    assert (source.n_actions, source.total, source.assumed, source.format) == (A, 4, (NO_CHECKSUMS,), "pymarl")
    assert source.facts == {"rows": LIMIT + 1, "ignored_keys": ["probs"]}
    for index, (episode, length) in enumerate(zip(source.episodes, [3, 1, LIMIT, 2], strict=True)):
        assert episode.where == f"{tmp_path}/log.h5: episode {index}"
        assert episode.terminal.tolist() == [False] * (length - 1) + [index != 2]
        assert episode.won is None
        for field, name, rows in (("obs", "obs", length + 1), ("state", "state", length + 1),
                                  ("avail", "avail_actions", length + 1)):  # fmt: skip
            np.testing.assert_array_equal(getattr(episode, field), arrays[name][index, :rows])
        np.testing.assert_array_equal(episode.action, arrays["actions"][index, :length, :, 0])
        np.testing.assert_array_equal(episode.reward, arrays["reward"][index, :length, 0])


@pytest.mark.parametrize("n_actions", [0, -1, 65_537])
@pytest.mark.parametrize("masked", [True, False])
def test_impossible_numbers_of_actions_are_refused(tmp_path, arrays, n_actions, masked):
    if not masked:
        del arrays["avail_actions"]
    with pytest.raises(UserError, match="expected 1 to 65,536 actions"):
        reader.read(save(tmp_path / "log.h5", arrays), n_actions=n_actions)


def test_episodes_of_a_block_share_its_arrays(tmp_path, arrays):
    first, second, *_ = reader.read(save(tmp_path / "log.h5", arrays)).episodes
    assert np.shares_memory(first.obs.base, second.obs) and first.obs.base is second.obs.base


def lengths_of(path):
    source = reader.read(path)
    return [(len(e.action), len(e.obs), bool(e.terminal[-1])) for e in source.episodes], tuple(
        set(source.assumed) - {NO_CHECKSUMS}
    )


LAST_ROW = "the last filled row of an episode that is not terminated is the row after its last step"
STEPS_ONLY = "filled rows are steps: no final row is marked, not even where an episode was terminated"


@pytest.mark.parametrize(
    ("cut", "final", "expected", "assumed"),
    [
        ([], True, [(3, 4, True), (1, 2, True)], ()),
        ([0], True, [(3, 4, False), (1, 2, True)], ()),
        ([0, 1], True, [(3, 4, False), (1, 2, False)], (LAST_ROW,)),
        ([], False, [(3, 3, True), (1, 1, True)], ()),
        ([0], False, [(3, 3, False), (1, 1, True)], (STEPS_ONLY,)),
        ([0, 1], False, [(3, 3, False), (1, 1, False)], (STEPS_ONLY,)),  # told by the last rewards
    ],
)
def test_length_follows_from_filled_and_terminated(tmp_path, cut, final, expected, assumed):
    path = save(tmp_path / "log.h5", batch(np.random.default_rng(0), [3, 1], cut, final))
    assert lengths_of(path) == (expected, assumed)


def test_a_file_may_mark_final_rows_of_some_episodes_only(tmp_path):
    arrays = batch(np.random.default_rng(0), [3, 2, 4], cut=[2])
    arrays["filled"][1, 2] = 0
    expected = [(3, 4, True), (2, 2, True), (4, 5, False)]
    assert lengths_of(save(tmp_path / "log.h5", arrays)) == (expected, (LAST_ROW,))


def test_what_stands_in_the_padding_does_not_count(tmp_path, arrays):
    arrays["terminated"][0, 4] = 1
    arrays["actions"][1, 3:] = 99
    del arrays["avail_actions"]
    source = reader.read(save(tmp_path / "log.h5", arrays))
    assert source.n_actions == arrays["actions"][arrays["actions"] < 99].max() + 1
    assert [len(e.action) for e in source.episodes] == [3, 1, LIMIT, 2]


def test_axes_of_one_entry_and_rewards_per_agent(tmp_path, arrays):
    """EPyMARL keeps a reward for each agent; others leave out the last axis. State and masks may be missing."""
    arrays["reward"] = np.repeat(arrays["reward"], N, axis=2)
    for name in ("actions", "terminated", "filled"):
        arrays[name] = arrays[name][..., 0]
    del arrays["state"], arrays["avail_actions"]
    path = save(tmp_path / "log.h5", arrays)
    first, *_ = reader.read(path, n_actions=9).episodes
    assert (first.reward.shape, first.action.shape, first.state, first.avail) == ((3, N), (3, N), None, None)
    assert reader.read(path, n_actions=9).n_actions == 9


def test_other_types_become_native(tmp_path, arrays):
    arrays["obs"] = arrays["obs"].astype(">f8")
    arrays["filled"] = arrays["filled"].astype(bool)
    first, *_ = reader.read(save(tmp_path / "log.h5", arrays)).episodes
    assert first.obs.dtype == np.dtype(np.float64) and first.obs.dtype.isnative
    np.testing.assert_array_equal(first.obs, arrays["obs"][0, :4])


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_wins_by_a_key(tmp_path, arrays, shape):
    arrays["won"] = np.array([1, 0, 0, 1]).reshape(shape)
    assert [e.won for e in reader.read(save(tmp_path / "log.h5", arrays)).episodes] == [True, False, False, True]


def test_a_directory_is_read_in_natural_order(tmp_path):
    rng = np.random.default_rng(0)
    for number, lengths in {0: [1], 2: [2, 3], 10: [4]}.items():
        save(tmp_path / f"part_{number}.h5", batch(rng, lengths))
    (tmp_path / "notes.txt").write_text("no data")
    source = reader.read(tmp_path)
    assert source.total == 4
    found = [(len(e.action), e.where.rsplit("/", 1)[1]) for e in source.episodes]
    assert found == [(1, "part_0.h5: episode 0"), (2, "part_2.h5: episode 0"), (3, "part_2.h5: episode 1"),
                     (4, "part_10.h5: episode 0")]  # fmt: skip
    other = batch(rng, [2])
    other["obs"] = other["obs"][..., :2]
    save(tmp_path / "part_11.h5", other)
    with pytest.raises(UserError, match=r"part_11.h5: expected O = 3 as in part_0.h5, got 2"):
        reader.read(tmp_path)


def _put(name, *place_and_value):
    def change(arrays):
        *place, value = place_and_value
        arrays[name][tuple(place)] = value

    return change


def _as(name, change):
    return lambda arrays: arrays.__setitem__(name, change(arrays[name]))


MALFORMED = {
    "no filled": (lambda a: a.pop("filled"), "missing are filled, there are actions"),
    "gap": (_put("filled", 0, 1, 0), "episode 0, row 1: filled: expected ones, then zeros"),
    "nothing filled": (_put("filled", 1, 0), "episode 1: filled: expected at least one filled row, got none"),
    "half filled": (_put("filled", 1, 0, 2), "episode 1, row 0: filled: expected 0 or 1"),
    "early terminal": (_put("terminated", 0, 0, 1), "episode 0: terminated: expected at the last step"),
    "terminal NaN": (_as("terminated", lambda x: np.full(x.shape, np.nan)), "terminated: expected 0 or 1"),
    "reward at the final row": (_put("reward", 2, LIMIT, 0.5), "episode 2: reward: expected none in the row after"),
    "no step": (lambda a: (a["filled"].__setitem__((1, 1), 0), a["terminated"].__setitem__(1, 0),
                           a["reward"].__setitem__(1, 0)), "episode 1: expected at least one step"),
    "vectors": (_as("actions", lambda x: np.repeat(x, 2, -1)), "actions: .* got shape .*Only discrete actions"),
    "continuous": (_as("actions", lambda x: x / 2), "actions: expected whole numbers, got float64. Only discrete"),
    "agents": (_as("actions", lambda x: x[:, :, :1]), "actions: .* with N = 2 as in obs, got shape"),
    "rows": (_as("reward", lambda x: x[:, :-1]), "reward: .* with R = 6 as in obs"),
    "episodes": (_as("filled", lambda x: x[:-1]), "filled: .* with E = 4 as in obs"),
    "axes": (_as("obs", lambda x: x[..., 0]), r"obs: expected axes \(E, R, N, O\), got shape"),
    "no features": (_as("obs", lambda x: x[..., :0]), "obs: expected axes"),
    "text": (_as("state", lambda x: x.astype("S4")), r"state: expected numbers, got \|S4"),
    "complex": (_as("obs", lambda x: x.astype(complex)), "obs: expected numbers, got complex128"),
    "records": (_as("reward", lambda x: x.astype([("value", "f4")])), "reward: expected numbers, got"),
    "wins": (lambda a: a.__setitem__("won", np.array([0, 1, 2, 0])), "won: expected 0 or 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_refuses_what_it_cannot_use(tmp_path, arrays, case):
    change, message = MALFORMED[case]
    change(arrays)
    with pytest.raises(UserError, match=f"{tmp_path}/log.h5: .*{message}"):
        list(reader.read(save(tmp_path / "log.h5", arrays)).episodes)


def _elsewhere(path, arrays):
    """A whole file beside, for links to point to."""
    return str(save(path.with_name("other.h5"), arrays).name)


def _virtual(file, values, other):
    layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
    layout[:] = h5py.VirtualSource(other, "obs", shape=values.shape)
    file.create_virtual_dataset("obs", layout)


STORED = {
    "soft link": (lambda f, x, other: f.__setitem__("obs", h5py.SoftLink("/state")), "got a link"),
    "external link": (lambda f, x, other: f.__setitem__("obs", h5py.ExternalLink(other, "obs")), "got a link"),
    "virtual": (_virtual, "they are kept in others"),
    "external": (lambda f, x, other: f.create_dataset("obs", x.shape, "f4", external=[("raw.bin", 0, x.nbytes)]),
                 "they are kept in others"),
    "group": (lambda f, x, other: f.create_group("obs"), "expected a dataset, got a group"),
    "empty": (lambda f, x, other: f.create_dataset("obs", data=h5py.Empty("f4")), "got an empty dataset"),
    "texts": (lambda f, x, other: f.create_dataset("obs", x.shape, h5py.string_dtype()), "got object"),
    "references": (lambda f, x, other: f.create_dataset("obs", x.shape, h5py.ref_dtype), "got object"),
    "never written": (lambda f, x, other: f.create_dataset("obs", x.shape, "f4"), "576 bytes in the file, got 0"),
    "no chunks": (lambda f, x, other: f.create_dataset("obs", (4, 6, 2, 10**9), "f4", chunks=(1, 1, 1, 1000)),
                  "expected 48,000,000 chunks in the file, got 0"),
    "large chunks": (lambda f, x, other: f.create_dataset("obs", (4, 6, 2, 10**9), "f4", chunks=(1, 1, 1, 10**9)),
                     "would unpack to 4,000,000,000 bytes"),
    "strange floats": (lambda f, x, other: _strange(f, x), "expected float64 in the usual layout"),
}  # fmt: skip


def _strange(file, values):
    """Floats with another bias than NumPy's, as a flipped bit in the header makes them."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    space = h5py.h5s.create_simple(values.shape)
    dataset = h5py.h5d.create(file.id, b"obs", kind, space)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values, np.float32))


@pytest.mark.parametrize("case", STORED)
def test_refuses_values_that_are_not_in_the_file(tmp_path, arrays, case):
    create, message = STORED[case]
    path = tmp_path / "log.h5"
    other = _elsewhere(path, arrays)
    save(path, {name: values for name, values in arrays.items() if name != "obs"})
    with h5py.File(path, "a") as file:
        create(file, arrays["obs"], other)
    with pytest.raises(UserError, match=f"{path}: obs: .*{message}"):
        reader.read(path)


def test_refuses_what_is_no_hdf5_file(tmp_path):
    (tmp_path / "log.h5").write_bytes(b"state,obs\n1,2\n")
    with pytest.raises(UserError, match="log.h5: expected an HDF5 file, cannot read it"):
        reader.read(tmp_path / "log.h5")
    with pytest.raises(UserError, match="got nothing"):
        reader.read(tmp_path / "other.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected files"):
        reader.read(tmp_path / "empty")


def test_refuses_an_episode_that_would_fill_the_memory(tmp_path, monkeypatch, arrays):
    monkeypatch.setenv("OVMSE_UNPACK_BYTES", "100")
    with pytest.raises(UserError, match="expected at most 100.*OVMSE_UNPACK_BYTES="):
        reader.read(save(tmp_path / "log.h5", arrays))


def test_masks_and_the_stated_number_of_actions_must_agree(tmp_path, arrays):
    with pytest.raises(UserError, match="avail_actions is for 5 actions, n_actions says 6"):
        reader.read(save(tmp_path / "log.h5", arrays), n_actions=6)


def test_facts_come_from_attributes_of_a_fixed_length(tmp_path, arrays):
    path = save(tmp_path / "log.h5", arrays)
    with h5py.File(path, "a") as file:
        file.attrs.update({"map": np.bytes_("3m"), "seed": 7, "text": "variable", "long": np.zeros(5000)})
    facts = reader.read(path).facts
    assert facts == {"map": "3m", "seed": 7, "rows": LIMIT + 1, "ignored_keys": ["probs"]}


def test_says_how_to_install_h5py(tmp_path, monkeypatch, arrays):
    path = save(tmp_path / "log.h5", arrays)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'ovmse\[hdf5\]'"):
        reader.read(path)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data())
@pytest.mark.slow
def test_a_dataset_comes_back_exactly(tmp_path_factory, seed, data):
    spec = SPEC._replace(n_agents=data.draw(st.integers(1, 4)), n_actions=data.draw(st.integers(1, 4)))
    lengths = data.draw(st.lists(st.integers(1, spec.episode_limit), min_size=1, max_size=20))
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("pymarl")
    ends = rng.choice(["terminal", "truncated"], len(lengths))
    episodes = [random_episode(rng, length, spec, end) for length, end in zip(lengths, ends, strict=True)]
    episodes = [e._replace(reward=np.where(e.valid, e.reward, 0)) for e in episodes]
    dataset = write_dataset(folder / "first", spec, episodes, rng.random(len(lengths)) < 0.5)
    early = sum(end == "truncated" and length < spec.episode_limit for length, end in zip(lengths, ends, strict=True))
    lost = writer.write(dataset, folder / "log.h5")
    assert len(lost) == (early > 0)
    assert all(f"of {early} episode{'s' * (early > 1)} cut before the limit of 6 steps" in text for text in lost)
    source = reader.read(folder / "log.h5")
    assert source.facts["ovmse"]["env"] == spec.described()
    again = as_dataset(folder / "again", source, limit=spec.episode_limit)
    for field in FLAT:
        np.testing.assert_array_equal(getattr(again, field), getattr(dataset, field), err_msg=field)
        assert getattr(again, field).dtype == getattr(dataset, field).dtype


@pytest.mark.parametrize("saver", SAVERS)
def test_an_exported_file_is_as_the_frameworks_write_it(tmp_path, arrays, saver):
    """All keys but probs; the runners also draw actions at the final row, which nobody takes."""
    dataset = as_dataset(tmp_path / "d", reader.read(SAVERS[saver](tmp_path / "in.h5", arrays)))
    writer.write(dataset, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == set(arrays) - {"probs"} | {"actions_onehot"}
        taken = arrays["terminated"].cumsum(axis=1) - arrays["terminated"] == 0
        taken &= (arrays["filled"] == 1) & (np.arange(LIMIT + 1) < LIMIT)[:, None]
        one_hot = np.eye(A, dtype=np.float32)[arrays["actions"][..., 0]] * taken[..., None]
        np.testing.assert_array_equal(file["actions_onehot"][:], one_hot)
        for name in set(file) - {"actions_onehot"}:
            assert file[name].fletcher32 and file[name].compression == "gzip"
            assert file[name].dtype == arrays[name].dtype, name
            np.testing.assert_array_equal(file[name][:], arrays[name], err_msg=name)


def trained_on(path):
    """The steps that PyMARL's learners train on: (episode, row, the row it bootstraps from, or None).

    mask = filled[:-1], and no row after a terminated one; the loss at row t bootstraps from row t+1 unless terminated.
    """
    with h5py.File(path) as file:
        filled, terminated = (file[name][:, :-1, 0].astype(int) for name in ("filled", "terminated"))
        mask = filled.copy()
        mask[:, 1:] *= 1 - terminated[:, :-1]
        return {(e, t, None if terminated[e, t] else t + 1) for e, t in np.argwhere(mask).tolist()}


def test_pymarl_trains_on_the_steps_that_were_played_and_on_no_other(tmp_path):
    rng = np.random.default_rng(0)
    lengths, ends = rng.integers(1, SPEC.episode_limit + 1, 60).tolist(), rng.choice(["terminal", "truncated"], 60)
    played = [random_episode(rng, length, SPEC, end) for length, end in zip(lengths, ends, strict=True)]
    dataset = write_dataset(tmp_path / "d", SPEC, played)
    writer.write(dataset, tmp_path / "log.h5")
    steps = {
        (e, t, None if t == length - 1 and ends[e] == "terminal" else t + 1)
        for e, length in enumerate(lengths)
        for t in range(length)
    }
    found = trained_on(tmp_path / "log.h5")
    assert (len(found - steps), len(steps - found)) == (0, 0)
    with h5py.File(tmp_path / "log.h5") as file:  # what it bootstraps from is what was there
        for e, t, row in found:
            assert file["actions_onehot"][e, t].argmax(-1).tolist() == file["actions"][e, t, :, 0].tolist()
            if row is not None:
                np.testing.assert_array_equal(file["obs"][e, row], played[e].obs[row])
                np.testing.assert_array_equal(file["avail_actions"][e, row], played[e].avail[row])


def test_exports_in_blocks_of_whole_chunks(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(rng, 1 + i % 6) for i in range(50)])
    writer.write(dataset, tmp_path / "a.h5")
    monkeypatch.setattr(writer, "CHUNK_BYTES", 64)
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", "300")
    writer.write(dataset, tmp_path / "b.h5")
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert b["obs"].chunks == (1, 2, 3, 2) and a["obs"].chunks == a["obs"].shape
        for name in a:
            np.testing.assert_array_equal(a[name][:], b[name][:])


def test_says_what_finds_no_place(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(np.random.default_rng(0), 3)], [True])
    monkeypatch.setattr(writer, "ATTRIBUTE_BYTES", 0)
    settings_lost, wins_lost = writer.write(dataset, tmp_path / "log.h5")
    assert "the environment" in settings_lost and "which were won, of 1 episode," in wins_lost
    assert [e.won for e in reader.read(tmp_path / "log.h5").episodes] == [None]


def test_export_is_whole_or_not_at_all(tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(np.random.default_rng(0), 3)])
    path = tmp_path / "out" / "log.h5"
    monkeypatch.setattr(writer, "_write_attributes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.write(dataset, path)
    assert list(path.parent.iterdir()) == []
    monkeypatch.undo()
    writer.write(dataset, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["log.h5"]
    with pytest.raises(UserError, match="exists already"):
        writer.write(dataset, path)


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_export_is_an_error_or_reads_the_same(tmp_path, kind):
    rng = np.random.default_rng(sum(kind.encode()))
    dataset = write_dataset(tmp_path / "d", SPEC, [random_episode(rng, 1 + i % 6) for i in range(40)])
    writer.write(dataset, tmp_path / "log.h5")

    def contents(path):
        return [np.concatenate([np.ravel(x) for x in e[:6]]) for e in reader.read(path).episodes]

    expected, whole = contents(tmp_path / "log.h5"), (tmp_path / "log.h5").read_bytes()
    refused, bad = 0, tmp_path / "bad.h5"
    for _ in range(20):
        bad.write_bytes(damaged(whole, rng, kind))
        try:
            for x, y in zip(contents(bad), expected, strict=True):
                np.testing.assert_array_equal(x, y)
        except UserError as error:
            assert str(bad) in str(error)
            refused += 1
    assert refused >= 5
