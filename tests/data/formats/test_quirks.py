"""The quirks of real logs: the import reads them, or refuses them with the option to add, which then works."""

import json
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from pyarrow import parquet
from support import fleet
from support.places import ROOT

from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.table import reader
from ovmse.data.formats.table.rules import TableRules
from ovmse.data.importing import import_dataset
from ovmse.data.schema import KINDS, NAMED


def imported(path, *options):
    """The exit code of the command, and the dataset where it made one."""
    out = path.parent / f"{path.stem}-data"
    code = main(["import", str(path), "--out", str(out), *options])
    return code, Dataset.open(out) if out.exists() else None


def text_file(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    path = text_file(tmp_path_factory.mktemp("clean"), fleet.csv(fleet.clean()))
    return Dataset.open(import_dataset(path, path.parent / "data").path)


def assert_same(found, expected, but=()):
    for field in KINDS:
        if field not in but:
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), err_msg=field)


LOSSLESS = {
    "string_names": (),
    "string_actions": (),
    "timestamps": (),
    "unsorted": (),
    "reward_per_robot": ("reward",),  # equal but for rounding
    "decimal_comma": (),
    "missing_last_observation": ("obs", "state"),  # equal but for the final rows
    "bom": (),
}


@pytest.mark.parametrize("name", fleet.QUIRKS)
def test_a_quirk_is_read_or_refused_with_the_option_that_helps(tmp_path, capsys, clean, name):
    quirk = fleet.QUIRKS[name]
    path = text_file(tmp_path, quirk.text())
    code, found = imported(path)
    said = capsys.readouterr().err
    if quirk.options:
        assert (code, found) == (2, None)
        assert path.name in said and "Traceback" not in said
        assert set(quirk.options) <= set(re.findall(r"--[a-z-]+ [\w=,]+(?:\.\d+)?", said.replace("\n", " "))), said
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
        code, found = imported(path, *(word for option in quirk.options for word in option.split()))
    assert code == 0, capsys.readouterr().err
    if name in LOSSLESS:
        assert_same(found, clean, LOSSLESS[name])
        np.testing.assert_allclose(found.reward, clean.reward, rtol=1e-5)


def test_the_page_on_importing_names_every_option():
    page = (ROOT / "docs" / "importing.md").read_text()
    asked = {option for quirk in fleet.QUIRKS.values() for option in quirk.options}
    assert len(fleet.QUIRKS) == 13 and all(option.partition("=")[0].removesuffix("action") in page for option in asked)


def test_names_are_kept(tmp_path, clean):
    both = [row | {"agent": fleet.ROBOTS[row["agent"]]} for row in fleet.clean()]
    both = [row | {"action": fleet.ACTIONS[row["action"]] if row["action"] != "" else ""} for row in both]
    told = imported(text_file(tmp_path, fleet.csv(both)))[1].metadata
    assert (told.agents, told.actions, told.features) == (fleet.ROBOTS, fleet.ACTIONS, ("obs_0", "obs_1", "obs_2"))
    assert told.state_features == tuple(f"{robot} obs_{i}" for robot in fleet.ROBOTS for i in range(3))
    assert "actions are numbered in the natural order of their names" in told.assumptions
    assert (clean.metadata.agents, clean.metadata.actions) == (None, None)


def test_actions_can_be_named_in_their_order(tmp_path):
    path = text_file(tmp_path, fleet.string_actions())
    order = ("lift", "wait", "drive", "brake")
    _, found = imported(path, "--action-names", *order)
    assert found.metadata.actions == order
    rows = [row for row in fleet.clean() if row["action"] != ""]
    names = [fleet.ACTIONS[row["action"]] for row in rows]
    assert found.action.ravel().tolist() == [order.index(name) for name in names]
    with pytest.raises(UserError, match=r"line 3, column 'action': expected the name of an action \(lift, brake\)"):
        list(reader.read(path, action_names=("lift", "brake")).episodes)
    with pytest.raises(UserError, match="expected 5 actions, as n_actions says, got 3 by name.*--action-names"):
        reader.read(path, n_actions=5)


