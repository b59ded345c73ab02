"""Every method that comes with the package, from end to end, and that it learns what it should."""

import json

import pytest
from support.episodes import method_run, play_plan, small_run, write_dataset

from ovmse import envs
from ovmse.methods import METHODS
from ovmse.methods.calql import CalibratedCQL
from ovmse.methods.cfcql import CFCQL
from ovmse.methods.losses import CQL
from ovmse.training.train import train

pytestmark = pytest.mark.slow

OFFLINE_UPDATES, ENV_STEPS = 300, 400
CONSERVATIVE = CQL, CFCQL, CalibratedCQL


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A log of the climbing game: 11 at (0, 0), which lies between losses of 30, and three safe actions."""
    plays = [play_plan("climbing", [u]) for u in [(0, 0), (0, 0), (1, 1), (2, 2), (1, 2)]]
    path = tmp_path_factory.mktemp("data") / "climbing"
    write_dataset(path, envs.make("matrix:climbing").spec, *zip(*plays, strict=True))
    return str(path)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_from_end_to_end(name, tmp_path, logged):
    method = METHODS[name]
    found = train(
        small_run(
            tmp_path / "run",
            env="matrix:climbing",
            method=name,
            data=logged if method.uses_data else None,
            seeds=1,
            offline_updates=OFFLINE_UPDATES,
            online_env_steps=ENV_STEPS,
            evaluate_every_updates=OFFLINE_UPDATES,
            evaluate_every_env_steps=ENV_STEPS // 4,
            change=("offline_loss.alpha=0.3",) if isinstance(method.offline_loss, CONSERVATIVE) else (),
        )
    )
    pretrains, goes_online = method.offline_loss is not None, method.online_target is not None
    updates = OFFLINE_UPDATES if pretrains else 0
    rows = [("offline", n) for n in (0, updates)] if pretrains else []
    warm_up = int(method.warm_up * ENV_STEPS)  # rounds of 4 steps, with 2 updates from the one on that completes it
    online = [2 * sum(step >= warm_up for step in range(4, n * ENV_STEPS // 4 + 1, 4)) for n in range(5)]
    rows += [("online", updates + done) for done in online] if goes_online else []
    assert [(row["phase"], row["updates"]) for row in found.rows] == rows
    assert (found.handover is not None) == (pretrains and goes_online and not method.reinitialise_online)
    assert (tmp_path / "run" / "offline.safetensors").exists() == pretrains
    last = found.rows[-1]
    assert (last["epsilon"] is not None) == (goes_online and hasattr(method.explore, "epsilon"))
    assert (last["lambda"] is not None) == (name in ("ovmse", "ovm"))
    assert (last["memory_active_share"] is not None) == (goes_online and pretrains and method.memory is not None)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method"] == name
    if pretrains and name != "bc":  # which does what was done, well or not
        assert found.rows[1]["return"] == 11.0
    if goes_online and method.uses_data:  # the optimum is in the data
        assert last["return"] == 11.0
    if name in ("ovmse", "ovm"):  # what was learned offline is held online
        assert {row["return"] for row in found.rows if row["phase"] == "online"} == {11.0}


def test_online_learning_solves_the_two_step_game(tmp_path):
    """8 is the optimum; a team that ignores the state settles for 7 (Rashid et al. 2018, section 5)."""
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
    assert [row["return"] for row in found.rows[-2:]] == [8.0, 8.0]
