import os
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.journal import VALUES
from ovmse.data.raw_episode import ImportRules, RawEpisode
from ovmse.data.writer import DatasetWriter


def episode(seed: int, steps: int | None = None, agents: int = 2, actions: int = 3) -> dict:
    """A random whole episode as `add_episode` takes it."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 6)) if steps is None else steps
    avail = rng.random((steps + 1, agents, actions)) < 0.6
    action = rng.integers(0, actions, (steps, agents))
    avail[np.arange(steps)[:, None], np.arange(agents), action] = True
    return {
        "obs": rng.normal(size=(steps + 1, agents, 4)).astype(np.float32),
        "state": rng.normal(size=(steps + 1, 5)).astype(np.float32),
        "avail": avail,
        "action": action,
        "reward": rng.normal(size=steps).astype(np.float32),
        "terminal": bool(rng.random() < 0.5),
        "won": bool(rng.random() < 0.5),
    }


def same(dataset: Dataset, episodes: list[dict]) -> None:
    """The dataset holds exactly these episodes."""
    assert len(dataset.length) == len(episodes)
    for i, given_one in enumerate(episodes):
        found = dataset.episode(i)
        for field in ("obs", "state", "avail", "action", "reward"):
            np.testing.assert_array_equal(getattr(found, field), given_one[field])
        assert found.terminal.tolist() == [False] * (len(given_one["action"]) - 1) + [given_one["terminal"]]
        assert bool(dataset.won[i]) is given_one["won"]


def message(function, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
@pytest.mark.slow
def test_what_is_added_is_what_is_read(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp("writer") / "play"
    episodes = [episode(seed) for seed in seeds]
    with DatasetWriter(path, name="game", about={"behaviour": "random"}) as writer:
        for one in episodes:
            writer.add_episode(**one)
    dataset = Dataset.open(path)
    same(dataset, episodes)
    assert dataset.spec.name == "game"
    assert dataset.spec.episode_limit == max(len(one["action"]) for one in episodes)
    assert dataset.metadata.assumptions == []
    assert [entry.name for entry in path.parent.iterdir()] == ["play"]


def test_the_checksum_is_that_of_the_same_data_written_at_once(tmp_path):
    with DatasetWriter(tmp_path / "a", name="game") as writer:
        for seed in range(5):
            writer.add_episode(**episode(seed))
    a = Dataset.open(tmp_path / "a")
    b = Dataset.write(tmp_path / "b", spec=a.spec, **a.flat, behaviour="other words")
    c = Dataset.write(tmp_path / "c", spec=a.spec, **{**a.flat, "reward": a.reward + 1}, behaviour="other words")
    assert a.metadata.checksum.startswith("sha256:")
    assert a.metadata.checksum == b.metadata.checksum != c.metadata.checksum


def test_a_bad_episode_is_refused_at_the_door_and_the_rest_goes_on(tmp_path):
    good, bad = episode(0, 3), episode(1, 4)
    bad["obs"][2, 1, 3] = np.nan
    with DatasetWriter(tmp_path / "play") as writer:
        writer.add_episode(**good)
        assert "episode 1" in (text := message(writer.add_episode, **bad))
        assert "step 2, agent 1, feature 3: expected a finite number, got nan" in text
        writer.add_episode(**good)
    same(Dataset.open(tmp_path / "play"), [good, good])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"obs": np.zeros((4, 2, 9))},
            r"obs: expected floating-point of shape (4, 2, 4), got float64 of shape (4, 2, 9)",
        ),
        ({"obs": np.zeros((9, 2, 4))}, "3 or 4 rows (there are 3 steps), got shape (9, 2, 4)"),
        ({"action": np.zeros((3, 2)) + 0.5}, "step 0, agent 0: action: expected a whole number, got 0.5"),
        ({"action": np.array(["a"])}, "action: expected numbers, got <U1"),
        ({"action": np.full((3, 2), 7)}, "step 0, agent 0: expected 0 to 2, got 7"),
        ({"avail": np.full((4, 2, 3), 2)}, "avail: expected bool, or only 0 and 1"),
        ({"reward": np.zeros(2)}, "reward: expected shape (3,) or (3, 2), got (2,)"),
        ({"reward": np.array([[1, 1], [1, 2], [0, 0]])}, "step 1: agent 0 was rewarded 1.0, agent 1 2.0"),
        ({"terminal": [True, False, False]}, "terminal before the last step"),
        ({"terminal": [0, 1]}, "terminal: expected bool of shape (3,)"),
        ({"obs": np.full((4, 2, 4), "x")}, "obs: expected numbers, got <U1"),
        ({"obs": np.array([None] * 32).reshape(4, 2, 4)}, "obs: expected numbers, got object"),
    ],
)
def test_what_the_door_says(tmp_path, change, text):
    with DatasetWriter(tmp_path / "play") as writer:
        writer.add_episode(**episode(0, 3))
        assert text in message(writer.add_episode, **(episode(1, 3) | change))
        assert writer.episodes == 1


def test_what_is_not_told_is_supplied_and_written_down(tmp_path):
    one = episode(0, 3)
    with DatasetWriter(tmp_path / "play", n_actions=3) as writer:
        writer.add_episode(obs=one["obs"][:3], action=one["action"], reward=np.ones((3, 2)), terminal=True)
        writer.add_episode(obs=one["obs"], action=one["action"], reward=np.ones(3), terminal=False)
    dataset = Dataset.open(tmp_path / "play")
    np.testing.assert_array_equal(dataset.episode(0).obs[3], one["obs"][2])
    np.testing.assert_array_equal(dataset.episode(1).obs[3], one["obs"][3])
    np.testing.assert_array_equal(dataset.state, dataset.obs.reshape(8, -1))
    assert dataset.avail.all() and dataset.avail.shape[-1] == 3
    assert dataset.metadata.assumptions == [
        "rewards per agent: they agree, and count once (1 of 2 episodes)",
        "no final observation: the last one was repeated (1 of 2 episodes)",
        "no global state: all observations side by side stand for it",
        "no action masks: every action counts as legal",
    ]
    assert not dataset.spec.has_win and dataset.metadata.win_rate is None


def test_rules(tmp_path):
    one = episode(0, 4)
    rules = ImportRules(time_limit=4, rewards="sum", final_row="drop")
    with DatasetWriter(tmp_path / "play", n_actions=3, rules=rules) as writer:
        lone = {"obs": one["obs"][:4], "action": one["action"], "reward": np.ones((4, 2)), "terminal": True}
        writer.add_episode(**lone)  # cut by the limit: its last step has no row to lead to
        writer.add_episode(**lone, won=True)  # a win is the task's end, limit or not
        writer.add_episode(**{name: x[:3] if name != "terminal" else x for name, x in lone.items()})
    dataset = Dataset.open(tmp_path / "play")
    assert dataset.length.tolist() == [3, 4, 3]
    assert dataset.terminal[dataset.step_start + dataset.length - 1].tolist() == [False, True, True]
    assert (dataset.reward == 2).all()
    assert dataset.spec.episode_limit == 4
    assert len(dataset.metadata.assumptions) == 7


def test_a_writer_without_episodes_or_with_an_unknown_number_of_actions(tmp_path):
    writer = DatasetWriter(tmp_path / "play")
    one = episode(0)
    assert "how many actions" in message(writer.add_episode, **{n: x for n, x in one.items() if n != "avail"})
    assert "no episode was added" in message(writer.close)
    assert list(tmp_path.iterdir()) == []
    assert "this writer is closed" in message(writer.add_episode, **one)


def test_one_writer_at_a_time(tmp_path):
    first = DatasetWriter(tmp_path / "play")
    assert "another process is writing there" in message(DatasetWriter, tmp_path / "play")
    first.add_episode(**episode(0))
    assert "another process is writing there" in message(DatasetWriter, tmp_path / "play", resume=True)
    first.stop()
    assert "unfinished dataset of 1 episode lies in" in message(DatasetWriter, tmp_path / "play")
    with DatasetWriter(tmp_path / "play", resume=True) as second:
        assert second.episodes == 1


def test_after_an_exception_all_completed_episodes_are_kept(tmp_path):
    with pytest.raises(ZeroDivisionError), DatasetWriter(tmp_path / "play", n_actions=3) as writer:
        one = episode(0)
        writer.add_episode(**one)
        writer.add_episode(**{n: x for n, x in one.items() if n not in ("avail", "won")})
        raise ZeroDivisionError
    assert not (tmp_path / "play").exists()
    with DatasetWriter(tmp_path / "play", resume=True) as writer:
        assert writer.episodes == 2
        writer.add_episode(**episode(2))
    dataset = Dataset.open(tmp_path / "play")
    assert dataset.metadata.assumptions == [
        "no action masks: every action counts as legal (1 of 3 episodes)",
        "not told whether it was won: counted as not won (1 of 3 episodes)",
    ]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_whatever_a_crash_leaves_of_the_files_only_whole_episodes_count(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("crash") / "play"
    episodes = [episode(seed) for seed in range(6)]
    writer = DatasetWriter(path)
    for one in episodes:
        writer.add_episode(**one)
    writer.stop()
    folder = path.parent / ".play.unfinished"
    hurt = folder / data.draw(st.sampled_from([*VALUES, "records"]))
    raw = bytearray(hurt.read_bytes())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw) - 1))
        hurt.write_bytes(raw[:at] if data.draw(st.booleans()) else bytes(raw[:at]) + bytes(len(raw) - at))
    else:
        hurt.write_bytes(bytes(raw) + data.draw(st.binary(min_size=1, max_size=50)))
    writer = DatasetWriter(path, resume=True)
    kept = writer.episodes
    assert kept <= 6
    for one in episodes[kept:]:
        writer.add_episode(**one)
    writer.close()
    same(Dataset.open(path), episodes)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_writer import DatasetWriter, episode
writer = DatasetWriter({str(tmp_path / "play")!r}, resume=True)
print(writer.episodes, flush=True)
for seed in range(writer.episodes, 10**6):
    writer.add_episode(**episode(seed))
    print(seed + 1, flush=True)
"""
    rng, told = np.random.default_rng(0), 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= told
        for _ in range(int(rng.integers(1, 200))):
            told = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    writer = DatasetWriter(tmp_path / "play", resume=True)
    count = writer.episodes
    assert count >= told
    writer.close()
    same(Dataset.open(tmp_path / "play"), [episode(seed) for seed in range(count)])