def test_numbers_among_names_are_refused_and_so_are_names_among_numbers(tmp_path):
    """In a later file: the first rows say which of them it is."""
    text_file(tmp_path, fleet.csv(fleet.clean()), "a.csv")
    text_file(tmp_path, fleet.string_actions(), "b.csv")
    with pytest.raises(UserError, match=r"b.csv: line 2, column 'action': expected a number, got 'brake'"):
        list(reader.read(tmp_path).episodes)
    (tmp_path / "b.csv").rename(tmp_path / "0.csv")
    with pytest.raises(
        UserError, match=r"a.csv: line 2, column 'action': expected a name, as in the first rows, got 0"
    ):
        list(reader.read(tmp_path).episodes)


def test_numbers_get_names_too(tmp_path):
    source = reader.read(text_file(tmp_path, fleet.csv(fleet.clean())), action_names=fleet.ACTIONS)
    assert (source.names.actions, source.n_actions) == (fleet.ACTIONS, 3)


def test_masks_say_the_order_of_named_actions(tmp_path):
    rows = [
        row | {"action": fleet.ACTIONS[row["action"]] if row["action"] != "" else "", "can_lift": 1, "can_drive": 1}
        for row in fleet.clean()
    ]
    rows = [row | {"can_brake": int(row["action"] in ("brake", "")), "can_wait": 0} for row in rows]
    path = text_file(tmp_path, fleet.csv(rows))
    _, found = imported(path, "--columns.avail", "can_lift", "can_drive", "can_brake", "can_wait")
    assert found.metadata.actions == ("lift", "drive", "brake", "can_wait")
    numbered = text_file(tmp_path, fleet.csv(rows).replace("can_lift", "avail_0").replace("can_drive", "avail_1"))
    with pytest.raises(UserError, match="columns of masks do not end in them.*--action-names"):
        reader.read(numbered)


def test_unlike_robots_are_padded_and_masked(tmp_path):
    path = text_file(tmp_path, fleet.unlike_columns())
    _, found = imported(path, "--unlike-agents", "pad")
    assert (found.obs[:, 1, 2] == 0).all() and (found.obs[:, 0, 2] != 0).any()
    np.testing.assert_array_equal(found.avail.all(axis=0), [[True, True, True], [True, True, False]])
    assert found.spec.kinds == (0, 1)
    padded = [line for line in found.metadata.assumptions if "never has" in line or "takes anywhere" in line]
    assert padded == [
        "features that an agent never has are 0 (1: obs_2)",
        "only the actions that an agent takes anywhere are legal for it (0: 0, 1, 2; 1: 0, 1)",
    ]


def test_a_cell_that_a_robot_usually_has_is_not_padded(tmp_path):
    path = text_file(tmp_path, fleet.empty_cell())
    with pytest.raises(UserError, match="line 18, column 'obs_1': expected a number, got nothing"):
        list(reader.read(path, unlike_agents="pad").episodes)


def test_a_file_for_each_robot(tmp_path, capsys, clean):
    """Each with columns of its own; an episode is in both files."""
    folder = tmp_path / "robots"
    folder.mkdir()
    for i, robot in enumerate(fleet.ROBOTS):
        rows = [row | {"agent": robot} for row in fleet.clean() if row["agent"] == i]
        rows = [{name: x for name, x in row.items() if (robot, name) != ("truck", "obs_2")} for row in rows]
        text_file(folder, fleet.csv(rows), f"{robot}.csv")
    assert imported(folder)[0] == 2
    said = capsys.readouterr().err
    assert "truck.csv: expected the columns of crane.csv" in said
    options = "--unlike-agents pad --unsorted sort"
    assert options in said
    code, found = imported(folder, *options.split())
    assert code == 0
    assert_same(found, clean, ("obs", "state"))
    assert found.metadata.agents == fleet.ROBOTS
    np.testing.assert_array_equal(found.obs[:, 1, :2], clean.obs[:, 1, :2])


