"""Random episodes and teams for the tests of the core: small, legal, and with garbage where padding is."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ovmse import envs
from ovmse.config import Config, LearnerConfig
from ovmse.core import values
from ovmse.core.kinds import network_of_agents
from ovmse.core.networks import Parts, Team, make_team
from ovmse.core.types import EnvSpec, Episode
from ovmse.data.dataset import Dataset
from ovmse.data.flat import pack
from ovmse.learning.replay import Replay, from_flat
from ovmse.methods.signatures import LossInputs

SPEC = EnvSpec(
    name="test:random",
    version="1",
    settings={},
    n_agents=3,
    n_actions=4,
    obs_size=2,
    state_size=3,
    episode_limit=6,
    has_win=True,
)
SMALL = LearnerConfig(hidden=8, embedding=4, hyper=6, td_lambda=0.0)


def random_avail(rng, shape):
    """Legal actions: at least one for every agent."""
    avail = rng.random(shape) < 0.5
    np.put_along_axis(avail, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, axis=-1)
    return avail


def random_episode(rng, length, spec=SPEC, ends="terminal", padding=0.0, dtype=np.float32):
    """An episode of `length` steps, padded to the limit; `padding` scales the garbage in the padding.

    ends: "terminal", or "truncated" for one that a time limit cut.
    """
    limit, n, a = spec.episode_limit, spec.n_agents, spec.n_actions
    scale = np.where(np.arange(limit + 1) <= length, 1.0, padding)
    avail = random_avail(rng, (limit + 1, n, a))
    avail[length + 1 :] &= padding > 0
    legal = np.where(avail, rng.random(avail.shape), -1.0).argmax(-1)[:-1]
    valid = np.arange(limit) < length
    garbage = rng.integers(0, a, legal.shape) if padding else np.zeros_like(legal)
    terminal = rng.random(limit) < 0.5 if padding else np.zeros(limit, bool)
    terminal[:length] = False
    terminal[length - 1] = ends == "terminal"
    episode = Episode(
        obs=rng.normal(size=(limit + 1, n, spec.obs_size)) * scale[:, None, None],
        state=rng.normal(size=(limit + 1, spec.state_size)) * scale[:, None],
        avail=avail,
        action=np.where(valid[:, None], legal, garbage).astype(np.int32),
        reward=rng.normal(size=limit) * np.where(valid, 1.0, padding),
        terminal=terminal,
        valid=valid,
    )
    return Episode(*(x.astype(dtype) if x.dtype == np.float64 else x for x in episode))


def stack(episodes):
    """Episodes on a leading axis, as JAX arrays."""
    return jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *episodes)


def as_jax(tree):
    """Every array as a JAX array."""
    return jax.tree.map(jnp.asarray, tree)


def random_team(seed, spec=SPEC, mixer="qmix", config=SMALL, **parts) -> Team:
    """Small networks with random parameters, drawn by NumPy so that nothing has to be compiled.

    parts: what else they consist of, as `Parts` has it.
    """
    sizes = {"hidden": config.hidden, "embedding": config.embedding, "hyper": config.hyper}
    sizes |= {"kinds": network_of_agents(config.parameters, config.kinds, spec.n_agents)}
    team = eqx.filter_eval_shape(make_team, spec, Parts(mixer, **parts), **sizes, key=jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), team)


def in_float64(tree):
    """The tree with its floats in double precision (inside `jax.enable_x64`)."""

    def double(x):
        return x.astype(jnp.float64) if eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(double, tree)


def write_dataset(path, spec, episodes, won=None, **told) -> Dataset:
    """A dataset of the given padded episodes; told: what else `Dataset.write` is."""
    stacked = Episode(*(np.stack(x) for x in zip(*episodes, strict=True)))
    won = np.zeros(len(episodes), bool) if won is None else np.asarray(won)
    return Dataset.write(path, spec=spec, **pack(stacked, won), behaviour="test", **told)


def close(a, b, tolerance):
    """Whether two trees agree, relative to the largest value of each array."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * max(1.0, float(np.abs(y).max())))


