"""Runs as their directories tell of them, with random networks, for the tests of what acts without JAX."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from ovmse.config import Config
from ovmse.core.networks import Parts
from ovmse.core.settings import describe
from ovmse.learning.play import _pick
from ovmse.learning.rollout import Teams, act, start_acting
from ovmse.methods import METHODS
from ovmse.system import files, pytree_files
from support.episodes import SMALL, SPEC, random_team


def random_seeds(numbers, parts, learner, spec):
    """Random networks of these parts, one for each number, on a leading axis."""
    kinds = {name: getattr(parts, name) for name in Parts.__dataclass_fields__ if name != "mixer"}
    found = [random_team(n, spec, learner.mixer or parts.mixer, learner, **kinds) for n in numbers]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def write_run(folder, method, spec=SPEC, seeds=2, learner=SMALL, **settings):
    """A finished run's directory with random networks; `method` is a name or a `Method`. The frozen and the last teams
    of all seeds."""
    value = METHODS[method] if isinstance(method, str) else method
    name = method if isinstance(method, str) else "own"
    config = Config(env=spec.name, method=name, seeds=seeds, learner=learner, **settings)
    described = describe(config) | {"method_value": describe(value), "env_spec": spec._asdict()}
    folder.mkdir(exist_ok=True)
    files.write_json(folder / "config.json", json.loads(json.dumps(described)))
    offline = random_seeds(range(seeds), value.parts, learner, spec)
    last = random_seeds(range(10, 10 + seeds), value.parts_online, learner, spec)
    pytree_files.save(folder / "offline.safetensors", offline)
    pytree_files.save(folder / "teams.safetensors", last)
    return offline, last


def seed_of(teams, index):
    """One seed's networks."""
    return jax.tree.map(lambda x: x[index], teams)


class Greedy:
    """What JAX plays in evaluation: the very step of training's rollouts, at ε = 0, for episodes side by side."""

    def __init__(self, method, team, frozen=None, spec=SPEC, episodes=1):
        teams = Teams(team, frozen if method.uses_offline_team else None)
        keys, pick = jax.random.split(jax.random.key(0), episodes), _pick(method, jnp.float32(0.0))
        self.acting = start_acting(teams, spec, episodes)
        t, one = jnp.int32(0), jnp.float32(1.0)
        self.step = jax.jit(lambda acting, seen: act(teams, spec, pick, keys, t, acting, seen, one, one))

    def __call__(self, seen):
        self.acting, action = self.step(self.acting, seen)
        return np.asarray(action)