def test_a_robot_that_breaks_down_stands_idle(tmp_path, clean):
    _, found = imported(text_file(tmp_path, fleet.death()), "--missing-agents", "idle")
    np.testing.assert_array_equal(found.reward, clean.reward)
    assert found.avail[5:12, 1].sum(axis=-1).tolist() == [3, 3, 1, 1, 1, 1, 1]
    assert not found.obs[7:12, 1].any()


def test_continuous_actions_go_into_bins_of_equal_frequency(tmp_path):
    path = text_file(tmp_path, fleet.continuous())
    _, found = imported(path, "--bins", "action=3")
    rows = [row for row in fleet.clean() if row["action"] != ""]
    assert found.action.ravel().tolist() == [row["action"] for row in rows]
    assert found.metadata.actions == ("action=-0.75", "action=0.1", "action=0.9")
    assert any("action is in 3 bins of about equal frequency" in line for line in found.metadata.assumptions)


def test_bins_hold_equally_many_whatever_the_outliers(tmp_path):
    rng = np.random.default_rng(0)
    speed, turn = rng.normal(size=400) ** 3, rng.integers(0, 2, 400).astype(float)
    columns = {"episode": [0] * 400, "step": range(400), "agent": [0] * 400, "obs": speed, "speed": speed, "turn": turn}
    path = tmp_path / "log.parquet"
    parquet.write_table(pa.table({name: list(v) for name, v in columns.items()} | {"reward": [0.0] * 400}), path)
    source = reader.read(path, bins=("speed=4", "turn=2"))
    (episode,) = source.episodes
    assert np.bincount(episode.action.ravel() // 2).tolist() == [100] * 4
    np.testing.assert_array_equal(episode.action.ravel() % 2, turn)
    assert source.n_actions == 8 and source.names.actions[1].endswith(", turn=1")
    with pytest.raises(UserError, match="unknown column.*'sped'.*Did you mean 'speed'"):
        reader.read(path, bins=("sped=4",))


@pytest.mark.parametrize("text", ["speed", "speed=1", "speed=x", "=5"])
def test_bins_that_are_none(text):
    with pytest.raises(UserError, match="COLUMN=NUMBER"):
        TableRules(bins=(text,))


def test_unix_times_and_arrow_s_timestamps_are_steps(tmp_path, clean):
    path = text_file(tmp_path, fleet.unix_milliseconds())
    with pytest.raises(UserError, match=r"expected its first step to be 0 or 1.*--time-step 0\.5\."):
        list(reader.read(path).episodes)
    assert_same(imported(path, "--time-step", "0.5")[1], clean)
    rows = [row for row in fleet.clean() if row["action"] != ""]
    columns = {name: [row[name] for row in rows] for name in rows[0]} | {"time": [fleet.time_of(row) for row in rows]}
    del columns["step"]
    made = tmp_path / "log.parquet"
    parquet.write_table(pa.table(columns), made)
    with pytest.raises(UserError, match=r"row 0, column 'time': expected a step.*--time-step 0\.5\."):
        reader.read(made)
    got = list(reader.read(made, time_step=0.5).episodes)
    assert [len(each.action) for each in got] == list(fleet.LENGTHS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), seconds=st.sampled_from([0.001, 0.1, 1.0, 3600.0]), start=st.integers(0, 2**31))
def test_rows_in_any_order_with_clocks_that_differ_are_the_same_log(tmp_path_factory, clean, seed, seconds, start):
    rng = np.random.default_rng(seed)
    rows = [fleet.clean()[i] for i in rng.permutation(len(fleet.clean()))]
    late = rng.uniform(0, 0.4, size=(len(fleet.LENGTHS), len(fleet.ROBOTS)))
    steps = [start + seconds * (row["step"] + late[row["episode"], row["agent"]]) for row in rows]
    columns = {name: [None if row[name] == "" else row[name] for row in rows] for name in rows[0]} | {"step": steps}
    path = tmp_path_factory.mktemp("any") / "log.parquet"
    parquet.write_table(pa.table(columns), path)
    got = {
        each.where.rpartition(" ")[2]: each for each in reader.read(path, time_step=seconds, unsorted="sort").episodes
    }
    for i in range(len(fleet.LENGTHS)):
        np.testing.assert_array_equal(got[str(i)].obs.astype(np.float32), clean.episode(i).obs)
        np.testing.assert_array_equal(got[str(i)].action, clean.episode(i).action)