def play_plan(game, plan):
    """An episode of a matrix game with the given joint actions, and whether it was won."""
    env = envs.make(f"matrix:{game}")
    state, view = env.reset(jax.random.key(0))
    views, outcomes = [view], []
    for action in plan:
        state, view, outcome = env.step(jax.random.key(0), state, jnp.asarray(action))
        views.append(view)
        outcomes.append(outcome)
    ends = [np.array([x.reward for x in outcomes]), np.array([x.terminal for x in outcomes])]
    rows = (np.stack([np.asarray(getattr(v, name)) for v in views]) for name in ("obs", "state", "avail"))
    return Episode(*rows, np.array(plan, np.int32), *ends, np.ones(len(plan), bool)), bool(outcomes[-1].won)


def write_two_step(path):
    """A dataset with every joint plan of the two-step game once: 16 episodes."""
    joint = [(a, b) for a in range(2) for b in range(2)]
    episodes, won = zip(*[play_plan("two_step", [first, then]) for first in joint for then in joint], strict=True)
    write_dataset(path, envs.make("matrix:two_step").spec, episodes, won)
    return str(path)


def write_plant(path, **changes) -> Dataset:
    """A dataset that no environment stands behind: the plans of the two-step game by its own name, and other arrays."""
    there = Dataset.open(write_two_step(path.with_name(f"{path.name}-game")))
    spec, flat = there.spec._replace(name=path.name, version="unknown"), there.flat | changes
    return Dataset.write(path, spec=spec, **flat, behaviour="the rules in use")


def log_run(out, data, **changes) -> Config:
    """A run of seconds that nothing is played in."""
    small = small_run(out)
    kept = {name: getattr(small, name) for name in ("offline_updates", "evaluate_every_updates", "batch_episodes")}
    return Config(out=out, **{"data": str(data), "learner": small.learner, "fqe_updates": 20, **kept, **changes})


def small_run(out, **changes) -> Config:
    """A run of seconds on the two-step game."""
    settings = {
        "env": "matrix:two_step",
        "seeds": 3,
        "offline_updates": 40,
        "online_env_steps": 64,
        "episodes_per_collect": 4,
        "updates_per_collect": 2,
        "batch_episodes": 8,
        "replay_env_steps": 200,
        "evaluate_every_updates": 20,
        "evaluate_every_env_steps": 32,
        "evaluate_episodes": 4,
        "learner": dataclasses.replace(SMALL, learning_rate=0.01, target_every_updates=10),
    }
    return Config(out=out, **{**settings, **changes})


def method_run(out, **changes) -> Config:
    """A run of one seed, of the sizes at which methods are tried: tests of one method share its compiled programs."""
    settings = {
        "seeds": 1,
        "episodes_per_collect": 8,
        "updates_per_collect": 4,
        "batch_episodes": 32,
        "replay_env_steps": 1_000,
        "learner": LearnerConfig(
            hidden=16, embedding=8, hyper=16, td_lambda=0.0, learning_rate=0.005, target_every_updates=20
        ),
    }
    return small_run(out, **{**settings, **changes})


def inputs_of(team, slow, episode, gamma=0.99, td_lambda=0.0, next_value=None, **known) -> LossInputs:
    """What the losses of an episode are given, with one-step targets unless they are `known`."""
    v = values.evaluate_episode(team, slow, episode)

    def bootstrap(after):
        return values.lambda_return(episode.reward, episode.terminal, episode.valid, after, gamma, td_lambda)

    key = known.get("key", jax.random.key(0))
    after = v.next_q_tot if next_value is None else next_value(v, episode, key)
    given = {
        "td_target": bootstrap(after),
        "offline_value": jnp.zeros_like(after),
        "from_data": jnp.ones((), bool),
        "progress": jnp.zeros(()),
        "key": key,
    }
    return LossInputs(values=v, episode=episode, bootstrap=bootstrap, gamma=gamma, **{**given, **known})


def replay_of(dataset: Dataset) -> Replay:
    """A dataset as a replay, on the host."""
    return from_flat(dataset.flat, dataset.spec)
