"""How seeds play where worker processes play whole episodes in a host environment, without a device in the loop.

What is played follows from the weights and the episode's own seed alone: how many workers there are, which of them
plays what, and in which order they are done, changes nothing.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.kinds import network_names
from ovmse.core.types import EnvSpec, Episode
from ovmse.envs.pool import Limits, Played, WorkerPool
from ovmse.envs.process import ProcessEnv
from ovmse.envs.protocol import AnyEnvironment, is_host
from ovmse.envs.remote import RemoteEnv, connect_for
from ovmse.envs.settings import parse_settings
from ovmse.learning.parallel import SeedBatches, over_seeds, seeds_per_batch
from ovmse.learning.rollout import Rollout, Teams, alike, blank, episode_keys, round_keys
from ovmse.methods.exploration import ActsWithoutJax, own_utilities
from ovmse.methods.method import Method
from ovmse.methods.reincarnation import Keep
from ovmse.policy import player
from ovmse.policy.contract import FROZEN
from ovmse.policy.load import by_kind, by_network
from ovmse.system import pytree_files


@dataclass(frozen=True)
class Round:
    """Episodes to play with one seed's team. about: the team's contract, how it acts, and a seed and a key of each
    episode, as JSON. arrays: its weights."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


def check_workers(config: Config, env: AnyEnvironment | None, method: Method) -> None:
    """Raise `UserError` where a run that asks for workers can't have them."""
    if config.workers == 1:
        if config.ray_address is not None:
            raise UserError("--ray is for workers, of which there are none: give --workers, or leave it out.")
        return
    if env is None or not is_host(env):
        what = "nothing is played" if env is None else f"{env.spec.name} is in JAX, where episodes are compiled"
        raise UserError(f"--workers {config.workers} is for environments on the host; {what}. Leave it out.")
    if method.online_target is not None and not isinstance(method.explore, ActsWithoutJax):
        raise UserError(
            f"--workers {config.workers}: the method {config.method!r} explores by {type(method.explore).__name__}, "
            "which needs JAX. Workers act by EpsilonGreedy, Sequential, Independent or Sample; leave --workers out."
        )
    kept_agents(method)


def kept_agents(method: Method) -> tuple[int, ...]:
    """The agents that act by the offline team. Raises `UserError` where something else decides what is played."""
    if method.acting_utilities is own_utilities:
        return ()
    if isinstance(method.acting_utilities, Keep):
        return method.acting_utilities.agents
    raise UserError("--workers: this method plays by utilities of its own, which need JAX. Leave --workers out.")


