"""Tables of steps: what a user's file holds comes out cell for cell, and what cannot be read is named by its place."""

import dataclasses
import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from pyarrow import csv as pa_csv, parquet
from support.corrupt import damaged
from support.episodes import SPEC, random_episode, write_dataset

from ovmse.core.errors import UserError
from ovmse.data.formats.table import reader, writer
from ovmse.data.formats.table.columns import Columns, load_columns, natural
from ovmse.data.raw_episode import NO_CHECKSUMS, AssumptionLog, ImportRules, complete_episode
from ovmse.data.schema import KINDS, NAMED

HEAD = "episode,step,agent,obs_0,obs_1,action,reward,done"
GOOD = [
    "0,0,0,1,2,0,1.5,0",
    "0,0,1,3,4,1,1.5,0",
    "0,1,0,5,6,2,0.5,1",
    "0,1,1,7,8,0,0.5,1",
    "1,0,0,1,2,1,0,0",
    "1,0,1,3,4,1,0,0",
]


def text_file(tmp_path, lines=GOOD, head=HEAD, name="log.csv", end="\n"):
    path = tmp_path / name
    path.write_bytes("".join(line + end for line in [head, *lines]).encode())
    return path


def episodes(path, **options):
    return list(reader.read(path, **options).episodes)


def refused(path, *words, **options):
    """The message, which has the words in it."""
    with pytest.raises(UserError) as caught:
        episodes(path, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return str(caught.value)


def supplied(source):
    """The flat arrays of all episodes."""
    ledger = AssumptionLog()
    parts = [complete_episode(logged, ImportRules(), source.n_actions, ledger) for logged in source.episodes]
    return {name: np.concatenate([part[name] for part in parts]) for name in KINDS}


def random_dataset(path, seed, count=12):
    rng = np.random.default_rng(seed)
    made = [random_episode(rng, int(rng.integers(1, 7)), ends=("terminal", "truncated")[i % 2]) for i in range(count)]
    return write_dataset(path, SPEC, made, rng.random(count) < 0.5)


def user_rows(rng, lengths, n, o, a, s, final):
    """The rows of random episodes as a user would list them: a dictionary of columns, and the truth per episode."""
    columns, truth = {}, []
    for episode, steps in enumerate(lengths):
        rows = steps + final
        obs = rng.normal(size=(rows, n, o)).astype(np.float32)
        state, avail = rng.normal(size=(rows, s)).astype(np.float32), rng.random((rows, n, a)) < 0.7
        action, reward = rng.integers(0, a, (steps, n)), np.round(rng.normal(size=steps), 3)
        truth.append({"obs": obs, "state": state, "avail": avail, "action": action, "reward": reward})
        for t in range(rows):
            for i in range(n):
                acts = t < steps
                row = {"episode": episode, "step": t, "agent": i, "action": int(action[t, i]) if acts else None}
                row |= {"reward": float(reward[t]) if acts else None, "done": t == steps - 1 if acts else None}
                row |= {f"obs_{j}": obs[t, i, j] for j in range(o)} | {f"state_{j}": state[t, j] for j in range(s)}
                row |= {f"avail_{j}": bool(avail[t, i, j]) for j in range(a)}
                for name, value in row.items():
                    columns.setdefault(name, []).append(value)
    return columns, truth


def write_user(path, columns):
    made = pa.table(columns)
    if path.suffix == ".parquet":
        parquet.write_table(made, path, row_group_size=7)
    elif path.suffix == ".csv":
        pa_csv.write_csv(made, path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, made.schema) as writer:
            writer.write_table(made, max_chunksize=5)
    else:
        with pa.ipc.new_stream(path, made.schema) as writer:
            writer.write_table(made, max_chunksize=5)
    return path


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_users_table_comes_out_cell_for_cell(tmp_path_factory, seed, data):
    """Any team, any lengths, columns in any order, rows of an episode in any order, blocks of any size."""
    rng = np.random.default_rng(seed)
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    n, o, a = (data.draw(st.integers(1, k)) for k in (3, 12, 4))
    final = data.draw(st.booleans())
    columns, truth = user_rows(rng, lengths, n, o, a, data.draw(st.integers(1, 3)), final)
    order = np.concatenate(
        [rng.permutation(np.flatnonzero(np.array(columns["episode"]) == e)) for e in range(len(truth))]
    )
    names = data.draw(st.permutations(list(columns)))
    suffix = data.draw(st.sampled_from([".parquet", ".csv", ".arrow", ".ipc"]))
    columns = {name: [columns[name][i] for i in order] for name in names}
    path = write_user(tmp_path_factory.mktemp("t") / f"log{suffix}", columns)
    with pytest.MonkeyPatch.context() as patch:
        block = data.draw(st.sampled_from([500, 4000, 2**25]))
        patch.setenv("OVMSE_BLOCK_BYTES", str(block))
        try:
            got = episodes(path)
        except UserError as error:
            assert "straddling" in str(error)  # a line beyond the small block
            return
    assert len(got) == len(truth)
    for logged, true in zip(got, truth, strict=True):
        for name in ("obs", "state", "avail", "action"):
            np.testing.assert_array_equal(getattr(logged, name), true[name])
        reward = true["reward"].astype(np.float32 if suffix == ".csv" else np.float64)
        np.testing.assert_array_equal(logged.reward, np.repeat(reward[:, None], n, 1))
        np.testing.assert_array_equal(logged.terminal, np.arange(len(true["action"])) == len(true["action"]) - 1)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_a_dataset_comes_back_from_its_export_exactly(tmp_path, name):
    dataset = random_dataset(tmp_path / "data", 3)
    lost = writer.write(dataset, tmp_path / name)
    source = reader.read(tmp_path / name)
    got = supplied(source)
    for field in KINDS:
        np.testing.assert_array_equal(got[field], getattr(dataset, field), err_msg=field)
    assert bool(lost) == (name != "a.parquet")
    assert source.n_actions == SPEC.n_actions
    assert ("metadata" in source.facts) == (name != "a.csv")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_names_come_back_from_an_export_that_has_a_place_for_them(tmp_path):
    plain = random_dataset(tmp_path / "data", 3)
    called = {kind: tuple(f"{kind} {i}" for i in range(getattr(SPEC, size))) for kind, size in NAMED.items()}
    dataset = dataclasses.replace(plain, metadata=dataclasses.replace(plain.metadata, **called))
    for name in ("a.parquet", "a.arrow", "a.csv"):
        writer.write(dataset, tmp_path / name)
        expected = called if name != "a.csv" else dict.fromkeys(called)
        found = reader.read(tmp_path / name).names._asdict()
        assert {kind: found[kind] for kind in ("agents", "actions")} == {k: expected[k] for k in ("agents", "actions")}
        assert name == "a.csv" or found == called


def test_an_export_in_blocks_is_the_same_table(tmp_path, monkeypatch):
    dataset = random_dataset(tmp_path / "data", 4)
    writer.write(dataset, tmp_path / "one.parquet")
    monkeypatch.setenv("OVMSE_BLOCK_BYTES", "1000")
    writer.write(dataset, tmp_path / "many.parquet")
    one, many = (parquet.ParquetFile(tmp_path / name) for name in ("one.parquet", "many.parquet"))
    assert one.num_row_groups == 1 < many.num_row_groups
    assert one.read().equals(many.read())


def test_an_export_has_a_row_per_step_and_agent(tmp_path):
    dataset = random_dataset(tmp_path / "data", 5)
    writer.write(dataset, tmp_path / "a.parquet")
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(rows) == (dataset.length + 1).sum() * SPEC.n_agents
    steps = int(dataset.length[0])
    last = rows[(steps - 1) * SPEC.n_agents + 1]
    assert (last["episode"], last["step"], last["agent"]) == (0, steps - 1, 1)
    assert (last["terminal"], last["truncated"], last["won"]) == (True, False, bool(dataset.won[0]))
    np.testing.assert_array_equal(last["obs"], dataset.obs[steps - 1, 1])
    after = rows[steps * SPEC.n_agents]
    assert {after[name] for name in ("action", "reward", "terminal", "truncated")} == {None}


def test_an_export_refuses_what_exists_and_leaves_nothing_after_a_failure(tmp_path, monkeypatch):
    dataset = random_dataset(tmp_path / "data", 6)
    (tmp_path / "a.parquet").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        writer.write(dataset, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="endings"):
        writer.write(dataset, tmp_path / "a.xlsx")

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr("ovmse.data.formats.table.writer._batch", broken)
    with pytest.raises(UserError, match="no space left"):
        writer.write(dataset, tmp_path / "b.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "data"]


def test_a_small_csv_file(tmp_path):
    source = reader.read(text_file(tmp_path))
    first, second = source.episodes
    np.testing.assert_array_equal(first.obs, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    np.testing.assert_array_equal(first.action, [[0, 1], [2, 0]])
    np.testing.assert_array_equal(first.reward, [[1.5, 1.5], [0.5, 0.5]])
    assert first.terminal.tolist() == [False, True]
    assert second.terminal.tolist() == [False]
    assert (first.state, first.avail, first.won) == (None, None, None)
    assert source.n_actions == 3
    final = "a final row that is done ends the task with the step before it"
    single = "numbers in text are read in single precision"
    assert source.assumed == ("the largest action in the table is 2: 3 actions", final, single, NO_CHECKSUMS)
    assert source.facts["columns"]["obs"] == "obs_0, obs_1"
    assert first.where == f"{tmp_path / 'log.csv'}: lines 2 to 5: episode 0"


@pytest.mark.parametrize(
    ("change", "end"),
    [
        (lambda text: "\ufeff" + text, "\n"),
        (lambda text: text, "\r\n"),
        (lambda text: text.replace(",", ";"), "\n"),
        (lambda text: text.replace(",", "\t"), "\n"),
        (lambda text: '"' + text.replace(",", '","') + '"', "\n"),
    ],
)
def test_dialects_of_csv(tmp_path, change, end):
    expected = episodes(text_file(tmp_path, name="plain.csv"))
    path = text_file(tmp_path, [change(line).removeprefix("\ufeff") for line in GOOD], change(HEAD), end=end)
    for got, true in zip(episodes(path), expected, strict=True):
        np.testing.assert_array_equal(got.obs, true.obs)
        np.testing.assert_array_equal(got.action, true.action)


def test_compressed_csv_and_blank_lines(tmp_path):
    path = text_file(tmp_path, [*GOOD[:4], "", *GOOD[4:], "", ""])
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        got = episodes(file)
        assert [len(each.obs) for each in got] == [2, 1]
        assert "lines 7 to 8" in got[1].where
    packed.write_bytes(gzip.compress(path.read_bytes())[:-30])
    refused(packed, "log.csv.gz")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["0,0,0,abc,2,0,1,0"], ["line 8", "'obs_0'", "'abc'", "a number"]),
        (["2;0;0"], ["line 8", "8 cells", "got 1"]),
        (["2,0,0,1,2,1.5,1,0"], ["line 8", "'action'", "1.5", "whole number"]),
        (["2,0,0,1,2,-1,1,0"], ["line 8", "'action'", "-1"]),
        (["2,0,0,,2,1,1,0"], ["line 8", "'obs_0'", "nothing"]),
        (["2,0,0,NA,2,1,1,0"], ["line 8", "'obs_0'", "nothing"]),
        (["2,0,0,1,2,1,1,nan"], ["line 8", "'done'", "nothing"]),
        (["2,0,nan,1,2,1,1,0"], ["line 8", "'agent'", "got nan"]),
        (["2,0,0,1,2,1,,0"], ["line 8", "'reward'", "nothing"]),
        (["2,0,0,1,2,,1,0"], ["line 8", "'action'", "nothing"]),
        (["2,0,0,1,2,1,1,"], ["line 8", "'done'", "nothing"]),
        (["2,0,0,1,2,1,1,2"], ["line 8", "'done'", "'2'"]),
        ([",0,0,1,2,1,1,0"], ["line 8", "'episode'", "nothing"]),
        (["x,0,0,1,2,1,1,0"], []),
        (["2,0.5,0,1,2,1,1,0"], ["line 8", "'step'", "0.5"]),
        (["2,1e300,0,1,2,1,1,0"], ["line 8", "'step'"]),
        (["2,0,0,1,2,1,1,0"], ["line 8", "episode 2, step 0", "no row of agent 1", "--missing-agents idle"]),
        (["2,0,7,1,2,1,1,0"], ["line 8", "agent 7", "0, 1"]),
        (["2,1,0,1,2,1,1,0", "2,1,1,1,2,1,1,0"], ["line 8", "first step", "got 1"]),
        (["1,2,0,1,2,1,1,0", "1,2,1,1,2,1,1,0"], ["line 6", "step 1 is missing", "followed by 2"]),
        (["1,2000000000000,0,1,2,1,1,0"], ["line 6", "step 1 is missing"]),
        (["1,0,1,1,2,1,1,0"], ["line 7", "episode 1, step 0, agent 1 comes again", "line 8"]),
        (["0,2,0,1,2,1,1,0", "0,2,1,1,2,1,1,0"], ["line 8", "episode 0 comes back", "line 2", "--unsorted sort"]),
        (["1,1,0,1,2,,,", "1,1,1,1,2,1,1,0"], ["line 8", "no action"]),
        (["1,1,0,1,2,,,", "1,1,1,1,2,,,", "1,2,0,1,2,1,1,0", "1,2,1,1,2,1,1,0"], ["line 8", "more steps follow"]),
        (["2,0,0,1,2,,,", "2,0,1,1,2,,,"], ["line 8", "without steps"]),
    ],
)
def test_bad_rows_are_named_by_line(tmp_path, lines, words):
    path = text_file(tmp_path, GOOD + lines)
    refused(path, "log.csv", *words)


