"""Play by a rule in use, such as a city's own signals: a function of what the agents see and of what is legal."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import jax
import numpy as np

from ovmse.collection.settings import Collecting
from ovmse.config import Config
from ovmse.core.errors import UserError, raised, unknown
from ovmse.core.types import EnvSpec, Flat, Observation, StepResult
from ovmse.data.flat import pack
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.envs.naming import load
from ovmse.envs.process import ProcessEnv
from ovmse.envs.protocol import AnyEnvironment, Environment, HostEnvironment, check_action, is_host
from ovmse.envs.settings import make_by_options
from ovmse.learning.play import mender
from ovmse.learning.rollout import Acting, Rollout, collect_host
from ovmse.system.clock import Clock
from ovmse.system.plugins import BUILDERS, RULES, load_own
from ovmse.training.display import Display

Rule = Callable[[np.ndarray, np.ndarray], Any]
"""(obs [N, O], legal actions [N, A]) → an action for each agent [N]."""


def find(name: str) -> Rule:
    """The rule called `name`: one of the package's, or ``module:function`` of the user's own.

    Raises `UserError` where there is no such rule.
    """
    prefix, _, rest = name.partition(":")
    if name not in RULES and (not rest or prefix in BUILDERS):
        raise unknown("rule", name, RULES, "Or give a module:function of your own.")
    rule = load(RULES[name], ours=True) if name in RULES else load_own("rule", name)
    if not callable(rule):
        raise UserError(f"--rule {name} must be a function; it is a {type(rule).__name__}.")
    return cast(Rule, rule)


def record(collecting: Collecting, display: Display) -> list[Flat]:
    """The episodes that `collecting` asks for, played by its rule, whose agents act at random with probability ε.

    With workers each has the environment in a process of its own; how many there are changes nothing in what is played.
    """
    name, limits, clock, workers = str(collecting.rule), Config(), Clock(), collecting.workers
    rule = find(name)

    def another() -> HostEnvironment:
        if workers == 1:
            return on_host(make_by_options(collecting.env, collecting.env_settings, collecting.env_python))
        python = collecting.env_python or Path(sys.executable)
        process = cast(ProcessEnv, make_by_options(collecting.env, collecting.env_settings, python))
        process.seconds = limits.env_seconds
        processes.append(process)
        return process

    processes, stopped = list[ProcessEnv](), threading.Event()
    guarded = [GuardedEnv(another, limits.env_seconds) for _ in range(workers)]
    mend, free = mender(guarded, limits.env_restarts, display.say), SimpleQueue[int]()
    for i in range(workers):
        free.put(i)

    def unless_stopped(i: int, fault: EnvFault) -> None:
        if stopped.is_set():
            raise fault
        mend(i, fault)

    def one(episode: int) -> Rollout:
        i, rng = free.get(), np.random.default_rng([collecting.seed, episode])
        try:
            return play(guarded[i], name, rule, collecting.epsilon, rng, lambda _, fault: unless_stopped(i, fault))
        finally:
            free.put(i)

    parts, pool = [], ThreadPoolExecutor(workers)
    display.phase("record", 0, collecting.episodes, "episodes")
    try:
        played = map(one, range(collecting.episodes)) if workers == 1 else pool.map(one, range(collecting.episodes))
        for episode in range(collecting.episodes):
            with clock.measure("record"):
                rollout = next(played)
            parts.append(pack(rollout.episodes, np.asarray(rollout.won)))
            display.advance(episode + 1, clock)
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
    return parts


def play(env: Any, name: str, rule: Rule, epsilon: float, rng: np.random.Generator, mend: Any = None) -> Rollout:
    """One episode by a rule called `name`, whose agents each act at random with probability ε.

    mend: see `ovmse.learning.rollout.collect_host`. Raises `UserError` where the rule's actions can't be used.
    """

    def act_at(t: int, carried: Any, observation: Observation) -> tuple[Any, np.ndarray]:
        obs, avail = np.asarray(observation.obs[0]), np.asarray(observation.avail[0])
        where = f"the rule {name}, step {t}"
        try:
            chosen = rule(obs.copy(), avail.copy())
        except (Exception, SystemExit) as error:
            raise raised(where, error) from error
        action = checked(where, env.spec, avail, chosen)
        at_random = [rng.choice(np.flatnonzero(legal)) for legal in avail]
        return carried, np.where(rng.random(len(avail)) < epsilon, at_random, action)[None]

    nothing = Acting([], cast(Any, np.zeros((1, env.spec.n_agents, env.spec.n_actions), np.float32)))
    return collect_host([env], act_at, nothing, [int(rng.integers(2**31))], mend)


def checked(where: str, spec: EnvSpec, avail: np.ndarray, action: Any) -> np.ndarray:
    """The actions (N,) of a rule. Raises `UserError` unless there is a legal one for each agent."""
    found = np.asarray(action)
    if found.shape != (spec.n_agents,) or found.dtype.kind not in "iu":
        raise UserError(f"{where}: expected {spec.n_agents} whole numbers, an action for each agent; got {action!r}.")
    check_action(where, found, avail)
    return found.astype(np.int32)


def on_host(env: AnyEnvironment) -> HostEnvironment:
    """The environment, or one in JAX in the shape of one on the host."""
    return cast(HostEnvironment, env) if is_host(env) else OnHost(cast(Environment, env))


class OnHost:
    """An environment in JAX in the shape of one on the host: `reset` and `step` are compiled, and called one by one."""

    def __init__(self, env: Environment) -> None:
        self.spec, self._reset, self._step = env.spec, jax.jit(env.reset), jax.jit(env.step)

    def reset_host(self, seed: int) -> Observation:
        self._key, key = jax.random.split(jax.random.key(seed))
        self._state, observation = self._reset(key)
        return jax.tree.map(np.asarray, observation)

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        self._key, key = jax.random.split(self._key)
        self._state, observation, result = self._step(key, self._state, action)
        return jax.tree.map(np.asarray, (observation, result))
