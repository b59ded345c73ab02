"""What a run is said to need: it counts what grows, and refuses what does not fit."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
from support.episodes import SPEC, method_run, random_episode, small_run, write_dataset, write_two_step

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.learning import phases, replay
from ovmse.learning.parallel import padded_seeds
from ovmse.methods import METHODS
from ovmse.training import memory
from ovmse.training.display import Display
from ovmse.training.setup import setup
from ovmse.training.train import run_phases


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    return write_dataset(tmp_path_factory.mktemp("machine") / "data", SPEC, [random_episode(rng, 4) for _ in range(3)])


def test_replays_are_counted_for_every_seed_and_the_dataset_once(dataset):
    config = small_run(None, seeds=3, replay_env_steps=200, online_env_steps=10_000)
    needed = memory.needed_bytes(config, SPEC, dataset, METHODS["ovmse"])
    row = replay.row_bytes(SPEC)
    assert needed["replay"] == padded_seeds(3) * replay.size_of(SPEC, 200) * row
    assert needed["dataset"] == (3 * 5 + SPEC.episode_limit + 1) * row
    more = memory.needed_bytes(dataclasses.replace(config, seeds=8), SPEC, dataset, METHODS["ovmse"])
    assert more["replay"] == 2 * needed["replay"] and more["dataset"] == needed["dataset"]
    assert more["learning"] > needed["learning"]  # what four more seeds play; as many learn at a time


def test_what_a_seed_carries_on_is_counted_on_each_core_that_works_on_it(dataset, monkeypatch):
    config = small_run(None, seeds=1, replay_env_steps=200, online_env_steps=10_000)
    shared = memory.needed_bytes(config, SPEC, dataset, METHODS["ovmse"])
    monkeypatch.setattr(memory, "cores_per_seed", lambda seeds: 1)
    alone = memory.needed_bytes(config, SPEC, dataset, METHODS["ovmse"])
    assert shared["replay"] == 2 * alone["replay"] and shared["learning"] == 2 * alone["learning"]
    assert shared["dataset"] == alone["dataset"]


def test_networks_of_agents_are_counted_for_each_of_them(monkeypatch):
    """Weights and biases of encoder, recurrent layer and head: each agent's, their targets', and Adam's two means."""
    monkeypatch.setattr(memory, "cores_per_seed", lambda seeds: 1)
    config = small_run(None)
    inputs, h, a = SPEC.obs_size + SPEC.n_agents + SPEC.n_actions, config.learner.hidden, SPEC.n_actions
    agent = h * inputs + h + 6 * h * h + 4 * h + a * h + a
    own = dataclasses.replace(config, learner=dataclasses.replace(config.learner, parameters="per_agent"))
    shared, each = (memory.learner_bytes(one, SPEC, METHODS["scratch"]) for one in (config, own))
    assert each - shared == (SPEC.n_agents - 1) * 4 * 4 * agent
    needed = [memory.needed_bytes(one, SPEC, None, METHODS["scratch"])["learning"] for one in (config, own)]
    assert needed[1] - needed[0] == padded_seeds(config.seeds) * memory.COPIES * (each - shared)


def test_a_replay_is_no_larger_than_what_a_run_plays(monkeypatch):
    """Episodes of one step, two rows each, are the most rows that a run can play."""
    config = small_run(None, replay_env_steps=10_000, online_env_steps=64, episodes_per_collect=4)
    assert phases.replay_rows(config, SPEC) == 2 * (64 + 4 * SPEC.episode_limit) + SPEC.episode_limit + 1
    smaller = dataclasses.replace(config, replay_env_steps=50)
    assert phases.replay_rows(smaller, SPEC) == replay.size_of(SPEC, 50)
    monkeypatch.setattr(phases, "batched", lambda: True)
    assert phases.replay_rows(config, SPEC) == replay.size_of(SPEC, 10_000)


def test_phases_that_a_run_leaves_out_need_nothing(dataset, monkeypatch):
    monkeypatch.setattr(memory, "usable_cores", lambda: [0])
    config = small_run(None)
    offline = memory.needed_bytes(config, SPEC, dataset, METHODS["offline"])
    scratch = memory.needed_bytes(config, SPEC, None, METHODS["scratch"])
    both = memory.needed_bytes(config, SPEC, dataset, METHODS["ovmse"])
    assert offline["replay"] == 0 and scratch["dataset"] == 0
    assert offline["compiling"] == scratch["compiling"] < both["compiling"]
    monkeypatch.setattr(memory, "usable_cores", lambda: [0, 1])  # what is played for is compiled beside the rest
    assert memory.needed_bytes(config, SPEC, dataset, METHODS["offline"])["compiling"] == offline["compiling"]
    beside = memory.needed_bytes(config, SPEC, None, METHODS["scratch"])["compiling"]
    assert beside == scratch["compiling"] + memory.AHEAD_BYTES


def test_what_does_not_fit_is_refused(dataset):
    config = small_run(None, replay_env_steps=2**31 - 1, online_env_steps=2**31 - 1, seeds=64)
    with pytest.raises(UserError, match=r"needs about [\d.]+ GiB .*replay.*Lower --replay-env-steps"):
        memory.check_memory(config, SPEC, dataset, METHODS["ovmse"])


@pytest.mark.slow
def test_a_run_under_way_holds_its_dataset_once(tmp_path):
    """What was read is given up when the run has its own copy, though whoever called holds the task."""
    read, checked = [], []

    def opened(path):
        read.append(weakref.ref(found := Dataset.open(path)))
        return found

    class Look(Display):
        def advance(self, done, clock, evaluations=0):
            gc.collect()
            checked.append([one() for one in read])

    config = method_run(
        tmp_path / "run", data=write_two_step(tmp_path / "data"), offline_updates=4, online_env_steps=16
    )
    task = setup(config, opened)
    assert read[0]() is task.dataset is not None
    run_phases(task, Look())
    assert checked and all(found == [None] for found in checked)