def test_decimal_commas_are_told(tmp_path):
    lines = [line.replace(",", ";") for line in GOOD]
    path = text_file(tmp_path, [*lines, "2;0;0;1,5;2;0;1;0"], HEAD.replace(",", ";"))
    refused(path, "line 8", "'1,5'", "--decimal ,")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"\n\n", ["empty"]),
        (HEAD.encode(), ["no rows after"]),
        (HEAD.encode() + b"\n" + b"," * 7 + b"\n", ["no row with an action"]),
        (b"0,0,0,1,2,0,1.5,0\n", ["line 1", "names of the columns"]),
        (HEAD.replace("obs_1", "obs_0").encode() + b"\n", ["two columns", "'obs_0'"]),
        (HEAD.replace("action", "move").encode() + b"\n", ["no column for action", "--columns.action"]),
        (HEAD.replace("obs_", "x").encode() + b"\n", ["no column for obs"]),
        (("\ufeff" + HEAD).encode("utf-16"), ["UTF-8"]),
        (b"PK\x03\x04\0\0\0\0", ["UTF-8"]),
        (b"x" * 2**21, ["beyond 512 KiB"]),
    ],
)
def test_bad_files_are_refused(tmp_path, content, words):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    refused(path, "log.csv", *words)


def test_files_that_are_no_tables(tmp_path):
    refused(tmp_path / "none.csv", "no such file")
    (tmp_path / "log.xlsx").write_bytes(b"x")
    refused(tmp_path / "log.xlsx", "endings")
    refused(tmp_path, "there is no .parquet", ".csv.gz", "file in this directory")
    for name in ("log.parquet", "log.arrow"):
        (tmp_path / name).write_bytes(b"no such thing")
        refused(tmp_path / name, name, "damaged")