def test_many_episodes_are_written_together_or_not_at_all(tmp_path):
    def logged(seed: int, **change) -> RawEpisode:
        one = episode(seed, 3) | change
        return RawEpisode(
            **(one | {"terminal": np.array([False, False, one["terminal"]])}), where=f"log: episode {seed}"
        )

    with DatasetWriter(tmp_path / "play") as writer:
        writer.add([logged(seed) for seed in range(4)])
        bad = logged(5, reward=np.array([0, np.inf, 0]))
        assert "log: episode 4 and those after it" in message(writer.add, [logged(4), bad])
        assert "log: episode 5:" in message(writer.add, [bad])
        assert writer.episodes == 4
    assert len(Dataset.open(tmp_path / "play").length) == 4


def test_a_full_disk_loses_no_episode(tmp_path, monkeypatch):
    from ovmse.data import journal

    writer, real, calls = DatasetWriter(tmp_path / "play"), journal._write, list[int]()
    writer.add_episode(**episode(0))

    def full(file, values):
        calls.append(1)
        if len(calls) == 3:
            real(file, memoryview(values).cast("B")[:5])
            raise OSError(28, "No space left on device")
        real(file, values)

    monkeypatch.setattr(journal, "_write", full)
    assert "No space left on device. What came before, 1 episode, is kept" in message(writer.add_episode, **episode(1))
    monkeypatch.undo()
    with DatasetWriter(tmp_path / "play", resume=True) as writer:
        writer.add_episode(**episode(1))
    same(Dataset.open(tmp_path / "play"), [episode(0), episode(1)])


