"""Every strategy ends at the optimum of the two-step game, from a log of all its plans."""

import pytest
from support.episodes import method_run, write_two_step

from ovmse.methods import METHODS
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]

STRATEGIES = ("kept", "rlpd", "balanced", "otc", "pex", "wsrl", "jsrl", "duce", "sim2o", "reincarnation")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step")


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_ends_at_the_optimum(name, tmp_path, log):
    """8 is the optimum; a team that ignores the state settles for 7 (Rashid et al. 2018, section 5)."""
    found = train(
        method_run(
            tmp_path / "run",
            method=name,
            data=log,
            offline_updates=300,
            online_env_steps=1_200,
            evaluate_every_updates=300,
            evaluate_every_env_steps=1_200,
            change=("offline_loss.alpha=0.1",) if METHODS[name].offline_loss else (),
        )
    )
    assert found.rows[-1]["phase"] == "online"
    assert found.rows[-1]["return"] == 8.0
