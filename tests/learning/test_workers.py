"""What workers are given to play by: the team that JAX would act as, and the episodes of the round."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SMALL, random_avail
from support.junction import Junction

from ovmse import methods
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.networks import agent_step, first_hidden
from ovmse.envs.matrix import MatrixGame
from ovmse.learning import learner
from ovmse.learning.play import Actor
from ovmse.learning.rollout import Teams
from ovmse.learning.workers import Workers, check_workers, padded
from ovmse.methods import METHODS
from ovmse.methods.exploration import ActsWithoutJax, Independent, Sequential
from ovmse.policy.act import Policy, TeamMemory
from ovmse.policy.player import Player
from ovmse.system import pytree_files

SPEC = Junction().spec


def workers(method="scratch", **changed):
    config = Config(env="support.junction:Junction", method=method, workers=2, episodes_per_collect=3, learner=SMALL)
    return Workers(replace(config, **changed), SPEC, methods.find(method), print)


def team_of(method, learner_config, seed):
    return learner.init(learner_config, SPEC, jax.random.key(seed), methods.find(method).parts_online).team


def actor(team, offline=None, env_steps=0):
    """One seed's `Actor`, as a batch of one."""
    teams = jax.tree.map(lambda x: x[None], Teams(team, offline))
    steps = jnp.full(1, env_steps, jnp.int32)
    return Actor(teams, jax.random.key(0)[None], steps, steps)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("scratch", {}),
        ("scratch", {"parameters": "per_agent"}),
        ("scratch", {"parameters": "per_kind", "kinds": "bus,tram"}),
        ("omiga", {}),
        ("wsrl", {}),
        ("reincarnation", {}),
    ],
)
def test_the_team_acts_as_in_jax(method, changes):
    config = replace(SMALL, **changes)
    team, offline = team_of(method, config, 0), team_of(method, config, 1)
    guided = offline if methods.find(method).uses_offline_team else None
    contract, arrays = workers(method, learner=config).team(pytree_files.to_host(Teams(team, guided)))
    rng, policy = np.random.default_rng(0), Policy(contract, arrays)
    memory = TeamMemory(np.zeros((2, SMALL.hidden), np.float32), np.full(2, -1), np.zeros((), int))
    hidden, last = [first_hidden(x.agent, 2) for x in (team, offline)], jnp.zeros((2, 3))
    for _ in range(3):
        obs = rng.normal(size=(2, 3)).astype(np.float32)
        memory, scores, _ = policy.step(obs, memory)
        expected = []
        for i, x in enumerate((team, offline)):
            hidden[i], heads = agent_step(x.agent, hidden[i], jnp.asarray(obs), last)
            expected.append(np.asarray(heads.acting))
        kept = np.array([guided is not None, False])[:, None]  # reincarnation keeps agent 0
        np.testing.assert_allclose(scores, np.where(kept, expected[1], expected[0]), rtol=1e-4, atol=1e-5)
        action = random_avail(rng, (2, 3)).argmax(-1)
        memory, last = memory._replace(last_action=action), jax.nn.one_hot(action, 3)


def test_each_turn_of_each_key_has_episodes_of_its_own():
    team, mine = team_of("scratch", SMALL, 0), workers()
    [first], [again], [other] = (mine.rounds(actor(team), turn, None) for turn in (0, 0, 1))
    assert first.about == again.about and len(first.about["seeds"]) == 3
    assert not set(first.about["seeds"]) & set(other.about["seeds"])
    assert len({tuple(key) for key in first.about["keys"] + other.about["keys"]}) == 6


def test_epsilon_follows_its_schedule_or_is_given():
    team, mine = team_of("scratch", SMALL, 0), workers(online_env_steps=100)
    schedule = METHODS["scratch"].explore.epsilon
    [late] = mine.rounds(actor(team, env_steps=50), 0, None)
    [greedy] = mine.rounds(actor(team, env_steps=50), 0, 0.0)
    assert late.about["epsilon"] == pytest.approx(float(schedule(0.5))) and greedy.about["epsilon"] == 0.0
    assert late.about["rule"] == greedy.about["rule"] == "epsilon_greedy"


def test_rates_are_those_of_the_formulas():
    assert Sequential(methods.METHODS["se"].explore.epsilon, per_agent=True).rule(1.0, 4) == (
        "sequential",
        pytest.approx(4 * float(methods.METHODS["se"].explore.epsilon(1.0))),
    )
    rule, epsilon = Independent(methods.METHODS["scratch"].explore.epsilon).rule(0.0, 4)
    assert (rule, epsilon) == ("epsilon_greedy", pytest.approx(0.25))


def test_what_workers_bring_is_padded_as_on_the_host():
    [one] = workers().rounds(actor(team_of("scratch", SMALL, 0)), 0, None)
    env, player = Junction(), Player()
    shared = {name: x for name, x in one.about.items() if name not in ("seeds", "keys")}
    played = [
        player.play(env, shared | {"seed": seed, "key": key}, one.arrays, lambda: None)
        for seed, key in zip(one.about["seeds"], one.about["keys"], strict=True)
    ]
    longer = SPEC._replace(episode_limit=6)
    episodes, won, measures = padded(played, longer)
    assert episodes.obs.shape == (3, 7, 2, 3) and episodes.valid.sum(1).tolist() == [4, 4, 4] and won.all()
    for i, (told, arrays) in enumerate(played):
        np.testing.assert_array_equal(episodes.obs[i, :5], arrays["obs"])
        np.testing.assert_array_equal(episodes.obs[i, 5:], arrays["obs"][[-1, -1]])
        assert not episodes.reward[i, 4:].any() and measures["waiting_time"][i] == told["measures"]["waiting_time"]
        assert np.isnan(measures.get("collisions", np.full(3, np.nan))[i]) == ("collisions" not in told["measures"])


def test_what_workers_can_not_do_is_said():
    config = Config(env="x", method="pex", workers=4)
    check_workers(replace(config, workers=1), None, METHODS["pex"])
    with pytest.raises(UserError, match="'pex' explores by Expand, which needs JAX"):
        check_workers(config, Junction(), METHODS["pex"])
    with pytest.raises(UserError, match="for environments on the host; matrix:climbing is in JAX"):
        check_workers(config, MatrixGame("climbing"), METHODS["scratch"])
    with pytest.raises(UserError, match="nothing is played"):
        check_workers(config, None, METHODS["scratch"])
    with pytest.raises(UserError, match="utilities of its own"):
        check_workers(config, Junction(), replace(METHODS["scratch"], acting_utilities=lambda inputs: 2 * inputs.q))
    able = {name for name, method in METHODS.items() if isinstance(method.explore, ActsWithoutJax)}
    assert set(METHODS) - able == {"pex", "jsrl", "duce", "sim2o"}