def test_a_spec_that_is_given_holds(tmp_path):
    with DatasetWriter(tmp_path / "a") as writer:
        writer.add_episode(**episode(0, 3))
    spec = Dataset.open(tmp_path / "a").spec._replace(episode_limit=3, name="mine", settings={"a": (1, 2)})
    with DatasetWriter(tmp_path / "b", spec=spec) as writer:
        writer.add_episode(**episode(0, 3))
        assert "expected at most 3 steps, got 4" in message(writer.add_episode, **episode(0, 4))
    assert Dataset.open(tmp_path / "b").spec == spec._replace(settings={"a": [1, 2]})


@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_while_an_episode_is_written_leaves_the_others_as_they_are(tmp_path, monkeypatch, call, after):
    """Ctrl-C in a notebook: the writer goes on to be used."""
    from ovmse.data import journal

    writer, real, calls = DatasetWriter(tmp_path / "play"), journal._write, list[int]()
    writer.add_episode(**episode(0))

    def interrupted(file, values):
        calls.append(1)
        if after:
            real(file, values)
        if len(calls) == call:
            raise KeyboardInterrupt
        if not after:
            real(file, values)

    monkeypatch.setattr(journal, "_write", interrupted)
    wanted = [episode(0), episode(2)]
    if call <= 7:  # six fields and the record
        with pytest.raises(KeyboardInterrupt):
            writer.add_episode(**episode(1))
    monkeypatch.undo()
    writer.add_episode(**episode(2))
    writer.close()
    same(Dataset.open(tmp_path / "play"), wanted)


def test_what_is_flipped_in_a_record_is_noticed(tmp_path):
    writer = DatasetWriter(tmp_path / "play")
    writer.add_episode(**(episode(0) | {"won": False}))
    writer.stop()
    file = tmp_path / ".play.unfinished" / "records"
    raw = bytearray(file.read_bytes())
    raw[4] ^= 1  # won
    file.write_bytes(raw)
    writer = DatasetWriter(tmp_path / "play", resume=True)
    assert writer.episodes == 0
    writer.discard()