def test_a_time_that_is_none_is_named(tmp_path):
    path = text_file(tmp_path, fleet.timestamps().replace("2024-05-01T09:00:00.500", "yesterday", 1))
    with pytest.raises(UserError, match="line 14, column 'step': expected a time such as .*, got yesterday"):
        list(reader.read(path, time_step=0.5).episodes)


def test_a_gap_splits_its_episode(tmp_path, clean):
    _, found = imported(text_file(tmp_path, fleet.gap()), "--gaps", "split")
    assert found.length.tolist() == [4, 2, 3, 5]
    kept = np.delete(np.arange(clean.length.sum()), 6)
    np.testing.assert_array_equal(found.action, clean.action[kept])
    assert any(
        line.startswith("steps are missing") and "(2 of 4 episodes)" in line for line in found.metadata.assumptions
    )


def test_a_gap_in_times_is_a_gap_too(tmp_path):
    lines = fleet.timestamps().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("1,2024-05-01T09:00:01.0"))
    path = text_file(tmp_path, text)
    with pytest.raises(UserError, match="episode 1: step 2 is missing: step 1 is followed by 3.*--gaps repeat"):
        list(reader.read(path, time_step=0.5).episodes)
    got = list(reader.read(path, time_step=0.5, gaps="split").episodes)
    assert [len(each.action) for each in got] == [4, 2, 3, 5]


def test_a_gap_is_filled_by_the_step_before(tmp_path, clean):
    _, found = imported(text_file(tmp_path, fleet.gap()), "--gaps", "repeat")
    assert found.length.tolist() == clean.length.tolist()
    np.testing.assert_array_equal(found.obs[7], found.obs[6])
    np.testing.assert_array_equal(found.action[6], clean.action[5])
    assert found.reward[6] == 0
    others = np.delete(np.arange(clean.length.sum()), 6)
    np.testing.assert_array_equal(found.action[others], clean.action[others])


def test_what_only_the_last_row_follows_is_cut_before_the_gap(tmp_path):
    rows = [row for row in fleet.clean() if (row["episode"], row["step"]) != (0, 3)]  # 4 is what was seen last
    got = list(reader.read(text_file(tmp_path, fleet.csv(rows)), gaps="split").episodes)
    assert [len(each.action) for each in got] == [3, 6, 5]
    assert not got[0].terminal.any()


def test_wins_are_those_of_the_last_part(tmp_path):
    rows = [row | {"won": 1} for row in fleet.clean() if (row["episode"], row["step"]) != (1, 2)]
    got = list(reader.read(text_file(tmp_path, fleet.csv(rows)), gaps="split").episodes)
    assert [each.won for each in got] == [True, False, True, True]


def test_a_long_gap_is_not_repeated(tmp_path):
    text = re.sub(r"(?m)^2,([2-9])", lambda found: f"2,{int(found[1]) + 500}", fleet.csv(fleet.clean()))
    with pytest.raises(UserError, match="episode 2: 500 steps are missing after step 1.*--gaps split"):
        list(reader.read(text_file(tmp_path, text), gaps="repeat").episodes)


def test_a_broken_episode_is_skipped_and_said(tmp_path, capsys, clean):
    """An empty cell of what was seen, an empty action, and a missing row of one robot: each its episode."""
    lines = fleet.csv(fleet.clean()).splitlines(keepends=True)
    cells = lines[4].split(",")
    lines[4] = ",".join([*cells[:3], "", *cells[4:]])
    del lines[-5]
    code, found = imported(text_file(tmp_path, "".join(lines)), "--broken", "skip")
    assert code == 0
    assert found.length.tolist() == [6]
    np.testing.assert_array_equal(found.obs, clean.episode(1).obs)
    assert any("broken episodes left out: 2" in line for line in found.metadata.assumptions)
    assert "no row of agent" in capsys.readouterr().out


