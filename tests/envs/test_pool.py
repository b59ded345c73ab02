"""Workers that play whole episodes: none is lost and none counted twice, whatever happens to the processes."""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.small_team import about, weights

from ovmse.core.errors import UserError
from ovmse.envs.guarded import again
from ovmse.envs.pool import Limits, WorkerPool
from ovmse.envs.process import ProcessEnv

WEIGHTS = weights()


@pytest.fixture(autouse=True)
def support_is_found(monkeypatch):
    there = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(there))


def pool(workers=2, seconds=20.0, restarts=10, say=lambda text: None, **settings):
    def make():
        return ProcessEnv(Path(sys.executable), "support.junction:Junction", settings, player="ovmse.policy.player")

    return WorkerPool(make, workers, Limits(seconds, restarts), say)


def episodes(pool, count=12):
    """What is played of so many seeds, each with its own exploration."""
    told = [about(seed=seed, key=[seed, 1], rule="epsilon_greedy", epsilon=0.5) for seed in range(count)]
    return [pool.submit(one, WEIGHTS) for one in told]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (told, arrays), (same, others) in zip(found, expected, strict=True):
        assert told == same
        for name, array in others.items():
            np.testing.assert_array_equal(arrays[name], array)


@pytest.fixture(scope="module")
def undisturbed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        alone = pool(1)
        found = [future.result() for future in episodes(alone)]
        alone.close()
    return found


def test_how_many_workers_there_are_changes_nothing(undisturbed):
    several = pool(3)
    assert_same([future.result() for future in episodes(several)], undisturbed)
    assert several.restarts == 0
    several.close()
    assert [told["measures"]["waiting_time"] for told, _ in undisturbed] == [
        int((arrays["action"] == 0).sum()) for _, arrays in undisturbed
    ]
    assert ["collisions" in told["measures"] for told, _ in undisturbed] == [bool(seed % 2) for seed in range(12)]


def test_workers_killed_at_random_lose_no_episode_and_play_none_twice(undisturbed):
    said: list[str] = []
    two, rng, done = pool(2, sleep=0.02, restarts=100, say=said.append), random.Random(0), threading.Event()

    def kill():
        while not done.wait(rng.uniform(0.05, 0.2)):
            there = [env._process.pid for env in list(two._shared.running)]
            if there and len(said) < 5:
                os.kill(rng.choice(there), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    futures = episodes(two)
    futures[0].result()
    killer.start()
    found = [future.result() for future in futures]
    done.set()
    killer.join()
    two.close()
    assert_same(found, undisturbed)
    assert said and all("SIGKILL" in line and "episode played again" in line for line in said)


def test_an_episode_that_ends_its_process_is_played_again_by_another_seed(tmp_path, undisturbed):
    for seed in range(12):  # those of the second try have died before
        (tmp_path / f"died-{again(seed, 1)}").touch()
    two = pool(2, dies=str(tmp_path / "died"), restarts=12)
    found = [future.result() for future in episodes(two)]
    assert two.restarts == 12 and len(found) == 12
    for (told, arrays), (_, others) in zip(found, undisturbed, strict=True):
        assert told["won"] and len(arrays["reward"]) == 4 and not np.array_equal(arrays["obs"], others["obs"])
    two.close()


def test_too_many_faults_are_one_clear_error(tmp_path):
    two = pool(2, dies=str(tmp_path / "died"), restarts=2)
    futures = episodes(two, 6)
    errors = [future.exception() for future in futures]
    failed = [error for error in errors if error is not None]
    assert failed and all(isinstance(error, UserError) for error in failed)
    assert "support.junction:Junction: its process ended (exit code 3)" in str(failed[0])
    assert "restarted 2 times before, which is the limit (--env-restarts)" in str(failed[0])
    two.close()


def test_one_that_hangs_is_ended():
    said: list[str] = []
    slow = pool(1, seconds=0.2, sleep=60.0, restarts=1, say=said.append)
    began = time.monotonic()
    with pytest.raises(UserError, match="step 1 took more than 0.2 s"):
        slow.submit(about(seed=0), WEIGHTS).result()
    assert time.monotonic() - began < 30 and len(said) == 1
    slow.close()


def test_a_pool_that_is_closed_leaves_no_process_and_no_hope():
    two = pool(2, sleep=0.5)
    futures = episodes(two, 6)
    while not two._shared.running:
        time.sleep(0.05)
    processes = [env._process for env in list(two._shared.running)]
    two.close()
    assert any(future.cancelled() for future in futures)
    assert all(process.wait(10) == -signal.SIGKILL for process in processes) and not two._shared.running
