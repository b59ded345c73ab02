"""What halts learning, by hand: which number is noticed, what is kept, and what counts for nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SPEC, random_episode, random_team, stack

from ovmse.config import Config
from ovmse.learning import finiteness, learner, phases

KEY = jax.random.key(5)
TEAM = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}
NAN, INF = float("nan"), float("inf")


def metrics(loss=1.0, norm=1.0):
    return learner.Metrics(learner.no_losses(jnp.float32)._replace(loss=jnp.float32(loss)), jnp.float32(norm))


@pytest.mark.parametrize(
    ("loss", "norm", "cause"),
    [
        (1.0, 1.0, ""), (99.0, INF, "gradient"), (99.0, NAN, "gradient"), (NAN, NAN, "loss"), (INF, 1.0, "loss"),
        (-INF, 1.0, "loss"), (100.0, 1.0, ""), (100.1, 1.0, "limit"), (100.1, NAN, "gradient"), (-1e9, 1.0, "limit"),
    ],
)  # fmt: skip
def test_the_cause_of_an_update(loss, norm, cause):
    halt = finiteness.after_update(finiteness.no_halt(), metrics(loss, norm), TEAM, 100.0, KEY)
    assert finiteness.CAUSES[int(halt.cause)] == cause
    assert bool(finiteness.is_well(halt)) == (cause == "")
    expected = jax.random.key_data(KEY) if cause else np.zeros(2)
    np.testing.assert_array_equal(halt.key, expected)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_team_that_would_not_be_finite_is_a_cause(value):
    broken = TEAM | {"b": TEAM["b"].at[1].set(value)}
    halt = finiteness.after_update(finiteness.no_halt(), metrics(), broken, 100.0, KEY)
    assert finiteness.CAUSES[int(halt.cause)] == "parameters"


def test_the_first_cause_and_its_key_stay():
    halt = finiteness.after_update(finiteness.no_halt(), metrics(NAN), TEAM, 100.0, KEY)
    later = finiteness.after_update(halt, metrics(1.0, NAN), TEAM, 100.0, jax.random.key(6))
    assert int(later.cause) == int(halt.cause)
    np.testing.assert_array_equal(later.key, halt.key)


@pytest.mark.parametrize("field", ["obs", "state", "reward"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_only_real_steps_of_play_count(field, value):
    """An episode of 3 steps has 4 real rows and 3 real rewards; what is behind them is padding."""
    episodes = stack([random_episode(np.random.default_rng(0), n) for n in (6, 3)])
    places = 7 if field != "reward" else 6
    for at in range(places):
        values = getattr(episodes, field)
        broken = episodes._replace(**{field: values.at[(1, at) + (0,) * (values.ndim - 2)].set(value)})
        halt = finiteness.after_play(finiteness.no_halt(), broken)
        real = at < (3 if field == "reward" else 4)
        assert finiteness.CAUSES[int(halt.cause)] == ("play" if real else "")


def test_an_update_that_is_not_done_counts_for_nothing():
    config = Config(env=SPEC.name, loss_limit=100.0)
    sums = phases.add(config, phases.zero_sums(), metrics(2.0, 3.0), random_team(0), KEY)
    for bad in (metrics(NAN), metrics(7.0), metrics(2.0, INF)):  # after a halt nothing counts, the good ones neither
        sums = phases.add(config, sums, bad, random_team(0), KEY)
        assert int(sums.updates) == 1
        assert float(sums.total.losses.loss) == 2.0 and float(sums.total.grad_norm) == 3.0
    new, old = {"x": jnp.ones(3)}, {"x": jnp.zeros(3)}
    assert finiteness.unless_halted(sums.halt, new, old)["x"].sum() == 0
    assert finiteness.unless_halted(finiteness.no_halt(), new, old)["x"].sum() == 3
