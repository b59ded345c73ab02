"""The warning of a target network that follows too seldom, and how many updates a run is expected to make."""

import dataclasses

import numpy as np
import pytest
from support.episodes import SMALL, small_run, write_plant, write_two_step

from ovmse import envs
from ovmse.config import Config, LearnerConfig
from ovmse.data.dataset import Dataset
from ovmse.methods import METHODS
from ovmse.training.settings_check import expected_updates, warnings

GAME = envs.make("matrix:two_step", delay=58).spec


def lines(learner, method="scratch", dataset=None, **budget):
    return list(warnings(Config(learner=learner, **budget), GAME, METHODS[method], dataset))


@pytest.mark.parametrize(
    ("learner", "refreshes"),
    [
        (LearnerConfig(target_every_updates=200), 20_000 / 60 / 200),  # the copies of 20,000 steps of 60-step episodes
        (LearnerConfig(target_rate=0.02), 20_000 / 60 / 50),
    ],
)
def test_a_run_whose_target_hardly_follows_is_warned_of_by_its_number(learner, refreshes):
    [line] = lines(learner, online_env_steps=20_000)
    assert f"only about {refreshes:.1f} times in the online phase" in line and "--target-rate" in line


def test_twenty_refreshes_are_enough():
    enough = 20 * 50 * 60
    assert lines(LearnerConfig(target_rate=0.02), online_env_steps=enough) == []
    assert len(lines(LearnerConfig(target_rate=0.02), online_env_steps=enough - 600)) == 1


def test_each_phase_counts_on_its_own(tmp_path):
    dataset = Dataset.open(write_two_step(tmp_path / "data"))
    config = small_run(
        None, offline_updates=100, online_env_steps=800, learner=dataclasses.replace(SMALL, target_rate=0.1)
    )
    updates = expected_updates(config, dataset.spec, METHODS["ovmse"], dataset)
    assert updates == {"offline": 100, "online": 800 / (4 * 2) * 2}
    found = list(warnings(config, dataset.spec, METHODS["ovmse"], dataset))
    assert len(found) == 1 and "10.0 times in the offline phase (100 updates, once in 10)" in found[0]


def test_values_beyond_episodes_that_were_all_cut_are_warned_of(tmp_path):
    ending = Dataset.open(write_two_step(tmp_path / "data"))
    cut = write_plant(tmp_path / "plant", terminal=np.zeros_like(ending.terminal))
    plain, short, ends = LearnerConfig(), LearnerConfig(gamma=0.3), LearnerConfig(bootstrap_at_limit=False)
    [line] = lines(plain, "offline", cut)
    assert "98% of a value" in line and "--no-bootstrap-at-limit" in line  # 0.99², two steps
    assert lines(short, "offline", cut) == lines(ends, "offline", cut) == lines(plain, "offline", ending) == []