def test_an_empty_cell_of_a_mask_is_its_episode_s_matter(tmp_path, capsys, clean):
    rows = [row | {f"avail_{i}": 1 for i in range(3)} for row in fleet.clean()]
    rows[3]["avail_1"] = ""  # of the first episode
    path = text_file(tmp_path, fleet.csv(rows))
    assert imported(path)[0] == 2
    assert "line 5, column 'avail_1': expected a number, got nothing" in (said := capsys.readouterr().err)
    assert "--broken skip" in said
    found = imported(path, "--broken", "skip")[1]
    assert found.length.tolist() == clean.length[1:].tolist() and found.avail.all()


ROLES = "run;clock;robot;x;y;did;gain\n0;0;a;1;2;0;1\n0;0;b;1;2;1;1\n"


def test_all_missing_roles_are_named_at_once_with_a_draft(tmp_path, capsys):
    path = text_file(tmp_path, ROLES)
    assert imported(path)[0] == 2
    said = capsys.readouterr().err
    assert "no column for episode, step, agent, obs, action, reward" in said
    for role in ("episode", "step", "agent", "action", "reward"):
        assert f'{role} = "?"  # needed' in said and f"--columns.{role} NAME" in said
    assert "# Columns without a role: run, clock, robot, x, y, did, gain." in said


def test_a_draft_is_written_once_and_leads_to_an_import(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    path, draft = text_file(tmp_path, ROLES), tmp_path / "columns.toml"
    words = ["import", str(path), "--out", str(tmp_path / "out"), "--draft", str(draft)]
    assert main(words) == 0
    assert f"--mapping {draft}" in capsys.readouterr().out
    text = draft.read_text()
    assert main(words) == 2 and draft.read_text() == text
    assert main(["import", str(path), "--draft", str(tmp_path / "other.toml")]) == 0  # needs no place for a dataset
    assert "--out log" in capsys.readouterr().out and (tmp_path / "other.toml").read_text() == text
    assert main(["import", str(path)]) == 2 and "--out" in capsys.readouterr().err
    for role, column in {
        "episode": "run",
        "step": "clock",
        "agent": "robot",
        "action": "did",
        "reward": "gain",
    }.items():
        text = text.replace(f'{role} = "?"', f'{role} = "{column}"')
    draft.write_text(text.replace('obs = ["?"]', 'obs = ["x", "y"]'))
    assert main([*words[:4], "--mapping", str(draft)]) == 0
    assert Dataset.open(tmp_path / "out").metadata.features == ("x", "y")


def test_options_of_tables_are_checked(tmp_path):
    path = text_file(tmp_path, fleet.csv(fleet.clean()))
    for options, words in (
        ({"gap": "split"}, "has no use for gap"),
        ({"time_step": 0.0}, "--time-step"),
        ({"decimal": ";"}, "decimal sign"),
        ({"action_names": ("a", "a")}, "'a' comes twice"),
    ):
        with pytest.raises(UserError, match=words):
            import_dataset(path, tmp_path / "out", options=options)


def test_names_are_in_the_files(tmp_path):
    _, found = imported(text_file(tmp_path, fleet.string_names()))
    stored = json.loads((found.path / "zarr.json").read_text())["attributes"]
    assert {name: stored[name] for name in NAMED}["agents"] == list(fleet.ROBOTS)


def test_the_environment_of_a_log_may_run_by_another_interpreter(tmp_path, capsys):
    words = ["--env", "matrix:climbing", "--env-python", sys.executable]
    assert imported(text_file(tmp_path, fleet.csv(fleet.clean())), *words) == (2, None)
    assert "without --env-python" in capsys.readouterr().err
