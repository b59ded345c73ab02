"""Every method that comes with the package, from end to end, and that it ends at the optimum of the two-step game."""

import json

import pytest
from support.episodes import method_run, write_two_step

from ovmse.methods import METHODS
from ovmse.methods.calql import CalibratedCQL
from ovmse.methods.cfcql import CFCQL
from ovmse.methods.losses import CQL
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]

OFFLINE_UPDATES, ENV_STEPS, TURN = 300, 1_200, 16
CONSERVATIVE = CQL, CFCQL, CalibratedCQL
OPTIMUM = 8.0
"""A team that ignores the state settles for 7 (Rashid et al. 2018, section 5)."""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log of all plans of the two-step game, the best one 41 times."""
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step", best=41)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_from_end_to_end_and_ends_at_the_optimum(name, tmp_path, log):
    method = METHODS[name]
    found = train(
        method_run(
            tmp_path / "run",
            method=name,
            data=log if method.uses_data else None,
            offline_updates=OFFLINE_UPDATES,
            online_env_steps=ENV_STEPS,
            evaluate_every_updates=OFFLINE_UPDATES,
            evaluate_every_env_steps=ENV_STEPS // 3,
            change=("offline_loss.alpha=0.1",) if isinstance(method.offline_loss, CONSERVATIVE) else (),
        )
    )
    pretrains, goes_online = method.offline_loss is not None, method.online_target is not None
    updates = OFFLINE_UPDATES if pretrains else 0
    rows = [("offline", n) for n in (0, updates)] if pretrains else []
    warm_up = int(method.warm_up * ENV_STEPS)  # turns of 16 steps, with 4 updates from the one on that completes it
    online = [4 * sum(step >= warm_up for step in range(TURN, n * ENV_STEPS // 3 + TURN, TURN)) for n in range(4)]
    rows += [("online", updates + done) for done in online] if goes_online else []
    assert [(row["phase"], row["updates"]) for row in found.rows] == rows
    assert (found.handover is not None) == (pretrains and goes_online and not method.reinitialise_online)
    assert (tmp_path / "run" / "offline.safetensors").exists() == pretrains
    last = found.rows[-1]
    assert (last["epsilon"] is not None) == (goes_online and hasattr(method.explore, "epsilon"))
    assert (last["lambda"] is not None) == (name in ("ovmse", "ovm"))
    assert (last["memory_active_share"] is not None) == (goes_online and pretrains and method.memory is not None)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method"] == name
    if pretrains:  # the best plan is most of the log
        assert found.rows[1]["return"] == OPTIMUM
    assert last["return"] == OPTIMUM
    if name in ("ovmse", "ovm"):  # what was learned offline is held online
        assert {row["return"] for row in found.rows if row["phase"] == "online"} == {OPTIMUM}


def test_online_learning_solves_the_two_step_game_from_random_play(tmp_path):
    found = train(
        method_run(
            tmp_path / "run",
            method="scratch",
            change=("explore.epsilon=constant(1.0)",),
            seeds=2,
            online_env_steps=2_000,
            evaluate_every_env_steps=1_000,
        )
    )
    assert [row["return"] for row in found.rows[-2:]] == [OPTIMUM, OPTIMUM]
