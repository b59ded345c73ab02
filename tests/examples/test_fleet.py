"""The plant of examples/fleet.py: its formulas, and its log, which is imported with the names that it has."""

import csv
import importlib.util
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.policies import write_run

from ovmse.cli.main import main
from ovmse.data.dataset import Dataset
from ovmse.data.profile import profile
from ovmse.system.files import write_json

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("fleet", ROOT / "examples" / "fleet.py")
fleet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fleet)


def plant(place, parcels):
    made = fleet.Plant(np.random.default_rng(0))
    made.place, made.parcels = np.array(place), np.array(parcels)
    return made


def test_two_carts_at_a_place_get_one_parcel_and_what_waits_costs():
    made = plant([2, 2, 5], [0, 0, 3, 0, 0, 0])
    # one parcel of the three is fetched at 2; at 5 there is none; two go on waiting
    assert made.step(np.array([fleet.FETCH] * 3)) == pytest.approx(1 - 2 * fleet.WAITING)
    assert made.place.tolist() == [2, 2, 5] and (made.parcels <= fleet.FULL).all()


def test_carts_stay_on_the_line_and_see_where_the_others_are():
    made = plant([0, 5, 5], [1] * 6)
    made.step(np.array([fleet.WEST, fleet.EAST, fleet.WEST]))
    assert made.place.tolist() == [0, 5, 4]
    here, parcels, others = np.split(made.seen()[0], 3)
    assert here.tolist() == [1, 0, 0, 0, 0, 0] and others.tolist() == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(parcels, made.parcels / fleet.FULL, atol=1e-3)


def test_the_rules_send_a_cart_where_most_parcels_wait_for_the_way():
    # from 0: two parcels here against five three places away, 5 − 3 = 2: the nearer one comes first
    assert fleet.rules(plant([0, 3, 5], [2, 0, 0, 5, 0, 0]), 0.0).tolist() == [fleet.FETCH, fleet.FETCH, fleet.WEST]


def imported(folder, episodes):
    """The log of the rules in use as a dataset, and what the program that wrote it said."""
    log, out, example = folder / "logs.csv", folder / "fleet", ROOT / "examples" / "fleet"
    command = [sys.executable, example.with_suffix(".py"), "rules", "--episodes", str(episodes), "--out", log]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = ["import", log, "--out", out, "--mapping", example.with_suffix(".toml"), "--time-limit", "30"]
    assert main([str(word) for word in words]) == 0
    return Dataset.open(out), said


def test_its_log_is_imported_by_one_command_and_keeps_its_names(tmp_path):
    dataset, said = imported(tmp_path, episodes=3)
    about = dataset.metadata
    assert list(about.agents) == sorted(fleet.CARTS) and list(about.actions) == sorted(fleet.ACTIONS)
    assert list(about.features) == fleet.FEATURES and dataset.length.tolist() == [30] * 3
    assert f"{dataset.reward.sum() / 3:.2f} ±" in said


def test_a_team_s_commands_and_carts_go_by_name(tmp_path):
    """The team numbers both in natural order of their names: middle before north, and east, fetch, west."""
    dataset = imported(tmp_path, episodes=1)[0]
    write_run(tmp_path / "run", "offline", dataset.spec, data=str(dataset.path))
    write_json(tmp_path / "run" / "dataset.json", profile(dataset))
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "team"), "--steps", "5"]) == 0
    decide = fleet.by_team(tmp_path / "team", 0.0, 0)
    team = fleet.module(tmp_path / "team" / "policy.py").Policy.load(tmp_path / "team")
    for place in ([0, 3, 5], [4, 4, 1]):
        made = plant(place, [0, 1, 2, 3, 4, 5])
        numbers, _ = team.act(made.seen()[[1, 0, 2]])
        by_name = dict(zip(team.names, (team.actions[i] for i in numbers), strict=True))
        assert [fleet.ACTIONS[i] for i in decide(made, 0, None)[0]] == [by_name[cart] for cart in fleet.CARTS]


def test_a_shift_is_the_same_for_an_equal_seed():
    def played(seed):
        text = io.StringIO()
        fleet.play("rules", 1, seed, 0.2, 0.0, csv.writer(text))
        return text.getvalue()

    assert played(1) == played(1) != played(2)
