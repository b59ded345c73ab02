"""SMAX: StarCraft's micro-management battles in JAX, from jaxmarl, against its scripted enemy."""

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from ovmse.core.errors import check_known, check_positive
from ovmse.core.types import EnvSpec, EnvState, Observation, StepResult
from ovmse.envs.compiled import strongly_typed


class Smax:
    """One SMAX map; the agents are the allies, in jaxmarl's order.

    Reward of a step, shared: ``reward_scale`` x (the enemies' mean lost share of health, plus 1 for a win);
    so a win returns ``2 * reward_scale``, 20 by default. Terminal: a side is dead. Truncated: `max_steps` are
    over and both sides live. Won: all enemies are dead and an ally lives (all dead at once is a draw).

    max_steps: the time limit, in steps. reward_scale: reward per lost health of the whole enemy team.
    see_enemy_actions: whether observations hold the last actions of visible enemies.
    walls_cause_death: whether a unit that touches the border dies.
    attack_mode: whom the scripted enemy shoots first, ``closest`` or ``random``; enemy_shoots: whether it
    shoots.

    Raises `UserError` for unknown maps and unusable settings.
    """

    spec: EnvSpec

    def __init__(
        self,
        map_name: str,
        *,
        max_steps: int = 100,
        reward_scale: float = 10.0,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        attack_mode: str = "closest",
        enemy_shoots: bool = True,
    ) -> None:
        env_class, scenarios = _jaxmarl()
        check_known("SMAX map", map_name, scenarios)
        check_positive("max_steps", float(max_steps))
        check_positive("reward_scale", reward_scale)
        check_known("attack_mode", attack_mode, ("closest", "random"))
        rules = {
            "max_steps": max_steps,
            "see_enemy_actions": see_enemy_actions,
            "walls_cause_death": walls_cause_death,
            "attack_mode": attack_mode,
            "enemy_shoots": enemy_shoots,
        }
        self._env = env_class(scenario=scenarios[map_name], **rules)
        self._reward_scale = reward_scale
        self.spec = EnvSpec(
            name=f"smax:{map_name}",
            version=f"jaxmarl {importlib.metadata.version('jaxmarl')}",
            settings={**rules, "reward_scale": reward_scale},
            n_agents=self._env.num_allies,
            n_actions=self._env.num_ally_actions,
            obs_size=self._env.obs_size,
            state_size=self._env.state_size,
            episode_limit=max_steps,
            has_win=True,
        )

    def reset(self, key: PRNGKeyArray) -> tuple[EnvState, Observation]:
        """A new battle and what the team sees of it."""
        obs, state = self._env.reset(key)
        state = strongly_typed(state)
        return state, self._observe(obs, state)

    def step(
        self, key: PRNGKeyArray, state: EnvState, action: Int[Array, " N"]
    ) -> tuple[EnvState, Observation, StepResult]:
        """The battle after the allies' `action`; jaxmarl's own `step` would start a new battle at the end."""
        agents = self._env.agents
        moves = dict(zip(agents, action.astype(jnp.int32), strict=True))
        obs, state, rewards, _, _ = self._env.step_env(key, state, moves)
        state = strongly_typed(state)
        ally_lives = jnp.any(state.state.unit_alive[: self.spec.n_agents])
        enemy_lives = jnp.any(state.state.unit_alive[self.spec.n_agents :])
        decided = ~(ally_lives & enemy_lives)
        result = StepResult(
            reward=self._reward_scale * rewards[agents[0]],
            terminal=decided,
            truncated=~decided & (state.state.step >= self.spec.episode_limit),
            won=ally_lives & ~enemy_lives,
        )
        return state, self._observe(obs, state), result

    def _observe(self, obs: dict[str, Array], state: Any) -> Observation:
        avail = self._env.get_avail_actions(state)
        agents = self._env.agents
        return Observation(
            obs=jnp.stack([obs[agent] for agent in agents]),
            state=self._scaled_state(obs["world_state"], state.state.unit_types),
            avail=jnp.stack([avail[agent] for agent in agents]).astype(bool),
        )

    def _scaled_state(self, raw: Float[Array, " S"], unit_types: Integer[Array, " U"]) -> Float[Array, " S"]:
        """jaxmarl's world state with every feature in [0, 1].

        jaxmarl gives positions in map units (up to 32), cooldowns in seconds that keep falling below 0 while
        a unit does not shoot (to -50 over 100 steps), and type numbers (0 to 5). Here positions are shares of
        the map's size, cooldowns shares of the unit's own cooldown as in its observation, type numbers shares
        of the last.
        """
        env, n_units = self._env, len(unit_types)
        n_features = len(env.own_features)  # health, x, y, cooldown, one-hot type
        units = raw[: n_units * n_features].reshape(n_units, n_features)
        health, position, cooldown, types = jnp.split(units, (1, 3, 4), axis=1)
        full_cooldown = env.unit_type_weapon_cooldowns[unit_types][:, None]
        position = position / jnp.array([env.map_width, env.map_height])
        cooldown = jnp.clip(cooldown / full_cooldown, 0.0, 1.0)
        scaled = jnp.concatenate([health, position, cooldown, types], axis=1)
        teams, type_numbers = jnp.split(raw[n_units * n_features :], 2)
        return jnp.concatenate([scaled.reshape(-1), teams, type_numbers / (env.unit_type_bits - 1)])


def map_names() -> list[str]:
    """The maps that the installed jaxmarl knows."""
    return list(_jaxmarl()[1])


def _jaxmarl() -> tuple[Any, dict[str, Any]]:
    """jaxmarl's environment class and its maps, imported without the code of the packages that they are in, which takes
    five seconds and more, plots, compiles and prints."""
    bare = [name for name in ("jaxmarl", "jaxmarl.environments") if name not in sys.modules]
    try:
        for name in bare:
            found = importlib.util.find_spec(name)
            package = types.ModuleType(name)
            package.__path__ = [] if found is None else found.submodule_search_locations or []
            sys.modules[name] = package
        smax = importlib.import_module("jaxmarl.environments.smax.heuristic_enemy_smax_env")
        maps = importlib.import_module("jaxmarl.environments.smax.smax_env")
    finally:
        for name in bare:
            sys.modules.pop(name, None)  # whoever imports jaxmarl later gets all of it
    return smax.HeuristicEnemySMAX, maps.MAP_NAME_TO_SCENARIO