def test_columns_by_other_names(tmp_path):
    head = "run,t,who,x,y,a,r,over"
    path = text_file(tmp_path, head=head)
    named = Columns(episode="run", step="t", agent="who", obs=("x", "y"), action="a", reward="r", done="over")
    got, expected = episodes(path, columns=named), episodes(text_file(tmp_path, name="plain.csv"))
    np.testing.assert_array_equal(got[0].obs, expected[0].obs)
    assert got[0].terminal.tolist() == [False, True]
    refused(path, "'rum'", "Did you mean 'run'", columns=Columns(episode="rum"))
    refused(path, "no column matches 'z*'", columns=Columns(**{**vars(named), "obs": ("z*",)}))
    refused(path, "'x' has more than one role", columns=Columns(**{**vars(named), "won": "x"}))
    (tmp_path / "columns.json").write_text(json.dumps({"episode": "run", "obs": ["x", "y"], "action": "a"}))
    (tmp_path / "columns.toml").write_text('episode = "run"\nobs = ["x", "y"]\naction = "a"\n')
    for name in ("columns.json", "columns.toml"):
        assert load_columns(tmp_path / name) == Columns(episode="run", obs=("x", "y"), action="a")
    for text, word in (("{", "JSON"), ('{"ops": "x"}', "'obs'"), ('{"action": 1}', "a name"), ("[]", "object")):
        (tmp_path / "columns.json").write_text(text)
        with pytest.raises(UserError, match=word):
            load_columns(tmp_path / "columns.json")


