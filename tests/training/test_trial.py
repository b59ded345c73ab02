"""A field trial: the new team's own episodes beside the deployed one's, the verdict, what is refused."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from support.episodes import SPEC, log_run, random_episode, write_dataset, write_plant
from support.shared import once

import ovmse
from ovmse.analysis.agreement import discounted_returns
from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.report.rounds import columns
from ovmse.runs import rounds_file
from ovmse.training import trial as trials
from ovmse.training.improve import round_config
from ovmse.training.trial import trial

pytestmark = pytest.mark.slow


def one_round(folder):
    """A run on a log, and a round on what came back."""
    old = write_plant(folder / "old")
    write_plant(folder / "new", reward=old.reward + np.float32(0.5))
    ovmse.train(log_run(folder / "run", folder / "old", seeds=1))
    small = {"updates": 20, "evaluate_every_updates": 20, "fqe_updates": 10, "fits": 2}
    ovmse.train(round_config(folder / "run", str(folder / "new"), folder / "round", **small))


@pytest.fixture
def made(tmp_path_factory, tmp_path):
    """A copy of the round, which a trial writes into."""
    there = once(tmp_path_factory, "one_round", one_round)
    return shutil.copytree(there / "round", tmp_path / "round")


def played(path, run, more, teams="last"):
    """Episodes that a team of the round played, which earned so much more than the log's."""
    log = write_plant(path.with_name(f"{path.name}-log"))
    team, flat = ovmse.load(run, teams=teams), log.flat
    action, step, row = flat["action"].copy(), 0, 0
    for length in flat["length"]:
        memory = None
        for t in range(length):
            action[step + t], memory = team.act(flat["obs"][row + t], flat["avail"][row + t], memory)
        step, row = step + length, row + length + 1
    return write_plant(path, action=action, reward=log.reward + np.float32(more))


@pytest.mark.parametrize(("more", "accepted"), [(5.0, True), (-5.0, False)])
def test_what_the_new_team_earned_itself_decides(made, tmp_path, capsys, more, accepted):
    before, log = rounds_file.read(made).rounds[-1], played(tmp_path / "tried", made, more)
    assert main(["trial", str(made), "--data", str(log.path)]) == 0
    shown, found = capsys.readouterr().out, rounds_file.read(made)
    one = found.rounds[-1]
    assert (found.deployed, found.file) == (
        ("last", "teams.safetensors") if accepted else ("before", "before.safetensors")
    )
    assert one.accepted is accepted and one.reason.startswith("by trial: ")
    assert (one.difference, one.low, one.allowed) == (before.difference, before.low, before.allowed)
    gamma = ovmse.LearnerConfig.gamma
    ours, theirs = (discounted_returns(Dataset.open(path).flat, gamma).mean() for path in (log.path, before.data))
    assert (one.trial.value, one.trial.deployed_value) == pytest.approx((ours, theirs))
    assert one.trial.difference == pytest.approx(ours - theirs) and one.trial.low < ours - theirs < one.trial.high
    assert (one.trial.episodes, one.trial.deployed_episodes) == (16, 16)
    assert ("the new team is to be deployed" if accepted else "the deployed team stays") in shown
    assert "Next: ovmse export" in shown and "; trial " in columns(found)["verdict"][0]


def test_the_other_teams_play_is_refused(made, tmp_path, monkeypatch):
    log, before = played(tmp_path / "tried", made, 5.0), (made / "rounds.json").read_bytes()
    shares = iter([0.2, 0.9])
    monkeypatch.setattr(trials, "agreement", lambda *_: SimpleNamespace(agent_coverage=next(shares)))
    with pytest.raises(UserError, match=r"not play of the new team: 20% of the choices .* 90% .*--teams last"):
        trial(made, str(log.path))
    assert (made / "rounds.json").read_bytes() == before


def test_the_new_teams_play_follows_it_everywhere(made, tmp_path, monkeypatch):
    log, seen = played(tmp_path / "tried", made, 5.0), []
    real = trials.agreement
    monkeypatch.setattr(trials, "agreement", lambda *given: seen.append(real(*given)) or seen[-1])
    trial(made, str(log.path))
    assert seen[0].agent_coverage == 1.0


def test_what_can_be_no_trial_is_refused(made, tmp_path):
    ovmse.train(log_run(tmp_path / "run", write_plant(tmp_path / "old").path, seeds=1))
    with pytest.raises(UserError, match="is no round that has ended: ovmse improve"):
        trial(tmp_path / "run", str(tmp_path / "old"))
    other = write_dataset(tmp_path / "other", SPEC, [random_episode(np.random.default_rng(0), 3)])
    with pytest.raises(UserError, match="is not of the plant"):
        trial(made, str(other.path))