def test_a_torn_assumption_does_not_run_into_the_next(tmp_path):
    one = {name: value for name, value in episode(0).items() if name != "avail"}
    writer = DatasetWriter(tmp_path / "play", n_actions=3)
    writer.add_episode(**episode(1))
    writer.stop()
    with (tmp_path / ".play.unfinished" / "assumptions").open("ab") as file:
        file.write(b"half a sent")
    writer = DatasetWriter(tmp_path / "play", n_actions=3, resume=True)
    writer.add_episode(**one)
    writer.stop()
    with DatasetWriter(tmp_path / "play", n_actions=3, resume=True) as writer:
        assert writer.episodes == 2
    assert Dataset.open(tmp_path / "play").metadata.assumptions == [
        "no action masks: every action counts as legal (1 of 2 episodes)"
    ]


@pytest.mark.parametrize("short", [("state",), ("avail",), ("state", "avail")])
def test_a_final_row_of_state_or_masks_is_not_made_up_silently(tmp_path, short):
    one = episode(0, 3) | {"terminal": False}
    cut = {name: value[:3] if name in short else value for name, value in one.items()}
    with DatasetWriter(tmp_path / "a") as writer:
        writer.add_episode(**cut)
    [text] = Dataset.open(tmp_path / "a").metadata.assumptions
    assert text.startswith("no final ") and "cut episodes bootstrap from it" in text
    with DatasetWriter(tmp_path / "b", rules=ImportRules(final_row="drop")) as writer:
        writer.add_episode(**cut)
    dataset = Dataset.open(tmp_path / "b")
    assert dataset.length.tolist() == [2]
    np.testing.assert_array_equal(dataset.state, one["state"][:3])
    np.testing.assert_array_equal(dataset.obs, one["obs"][:3])


@pytest.mark.parametrize(
    ("field", "value", "rounded"),
    [
        ("obs", 2**24 + 1, True),
        ("obs", 2**24, False),
        ("reward", 2**24 + 1, True),
        ("reward", 0.1, True),
        ("obs", 0.5, False),
    ],
)
def test_rounding_is_noted_where_it_changes_a_value(tmp_path, field, value, rounded):
    one = episode(0, 3)
    one[field] = np.full(one[field].shape, value)
    with DatasetWriter(tmp_path / "play") as writer:
        writer.add_episode(**one)
    assert any("rounded" in text for text in Dataset.open(tmp_path / "play").metadata.assumptions) is rounded


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"won": 2}, "won: expected true or false"),
        ({"won": "no"}, "won: expected numbers"),
        ({"action": 3}, "action: expected shape"),
        ({"obs": [[[1.0]], [[1.0, 2.0]]]}, "lists of equal lengths"),
        ({"terminal": None}, "terminal is missing"),
        ({"terminal": "no"}, "terminal: expected numbers"),
    ],
)
def test_plain_values_are_checked_too(tmp_path, change, text):
    with DatasetWriter(tmp_path / "play") as writer:
        writer.add_episode(**episode(0, 3))
        assert text in message(writer.add_episode, **(episode(1, 3) | change))


def test_attributes_are_checked_before_anything_is_recorded(tmp_path):
    assert "seed: expected int or null, got 'x'" in message(DatasetWriter, tmp_path / "a", about={"seed": "x"})
    assert "behaviour: expected str" in message(DatasetWriter, tmp_path / "a", about={"behaviour": None})
    assert "no attributes ['colour']" in message(DatasetWriter, tmp_path / "a", about={"colour": "red"})
    known = {"assumptions": ["none"], "episodes": 3}  # by the episodes: refused before any is written
    assert "no attributes ['assumptions', 'episodes']" in message(DatasetWriter, tmp_path / "a", about=known)
    assert not list(tmp_path.iterdir())
    assert "expected 1 to 65,536 actions" in message(DatasetWriter, tmp_path / "a", n_actions=-3)
    with DatasetWriter(tmp_path / "b", about={"seed": np.int64(3)}) as writer:
        writer.add_episode(**episode(0))
    assert Dataset.open(tmp_path / "b").metadata.seed == 3


def test_a_longer_episode_than_the_time_limit_is_refused(tmp_path):
    with DatasetWriter(tmp_path / "play", rules=ImportRules(time_limit=3)) as writer:
        writer.add_episode(**episode(0, 3))
        assert "expected at most 3 steps, the time limit, got 4" in message(writer.add_episode, **episode(1, 4))