def test_numbered_columns_are_in_natural_order(tmp_path):
    assert sorted(["obs_10", "obs_2", "obs_1"], key=natural) == ["obs_1", "obs_2", "obs_10"]
    names = [f"obs_{i}" for i in (10, 2, 1)]
    columns = {"episode": [0], "step": [0], "agent": ["a"], "action": [0], "reward": [1.0]}
    columns |= {name: [float(name[4:])] for name in names}
    for options in ({}, {"columns": Columns(obs=("obs_*",))}):
        got = episodes(write_user(tmp_path / "log.parquet", columns), **options)
        assert got[0].obs.ravel().tolist() == [1, 2, 10]
    refused(write_user(tmp_path / "log.parquet", columns | {"avail_0": [1], "avail_2": [1]}), "without gaps", "avail_2")


def test_names_of_agents_and_episodes(tmp_path):
    columns = {
        "episode": ["red", "red", "blue", "blue"],
        "step": [1, 1, 1, 1],
        "agent": ["unit10", "unit9", "unit9", "unit10"],
        "obs": [[10.0], [9.0], [9.0], [10.0]],
        "action": [1.0, 0.0, 0.0, 1.0],
        "reward": [1, 1, 2, 2],
    }
    for values in (columns, columns | {"agent": pa.array(columns["agent"]).dictionary_encode()}):
        source = reader.read(write_user(tmp_path / "log.parquet", values))
        got = list(source.episodes)
        assert [each.obs.ravel().tolist() for each in got] == [[9, 10]] * 2
        assert [each.action.ravel().tolist() for each in got] == [[0, 1]] * 2
        assert "episode blue" in got[1].where
        assert any("natural order of their names" in line for line in source.assumed)
        assert any("no done column" in line for line in source.assumed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"obs": [[1.0], [1.0, 2.0]]}, ["row 1", "a list of 1 numbers, got 2"]),
        ({"obs": [[1.0], None]}, ["row 1", "nothing"]),
        ({"obs": [[1.0], [None]]}, ["row 1", "nothing"]),
        ({"obs": ["x", "y"]}, ["no column for obs"]),
        ({"action": [["up"], ["down"]]}, ["no column for action"]),
        ({"action": [0.5, 1]}, ["row 0", "'action'", "a whole number, got 0.5", "--bins action=5"]),
        ({"action": [1, 2**40]}, ["row 1", "'action'"]),
        ({"avail": [[True, False], [True, None]]}, ["row 1", "'avail'", "nothing"]),
        ({"avail": [[1, 0], [1, 2]]}, ["row 1", "0 or 1, got 2"]),
        ({"state": [[1.0], [2.0]]}, ["row 1", "the state differs", "1.0 and 2.0"]),
        ({"agent": ["a", ""]}, ["row 1", "'agent'", "nothing"]),
        ({"agent": pa.array([0, 2**63], pa.uint64())}, ["row 1", "'agent'"]),
        ({"step": [0, None]}, ["row 1", "'step'"]),
    ],
)
def test_bad_rows_of_typed_tables(tmp_path, changes, words):
    columns = {"episode": [0, 0], "step": [0, 0], "agent": [0, 1], "obs": [[1.0], [2.0]], "action": [0, 1]}
    path = write_user(tmp_path / "log.parquet", columns | {"reward": [1.0, 1.0]} | changes)
    refused(path, "log.parquet", *words)


