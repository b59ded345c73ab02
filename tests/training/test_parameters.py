"""Networks of their own in a whole run: from a log of unlike robots to a team that acts, and refused elsewhere."""

import dataclasses
import json

import numpy as np
import pytest
from support import fleet
from support.episodes import SMALL, method_run

import ovmse
from ovmse.core.errors import UserError
from ovmse.data.importing import import_dataset
from ovmse.training.setup import setup
from ovmse.training.train import train

KINDS = dataclasses.replace(SMALL, parameters="per_kind")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The fleet's log of unlike robots, who have names, as a dataset."""
    folder = tmp_path_factory.mktemp("robots")
    rows = [
        row | ({"obs_2": "", "action": fleet.without_lift(row)} if row["agent"] == 1 else {}) for row in fleet.clean()
    ]
    rows = [row | {"agent": fleet.ROBOTS[row["agent"]]} for row in rows]
    (folder / "log.csv").write_text(fleet.csv(rows))
    import_dataset(folder / "log.csv", folder / "data", name="support.robots:Robots", options={"unlike_agents": "pad"})
    return folder / "data"


def robots(log, out=None, method="offline", **changes):
    settings = {"env": "support.robots:Robots", "data": str(log), "allow_version_mismatch": True, "learner": KINDS}
    return method_run(out, method=method, **{**settings, "offline_updates": 20, **changes})


def test_kinds_are_settled_by_the_log_and_stay(log):
    config = setup(robots(log)).config
    assert config.learner.kinds == "0,1"
    assert setup(config).config == config
    by_words = dataclasses.replace(KINDS, kinds="arm,wheels")
    assert setup(robots(log, learner=by_words)).config.learner.kinds == "arm,wheels"
    with pytest.raises(UserError, match="expected 2 words, one for each agent: crane, truck; got 3"):
        setup(robots(log, learner=dataclasses.replace(KINDS, kinds="a,b,c")))
    with pytest.raises(UserError, match="--kinds goes with --parameters per_kind"):
        dataclasses.replace(SMALL, kinds="names")


@pytest.mark.slow
@pytest.mark.usefixtures("one_length")
def test_from_a_log_of_unlike_robots_to_a_team_that_acts(log, tmp_path):
    found = train(robots(log, tmp_path / "run"))
    learner = json.loads((tmp_path / "run" / "config.json").read_text())["learner"]
    assert (learner["parameters"], learner["kinds"]) == ("per_kind", "0,1")
    assert found.teams.agent.cell.weight_hh.shape[:2] == (1, 2)
    team = ovmse.load(tmp_path / "run")
    assert team.names == list(fleet.ROBOTS) and len(team.networks) == 2
    obs, legal = np.random.default_rng(0).normal(size=(50, 2, 3)), np.array([[True] * 3, [True, True, False]])
    obs[:, 1, 2] = 0
    action, _ = team.act(obs, np.broadcast_to(legal, (50, 2, 3)))
    assert (action[:, 1] < 2).all()
    for learner, says in ((SMALL, "parameters 'per_kind' there, 'shared' here"), (KINDS, "'0,1' there, 'a,b' here")):
        learner = dataclasses.replace(learner, **({"kinds": "a,b"} if learner is KINDS else {}))
        other = robots(log, tmp_path / "other", method="finetune", pretrained=tmp_path / "run", learner=learner)
        with pytest.raises(UserError, match=says):
            setup(other)
