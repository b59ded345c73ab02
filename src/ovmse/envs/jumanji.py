"""Jumanji's team environments, in JAX: wires that must not cross, a warehouse, foraging, a maze to clean."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.core.errors import UserError, check_known, check_positive
from ovmse.core.types import EnvSpec, EnvState, Observation, StepResult
from ovmse.envs.compiled import combined, imported, strongly_typed
from ovmse.system.plugins import version_of

INSTALL = "pip install 'ovmse[jumanji]'"
ROUTING = "jumanji.environments.routing"

Seen = tuple[Float[Array, "N O"], Float[Array, " S"]]


class World(NamedTuple):
    """How one of the environments is played.

    package: under `ROUTING`. generator: the class of its generator, under the package. settings: the generator's, as
    the registered environment has them. look: (environment, state, observation) → observations and state. won: whether
    a state is the end of the task that was wanted; None where there is no such thing.
    """

    package: str
    generator: str
    settings: dict[str, Any]
    look: Callable[[Any, Any, Any], Seen]
    won: Callable[[Any], Bool[Array, ""]] | None


def connector(env: Any, state: Any, observation: Any) -> Seen:
    """Per agent four planes of the grid: what is taken, others' targets, its own, and itself. State: what is taken, and
    all places and targets as shares of the grid."""
    size, agents = env.grid_size, state.agents
    taken = state.grid > 0
    targets, places = _planes(agents.target, (size, size)), _planes(agents.position, (size, size))
    others = targets.any(axis=0) & ~targets
    planes = jnp.stack([jnp.broadcast_to(taken, targets.shape), others, targets, places], axis=1)
    where = jnp.concatenate([agents.position.ravel(), agents.target.ravel()]) / size
    return _rows(planes), jnp.concatenate([taken.ravel(), where])


def cleaner(env: Any, state: Any, observation: Any) -> Seen:
    """Per agent four planes of the maze: dirt, walls, others, and itself. State: dirt, walls, and all places."""
    shape = state.grid.shape
    dirt, walls = state.grid == 0, state.grid == 2
    places = _planes(state.agents_locations, shape)
    others = (places.sum(axis=0) - places) > 0
    shared = (jnp.broadcast_to(plane, places.shape) for plane in (dirt, walls))
    where = (state.agents_locations / jnp.asarray(shape)).ravel()
    return _rows(jnp.stack([*shared, others, places], axis=1)), jnp.concatenate([dirt.ravel(), walls.ravel(), where])


def warehouse(env: Any, state: Any, observation: Any) -> Seen:
    """The library's views, places as shares of the warehouse's longer side. State: all views in a row."""
    view = observation.agents_view.astype(jnp.float32)
    view = view.at[:, :2].divide(max(env.grid_size))
    return view, view.ravel()


def foraging(env: Any, state: Any, observation: Any) -> Seen:
    """The library's views, places and levels as shares of the grid's side. State: all views in a row."""
    view = observation.agents_view.astype(jnp.float32).reshape(env.num_agents, -1) / env.grid_size
    return view, view.ravel()


WORLDS = {
    "Connector": World(
        "connector", "generator:RandomWalkGenerator", {"grid_size": 10, "num_agents": 10},
        connector, lambda state: state.agents.connected.all(),
    ),
    "RobotWarehouse": World(
        "robot_warehouse", "generator:RandomGenerator",
        {"shelf_rows": 2, "shelf_columns": 3, "column_height": 8, "num_agents": 4, "sensor_range": 1,
         "request_queue_size": 8},
        warehouse, None,
    ),
    "LevelBasedForaging": World(
        "lbf", "generator:RandomGenerator",
        {"grid_size": 8, "fov": 8, "num_agents": 2, "num_food": 2, "max_agent_level": 2, "force_coop": True},
        foraging, lambda state: state.food_items.eaten.all(),
    ),
    "Cleaner": World(
        "cleaner", "generator:RandomGenerator", {"num_rows": 10, "num_cols": 10, "num_agents": 3},
        cleaner, lambda state: ~(state.grid == 0).any(),
    ),
}  # fmt: skip
SHORT = {"LBF": "LevelBasedForaging"}


class JumanjiTeam:
    """An environment of `WORLDS` by its name, with or without the version: ``Connector-v3``.

    Reward: the sum of the agents', or their mean, times `reward_scale`. Truncated: the time limit is over; the
    library's own is put off by a step, so that what ends before is the task's end. Won: see `World`.

    Settings: ``time_limit``, those of the generator, and plain ones of the environment's class.

    Raises `UserError` for names, versions and settings that are not there, and where jumanji is not installed.
    """

    spec: EnvSpec

    def __init__(self, name: str, *, reward: str = "sum", reward_scale: float = 1.0, **settings: Any) -> None:
        full, world, build = _found(name)
        check_known("reward", reward, ("sum", "mean"))
        check_positive("reward_scale", reward_scale)
        defaults = world.settings | _plain_settings(build)
        for key, value in settings.items():
            check_known(f"setting of {full}", key, defaults)
            if not isinstance(value, int | float):
                raise UserError(f"setting {key!r} of {full} must be a number, or True or False; got {value!r}.")
        resolved = defaults | settings
        generator = _import(full, f"{world.package}.{world.generator}")(
            **{key: resolved[key] for key in world.settings}
        )
        own = {key: value for key, value in resolved.items() if key not in world.settings}
        limit = own.pop("time_limit") or build(generator=generator).time_limit  # Cleaner's hangs on its maze
        check_positive("time_limit", float(limit))
        self._env, self._world = build(generator=generator, time_limit=limit + 1, **own), world
        self._how, self._scale = reward, reward_scale
        ours = {"time_limit": limit, "reward": reward, "reward_scale": reward_scale}
        self.spec = EnvSpec(full, version_of("jumanji"), resolved | ours, 1, 1, 1, 1, limit, world.won is not None)
        _, seen = jax.eval_shape(self.reset, jax.random.key(0))
        (n, size), width, actions = seen.obs.shape, seen.state.size, seen.avail.shape[1]
        self.spec = self.spec._replace(n_agents=n, obs_size=size, state_size=width, n_actions=actions)

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Observation]:
        """A first state and what the team sees of it."""
        state, first = self._env.reset(jax.random.key_data(key))
        state = strongly_typed(state)
        return state, self._seen(state, first.observation)

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Int[Array, " N"]
    ) -> tuple[EnvState, Observation, StepResult]:
        """The state after the joint action; what is random in it derives from the first key."""
        del key
        state, after = self._env.step(state, action)
        state = strongly_typed(state)
        ended = after.last()
        result = StepResult(
            reward=self._scale * combined(after.reward, self._how),
            terminal=ended,
            truncated=~ended & (state.step_count >= self.spec.episode_limit),
            won=ended & self._world.won(state) if self._world.won else jnp.zeros((), bool),
        )
        return state, self._seen(state, after.observation), result

    def _seen(self, state: Any, observation: Any) -> Observation:
        obs, whole = self._world.look(self._env, state, observation)
        return Observation(obs, whole.astype(jnp.float32), observation.action_mask.astype(bool))


def _found(name: str) -> tuple[str, World, Callable[..., Any]]:
    """The full name, the world and the class behind a name."""
    base, _, version = name.partition("-v")
    base = SHORT.get(base, base)
    check_known("environment of jumanji", base, WORLDS)
    registered = _import(f"jumanji:{name}", "jumanji:registered_environments")()
    there = next((each for each in registered if re.fullmatch(rf"{base}-v\d+", each)), base)
    if version and there != f"{base}-v{version}":
        raise UserError(f"jumanji:{name}: the installed {version_of('jumanji')} has {there}.")
    full = f"jumanji:{there}"
    return full, WORLDS[base], _import(full, f"jumanji.environments:{base}")


def _import(name: str, path: str) -> Any:
    module, _, attribute = path.partition(":")
    module = module if module.startswith("jumanji") else f"{ROUTING}.{module}"
    return getattr(imported(name, module, INSTALL), attribute)


def _plain_settings(build: Callable[..., Any]) -> dict[str, Any]:
    """The numbers that a class takes, with their defaults."""
    parameters = inspect.signature(build).parameters.values()
    plain = {p.name: p.default for p in parameters if isinstance(p.default, int | float)}
    return {"time_limit": None} | plain


def _planes(places: Int[Array, "N 2"], shape: tuple[int, int]) -> Bool[Array, "N R C"]:
    """A plane per place in which that alone is true."""
    rows, columns = (jax.nn.one_hot(places[:, i], shape[i], dtype=bool) for i in (0, 1))
    return rows[:, :, None] & columns[:, None, :]


def _rows(planes: Array) -> Float[Array, "N O"]:
    return planes.reshape(len(planes), -1).astype(jnp.float32)