def test_actions_by_the_argument_and_by_the_masks(tmp_path):
    path = text_file(tmp_path)
    assert reader.read(path, n_actions=9).n_actions == 9
    refused(text_file(tmp_path, [*GOOD, "1,1,0,1,1,99999999,0,0"], name="far.csv"), "100,000,000", "--n-actions")
    masked = text_file(tmp_path, [line + ",1,1" for line in GOOD], HEAD + ",avail_0,avail_1", "masked.csv")
    assert reader.read(masked).n_actions == 2
    refused(masked, "2 actions", "9", n_actions=9)


def test_agents_that_are_out_of_play(tmp_path):
    lines = ["0,0,0,1,2,0,1,0", "0,0,1,3,4,2,1,0", "0,1,1,5,6,2,2,1", "1,0,0,1,2,0,1,0", "1,0,1,1,2,0,3,1"]
    path = text_file(tmp_path, [*lines, "1,1,0,9,9,1,5,1"])
    first, second = episodes(path, missing_agents="idle")
    np.testing.assert_array_equal(first.obs[1], [[0, 0], [5, 6]])
    np.testing.assert_array_equal(first.action, [[0, 2], [0, 2]])
    np.testing.assert_array_equal(first.avail[1], [[True, False, False], [True, True, True]])
    np.testing.assert_array_equal(first.reward, [[1, 1], [2, 2]])  # they share rewards
    np.testing.assert_array_equal(second.reward, [[1, 3], [5, 0]])  # each has its own
    assert first.terminal.tolist() == [False, True]
    refused(path, "line 4", "no row of agent 0")
    many = [f"0,{t},{t},1,1,0,1,0" for t in range(200)]
    refused(text_file(tmp_path, many), "200 agents", missing_agents="idle")


