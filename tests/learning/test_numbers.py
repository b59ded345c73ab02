"""Numbers among the settings are arguments of the compiled programs: they change what comes out, and no program."""

import dataclasses
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SMALL, SPEC, random_episode, random_team, replay_of, write_dataset

from ovmse.config import Config, LearnerConfig
from ovmse.core.schedules import Schedule, constant, linear
from ovmse.learning import learner, phases
from ovmse.learning.numbers import numbers_of, with_numbers
from ovmse.learning.parallel import over_seeds, split
from ovmse.methods import METHODS
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method
from ovmse.methods.targets import TD


@dataclass(frozen=True)
class OwnLoss:
    """A user's loss, which asks what its number is."""

    power: float = 2.0
    weight: Schedule = linear(0.5, 0.25)

    def __call__(self, inputs):
        return inputs.values.q_tot**2 if self.power > 1 else inputs.values.q_tot


def leaves(settings, path=""):
    """Every setting by its place, dataclasses opened."""
    found = {}
    for field in dataclasses.fields(settings):
        value, place = getattr(settings, field.name), f"{path}{field.name}"
        found |= leaves(value, f"{place}.") if dataclasses.is_dataclass(value) else {place: value}
    return found


@pytest.mark.parametrize("name", METHODS)
def test_numbers_at_their_places_are_the_settings(name):
    settings = Config(method=name), METHODS[name]
    again = with_numbers(settings, numbers_of(settings))
    for before, after in zip(settings, again, strict=True):
        assert type(before) is type(after)
        old, new = leaves(before), leaves(after)
        assert old.keys() == new.keys()
        for place, value in old.items():
            if isinstance(value, float):
                np.testing.assert_allclose(new[place], value, rtol=1e-6)
            else:
                assert new[place] == value, place
    assert settings == (Config(method=name), METHODS[name])


def test_what_is_an_argument_and_what_stays():
    config = Config(learner=LearnerConfig(td_lambda=0.0, learning_rate=0.25), guard_margin=None)
    method = Method(offline_loss=CQL(alpha=5, samples=7), online_target=TD(), online_loss=OwnLoss())
    found = numbers_of((config, method))
    assert found["0.learner.learning_rate"] == np.float32(0.25) and found["1.offline_loss.alpha"] == 5.0
    assert found["0.online_env_steps"] == 50_000 and found["0.online_env_steps"].dtype == np.int32
    assert found["1.online_loss.weight.end"] == 0.25  # a schedule is ovmse's own wherever it stands
    shapes = ("0.seeds", "0.batch_episodes", "0.learner.hidden", "1.offline_loss.samples")
    others = ("0.learner.td_lambda", "0.guard_margin", "0.keep_teams", "1.online_loss.power", "1.reinitialise_online")
    assert not set(found) & {*shapes, *others, "1.offline_share.start"}  # the last is a 0


@pytest.mark.slow
def test_one_program_serves_all_numbers_and_each_has_its_own_result(tmp_path):
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, n) for n in (3, 5, 4, 6)]
    data = replay_of(write_dataset(tmp_path / "data", SPEC, episodes))
    small = replace(SMALL, td_lambda=0.5)
    config = Config(seeds=1, batch_episodes=4, replay_env_steps=100, learner=small)
    method = replace(METHODS["ovmse"], offline_loss=CQL(alpha=2.0), explore=METHODS["ovmse"].explore)
    traced = []

    def program(config, method, state, data):
        traced.append(1)
        return phases.learn_offline(config, SPEC, method, state, data, jnp.int32(2), [SPEC.episode_limit])

    def lowered(config, method):
        """The program's text, and the team that it leads to."""
        state = phases.begin(learner.restart(config.learner, random_team(0)), jax.random.key(1))
        states = split(jax.tree.map(lambda x: jnp.asarray(x)[None], state), 1)
        [after] = over_seeds(program, 1, keep=True, settings=(config, method))(states, data)
        numbers = numbers_of((config, method))
        text = jax.make_jaxpr(lambda s, d, n: program(*with_numbers((config, method), n), s, d))(state, data, numbers)
        return str(text), after.learner.team

    def changed(**numbers):
        return replace(config, learner=replace(small, **numbers))

    plain, team = lowered(config, method)
    for other in (
        (changed(gamma=0.5), method),
        (changed(td_lambda=0.9), method),
        (changed(learning_rate=0.02), method),
        (config, replace(method, offline_loss=CQL(alpha=0.5))),
    ):
        text, new = lowered(*other)
        assert text == plain
        gap = max(float(abs(a - b[0]).max()) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(team), strict=True))
        assert gap > 1e-4
        state = phases.begin(learner.restart(other[0].learner, random_team(0)), jax.random.key(1))
        alone = jax.jit(lambda s, d, other=other: program(*other, s, d))(state, data).learner.team  # constants
        for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5)
    assert lowered(config, replace(method, offline_loss=CQL(alpha=2.0, form="joint")))[0] != plain


def test_a_constant_zero_switches_off():
    assert not Method(online_target=TD(), offline_share=constant(0.0)).mixes_data
    assert Method(online_target=TD(), offline_share=linear(0.5, 0.0)).mixes_data
    [method] = with_numbers((m := (METHODS["balanced"],)), numbers_of(m))
    assert method.mixes_data