class Workers:
    """A `ovmse.learning.play.CollectFn` by worker processes, which can also begin rounds ahead.

    say: told of every worker that had to be started anew.
    """

    def __init__(self, config: Config, spec: EnvSpec, method: Method, say: Callable[[str], None]):
        name, settings = str(config.env), parse_settings(config.env_settings)
        python = config.env_python or Path(sys.executable)

        def another() -> ProcessEnv:
            return ProcessEnv(python, name, settings, player=player.__name__)

        def by_ray() -> RemoteEnv:
            own = config.env_python and str(config.env_python)
            return RemoteEnv(ray, spec, python=own, name=name, settings=settings, player=player.__name__)

        ray = config.ray_address and connect_for(config.ray_address, config.workers)
        limits = Limits(config.env_seconds, config.env_restarts)
        self.pool = WorkerPool(by_ray if ray else another, config.workers, limits, say)
        self._config, self._spec, self._method = config, spec, method
        self._together = seeds_per_batch(config.seeds)
        self._draw = over_seeds(lambda key, turn: drawn_keys(config, key, turn), config.seeds, keep=True)

    def __call__(self, actors: SeedBatches, turn: int, epsilon: float | None) -> SeedBatches:
        return self.begin(actors, turn, epsilon)()

    def begin(self, actors: SeedBatches, turn: int, epsilon: float | None) -> Callable[[], SeedBatches]:
        """Begin to play a round; the result waits for its end."""
        rounds = [self.rounds(actor, turn, epsilon, place) for place, actor in enumerate(actors)]
        begun = [[self.submit(one) for one in batch] for batch in rounds]
        return lambda: [self.stacked([self.rollout(one) for one in batch]) for batch in begun]

    def submit(self, one: Round) -> "list[Future[Played]]":
        """Begin the episodes of a round."""
        shared = {name: value for name, value in one.about.items() if name not in ("seeds", "keys")}
        episodes = zip(one.about["seeds"], one.about["keys"], strict=True)
        return [self.pool.submit({**shared, "seed": seed, "key": key}, one.arrays) for seed, key in episodes]

    def rounds(self, actor: Any, turn: int, epsilon: float | None, place: int = 0) -> list[Round]:
        """The round of each seed of a batch (the place-th), without those that only fill up the devices.

        actor: a batch of `ovmse.learning.play.Actor`. turn, epsilon: see `ovmse.learning.play.CollectFn`.
        """
        [(env_seeds, keys)] = self._draw([actor.key], np.int32(turn))
        seeds = (np.asarray(env_seeds).astype(np.int64) % 2**31).tolist()
        teams, steps, drawn = pytree_files.to_host(actor.teams), np.asarray(actor.env_steps), np.asarray(keys).tolist()
        found = []
        for i in range(min(self._together, self._config.seeds - place * self._together)):
            contract, arrays = self.team(jax.tree.map(lambda x: x[i], teams))  # noqa: B023
            rule, rate = ("epsilon_greedy", epsilon) if epsilon is not None else self._rule(int(steps[i]))
            about = {"contract": contract, "rule": rule, "epsilon": rate}
            found.append(Round({**about, "seeds": seeds[i], "keys": drawn[i]}, arrays))
        return found

    def rollout(self, begun: "list[Future[Played]]") -> Rollout:
        """The episodes of a round, once they are played."""
        return padded([future.result() for future in begun], self._spec)

    def stacked(self, rollouts: list[Rollout]) -> Rollout:
        """The rollouts of a batch of seeds; those that only fill up the devices have the last one's."""
        filled = rollouts + rollouts[-1:] * (self._together - len(rollouts))
        return jax.tree.map(lambda *x: np.stack(x), *alike(filled))

    def team(self, teams: Teams) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `ovmse.policy.act.Policy` takes to act as one seed's teams: the contract, and the weights."""
        spec, learner = self._spec, self._config.learner
        kept = [i for i in kept_agents(self._method) if i < spec.n_agents] if teams.offline is not None else []
        own = [i for i in range(spec.n_agents) if i not in kept]
        called = network_names(learner.parameters, learner.kinds, spec.n_agents)
        networks, arrays = list[dict[str, Any]](), dict[str, np.ndarray]()
        for prefix, team, agents in (("", teams.online, own), (FROZEN, teams.offline, kept)):
            if team is not None and agents:
                about = {"policy": team.agent.policy is not None, "normalise": team.agent.normalise}
                of_kinds = by_kind(agents, called).items()
                networks += [{"prefix": prefix + kind, "agents": who} | about for kind, who in of_kinds]
                arrays |= by_network(prefix, pytree_files.names(team), called)
        sizes = {"agents": spec.n_agents, "actions": spec.n_actions, "features": spec.obs_size}
        contract = {
            "agents": [str(i) for i in range(spec.n_agents)],
            "actions": [str(i) for i in range(spec.n_actions)],
            "sizes": sizes | {"hidden": learner.hidden},
            "networks": networks,
        }
        return contract, {name: x for name, x in arrays.items() if "agent." in name}

    def _rule(self, env_steps: int) -> tuple[str, float]:
        assert isinstance(self._method.explore, ActsWithoutJax)
        return self._method.explore.rule(min(1.0, env_steps / self._config.scheduled_env_steps), self._spec.n_agents)


def drawn_keys(config: Config, key: PRNGKeyArray, turn: Array) -> tuple[Array, Array]:
    """Of each episode of one seed's round: the environment's seed, and the key that its play draws by, two numbers."""
    env_keys, team_keys = episode_keys(round_keys(key, turn, config.episodes_per_collect))
    return jax.random.key_data(env_keys)[:, -1], jax.random.key_data(team_keys)


def padded(played: list[Played], spec: EnvSpec) -> Rollout:
    """Episodes as workers bring them, as one rollout, padded as on the host (`ovmse.learning.rollout`)."""
    rows, steps = blank(spec, len(played))
    measures = dict[str, np.ndarray]()
    for i, (about, arrays) in enumerate(played):
        length = len(arrays["reward"])
        for name, values in rows.items():
            values[i, : length + 1], values[i, length + 1 :] = arrays[name], arrays[name][-1]
        for name in ("action", "reward", "terminal"):
            steps[name][i, :length] = arrays[name]
        steps["valid"][i, :length] = True
        for name, value in about["measures"].items():
            measures.setdefault(name, np.full(len(played), np.nan))[i] = value
    episodes: Any = {**rows, **steps}
    won: Any = np.array([about["won"] for about, _ in played])
    return Rollout(Episode(**episodes), won, measures)