def test_truncated_wins_over_done_and_ends_its_episode(tmp_path):
    head = HEAD + ",truncated"
    cut = text_file(tmp_path, [line + ",0" for line in GOOD[:2]] + [line + ",1" for line in GOOD[2:4]], head)
    assert episodes(cut)[0].terminal.tolist() == [False, False]
    early = text_file(tmp_path, [line + ",1" for line in GOOD[:4]], head)
    refused(early, "line 3", "truncated before the last step")


FINAL = ["0,2,0,1,2,,,{}", "0,2,1,3,4,,,{}"]


@pytest.mark.parametrize(("last", "final", "ended"), [(0, 1, True), (1, "", True), (1, 0, True), (0, 0, False)])
def test_a_final_row_that_is_done_ends_the_task(tmp_path, last, final, ended):
    steps = [f"{line[:-1]}{last if i > 1 else 0}" for i, line in enumerate(GOOD[:4])]
    path = text_file(tmp_path, [*steps, *(row.format(final) for row in FINAL), *GOOD[4:]])
    got = episodes(path)
    assert got[0].terminal.tolist() == [False, ended]
    assert len(got[0].obs) == 3
    assert got[1].terminal.tolist() == [False]


def test_one_agent_may_end_before_the_final_row(tmp_path):
    ended = [GOOD[2], GOOD[3][:-1] + "0"]
    for flags, terminal in (((0, 1), True), ((1, 0), False)):
        final = [row.format(flag) for row, flag in zip(FINAL, flags, strict=True)]
        assert episodes(text_file(tmp_path, [*GOOD[:2], *ended, *final]))[0].terminal.tolist() == [False, terminal]
    gone = text_file(tmp_path, [*GOOD[:2], *ended, FINAL[1].format(1)])  # agent 0 has no row any more
    assert episodes(gone, missing_agents="idle")[0].terminal.tolist() == [False, True]


def test_a_final_row_that_is_truncated_cuts_the_step_before_it(tmp_path):
    lines = [line + ",0" for line in GOOD[:4]] + [row.format("") + ",1" for row in FINAL]
    assert episodes(text_file(tmp_path, lines, HEAD + ",truncated"))[0].terminal.tolist() == [False, False]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_rounding_to_single_precision_is_noted(tmp_path, suffix):
    plain = {"episode": [0], "step": [0], "agent": [0], "obs_0": [0.5], "obs_1": [1.0], "state": [[1.0, 2.0]]}
    plain |= {"action": [0], "reward": [1.0], "done": [True]}
    cases = [
        ({}, []),
        ({"obs_1": [2**24]}, []),
        ({"obs_1": pa.array([0.1], pa.float32())}, []),
        ({"obs_1": [0.1]}, ["observations"]),
        ({"obs_1": [2**24 + 1]}, ["observations"]),
        ({"obs_1": pa.array([2**24 + 1], pa.uint32())}, ["observations"]),
        ({"state": [[1.0, 0.1]]}, ["states"]),
        ({"reward": [0.1]}, ["rewards"]),
        ({"obs_1": [float("nan")]}, []),
    ]
    for changes, rounded in cases:
        source, ledger = reader.read(write_user(tmp_path / f"log{suffix}", plain | changes)), AssumptionLog()
        (logged,) = source.episodes
        complete_episode(logged, ImportRules(), 1, ledger)
        assert [line.split()[0] for line in ledger.made if "rounded" in line] == rounded
        assert (logged.obs.dtype == np.float64) == ("observations" in rounded)


def test_rounding_is_found_in_any_row_and_block(tmp_path, monkeypatch):
    rows = 3000
    values = np.ones(rows)
    values[-1] = 0.1
    columns = {"episode": np.zeros(rows, int), "step": np.arange(rows), "agent": np.zeros(rows, int), "obs": values}
    path = write_user(tmp_path / "log.arrow", columns | {"action": np.zeros(rows, int), "reward": values})
    (logged,) = episodes(path)
    np.testing.assert_array_equal(logged.obs.ravel(), values)


def test_nan_in_text_arrives_for_the_doctor(tmp_path):
    lines = [*GOOD, "1,1,0,nan,2,1,NaN,0", "1,1,1,1,-nan,1,NaN,0", "1,2,0,1,2,nan,nan,nan", "1,2,1,1,2,nan,nan,NaN"]
    first, second = episodes(text_file(tmp_path, lines))
    assert np.isfinite(first.obs).all() and len(second.obs) == 3
    assert np.argwhere(np.isnan(second.obs)).tolist() == [[1, 0, 0], [1, 1, 1]]
    assert np.isnan(second.reward[1]).all() and not np.isnan(second.reward[0]).any()


@pytest.mark.parametrize("end", [2**64 - 1, 10**30])
def test_ids_beyond_64_bits_are_read_as_text(tmp_path, end):
    lines = [line.replace("1,", f"{end},", 1) if line[0] == "1" else line for line in GOOD]
    source = reader.read(text_file(tmp_path, lines))
    got = list(source.episodes)
    assert [len(each.obs) for each in got] == [2, 1]
    assert f"episode {end}" in got[1].where
    lines = [",".join([*cells[:2], f"{end - 1 + int(cells[2])}", *cells[3:]]) for cells in (x.split(",") for x in GOOD)]
    np.testing.assert_array_equal(episodes(text_file(tmp_path, lines))[0].obs, got[0].obs)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ({"agent": "Agent"}, "--columns.agent Agent?"),
        ({"reward": " Reward"}, "--columns.reward ' Reward'?"),
        ({"obs": "OBS "}, "--columns.obs 'OBS '?"),
        ({"obs": "Obs_0", "more": "Obs_1"}, "--columns.obs 'Obs_*'?"),
        ({"action": "Actions"}, "--columns.action Actions?"),
    ],
)
def test_names_that_differ_in_case_or_blanks_are_suggested(tmp_path, names, asked):
    columns = {"episode": [0], "step": [0], "agent": [0], "obs": [1.0], "action": [0], "reward": [1.0], "more": [1.0]}
    path = write_user(tmp_path / "log.parquet", {names.get(name, name): values for name, values in columns.items()})
    refused(path, "no column for", f"Did you mean {asked}")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv"])
def test_a_game_that_cannot_be_won_has_no_column_won(tmp_path, name):
    made = [random_episode(np.random.default_rng(0), 3, ends="terminal")]
    dataset = write_dataset(tmp_path / "data", SPEC._replace(has_win=False), made, np.zeros(1, bool))
    writer.write(dataset, tmp_path / name)
    source = reader.read(tmp_path / name)
    assert "won" not in source.facts["columns"]
    assert [each.won for each in source.episodes] == [None]


@pytest.mark.parametrize("n_actions", [0, -1, 65_537])
@pytest.mark.parametrize("head", [HEAD, HEAD + ",avail"])
def test_impossible_numbers_of_actions_are_refused(tmp_path, n_actions, head):
    lines = [line + ",1" * (head != HEAD) for line in GOOD]
    refused(text_file(tmp_path, lines, head), "1 to 65,536 actions", f"{n_actions:,}", n_actions=n_actions)


def test_a_directory_of_files(tmp_path):
    """Files count their own episodes; one that begins in the middle of an episode goes on with it."""
    for name, lines in (("part-2.csv", GOOD[:2]), ("part-10.csv", GOOD[2:4]), ("part-11.csv", GOOD[:4] + GOOD[4:])):
        text_file(tmp_path, lines, name=name)
    got = episodes(tmp_path)
    assert [len(each.obs) for each in got] == [2, 2, 1]
    np.testing.assert_array_equal(got[0].obs, got[1].obs)
    assert "part-2.csv" in got[0].where
    assert "part-11.csv" in got[2].where
    text_file(tmp_path, [*GOOD, "0,2,0,1,2,1,1,0"], name="part-12.csv")
    refused(tmp_path, "part-12.csv: line 8", "comes back", "part-12.csv: line 2")
    text_file(tmp_path, head=HEAD.replace("obs_1", "obs_2"), name="part-12.csv")
    refused(tmp_path, "part-12.csv", "columns of part-2.csv")
    write_user(tmp_path / "other.parquet", {"episode": [1]})
    refused(tmp_path, "one kind", "CSV and Parquet")


def test_arrow_offsets_beyond_the_data_are_refused(tmp_path):
    """Nothing else in the file would show that a text goes on behind its buffer."""
    columns = {"episode": [0, 0], "step": [0, 0], "agent": ["abc", "defg"], "obs": [[1.0], [2.0]]}
    path = write_user(tmp_path / "log.arrow", columns | {"action": [0, 1], "reward": [1.0, 1.0]})
    offsets, beyond = (np.array(values, np.int32).tobytes() for values in ([0, 3, 7], [0, 3, 9]))
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, beyond))
    refused(path, "log.arrow", "damaged")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.csv", "a.csv.gz"])
def test_damaged_files_are_refused_or_harmless(tmp_path, name):
    """Whatever happens to the bytes, nothing but a `UserError` or episodes comes out; Parquet has checksums."""
    dataset = random_dataset(tmp_path / "data", 7)
    made = tmp_path / name.removesuffix(".gz")
    writer.write(dataset, made)
    data = gzip.compress(made.read_bytes(), mtime=0) if name.endswith(".gz") else made.read_bytes()
    expected, rng, changed = supplied(reader.read(made)), np.random.default_rng(0), 0
    path = tmp_path / f"bad-{name}"
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        try:
            source = reader.read(path)
            got = supplied(source)
        except UserError:
            continue
        changed += any(not np.array_equal(got[field], expected[field]) for field in KINDS)
    if name in ("a.parquet", "a.csv.gz"):
        assert changed == 0
