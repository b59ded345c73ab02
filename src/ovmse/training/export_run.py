"""A run's team as a directory of its own that acts without this library, with real steps to check it by."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ovmse import methods
from ovmse.config import NO_ENV, Config
from ovmse.core.action_selection import greedy
from ovmse.core.errors import UserError, check_positive
from ovmse.core.literals import TeamChoice
from ovmse.core.networks import Heads, unroll
from ovmse.core.types import EnvSpec, Episode
from ovmse.data.dataset import Dataset
from ovmse.data.same_plant import as_play_of
from ovmse.envs.protocol import AnyEnvironment, is_host
from ovmse.envs.settings import make_by_options
from ovmse.learning.parallel import join, split
from ovmse.learning.play import Actor, make_collect
from ovmse.learning.rollout import Teams
from ovmse.methods.method import Method
from ovmse.methods.overrides import change_method
from ovmse.methods.signatures import ActionInputs, PolicyOutput
from ovmse.policy import export, onnx_model
from ovmse.policy.act import Policy
from ovmse.policy.contract import FROZEN, Contract
from ovmse.policy.load import FILES, read_team
from ovmse.runs import trusted_code
from ovmse.runs.saved_config import read_config, read_spec
from ovmse.system import files, jax_setup
from ovmse.training.display import Display
from ovmse.training.evaluate_run import check_env, restore_teams

TOGETHER = 64
"""Episodes played, or read, between two looks at how many steps there are."""


@dataclass(frozen=True)
class Exported:
    """What an export left. steps: how many it can be checked by; source: who played them."""

    out: Path
    contract: Contract
    steps: int
    source: str


def export_run(
    run: Path,
    out: Path,
    display: Display | None = None,
    *,
    seed: int | None = None,
    teams: TeamChoice = "deployed",
    onnx: bool = False,
    steps: int = 10_000,
    trust_code: bool = False,
) -> Exported:
    """Write the team of a run as a directory that acts by NumPy alone (docs/deploy.md).

    Args:
        run: the run's directory.
        out: the directory to write, which is not there yet or empty; it appears when it is whole.
        display: where progress is shown; None: nowhere.
        seed: which of the run's seeds; by default its first.
        teams: the team to deploy (of a batch round the one that it accepted or kept, else the last one), the one at the
            run's end, the one that left the offline phase, or of these two the one that the guard would deploy.
        onnx: write an ONNX model, too.
        steps: environment steps to record for the check, at least, played in the run's environment, or where that can't
            be made taken from its dataset.
        trust_code: import and run the environment or method of somebody's own that the run names.

    Returns:
        What was written.

    Raises:
        UserError: on bad input, before anything is written; where the directory is in use or can't be written.
    """
    files.check_free(out)
    check_positive("--steps", steps)
    contract, weights = read_team(run, seed, teams)
    model = onnx_model.build(Policy(contract.described(), weights)) if onnx else None
    display = display or Display()
    jax_setup.use()
    config = read_config(run, trusted=True)  # reads alone; what it names is run where that is trusted
    if trusted_code.own_methods(config):
        trusted_code.check(run / "config.json", config, trust_code)
    method = change_method(methods.find(config.method), config.change)
    spec = read_spec(run)
    assert spec is not None  # `read_team` has read it
    acting = restore(run, config, spec, method, contract)
    with display, jax.default_matmul_precision("highest"):
        env = environment(run, config, spec, trust_code, display)
        if env is not None:
            source, episodes = str(config.env), played(config, env, method, acting)
        else:
            assert config.data is not None  # or there would be an environment
            source, episodes = config.data, logged(config.data, spec, named=config.env != NO_ENV)
        recorded = record(method, acting, episodes, env is not None, steps, display)
    contract = export.write(out, contract, weights, recorded, model)
    return Exported(out, contract, len(recorded["first"]), source)


def restore(run: Path, config: Config, spec: EnvSpec, method: Method, contract: Contract) -> Teams:
    """The team of one seed, and the frozen one where some agents play by it, in JAX."""

    def one(team: str) -> Any:
        parts = method.parts if team == "offline" else method.parts_online
        found = restore_teams(run / FILES[team], config, spec, parts)
        return jax.tree.map(lambda x: x[contract.came_from["seed"] - config.seed], found)

    frozen = any(network.prefix.startswith(FROZEN) for network in contract.networks)
    return Teams(one(contract.came_from["team"]), one("offline") if frozen else None)


def environment(run: Path, config: Config, spec: EnvSpec, trust_code: bool, display: Display) -> AnyEnvironment | None:
    """The run's environment; None where it had none. Where it can't be made or trusted: None if there is a dataset,
    else `UserError`."""
    if config.env in (None, NO_ENV):
        return None
    try:
        trusted_code.check(run / "config.json", config, trust_code)
        env = make_by_options(str(config.env), config.env_settings, config.env_python)
        check_env(run, config, env.spec)
        untold: dict[str, Any] = {"version": "", "settings": {}, "agents": (), "kinds": ()}
        if env.spec._replace(**untold) != spec._replace(**untold):
            raise UserError(f"{run} was trained in an environment of other sizes than {config.env} has now.")
    except UserError as error:
        if config.data is None:
            raise
        display.say(f"not played: {error} Steps of the dataset are recorded instead.")
        return None
    return env


def played(config: Config, env: AnyEnvironment, method: Method, teams: Teams) -> Iterator[Episode]:
    """Greedy episodes (leading axis) in an environment, batch after batch without end."""
    together = config.episodes_per_collect if is_host(env) else TOGETHER
    config = replace(config, seeds=1, episodes_per_collect=together)
    key = jax.random.fold_in(jax.random.key(config.seed), 2**20)  # as fresh as those of `evaluate_run`
    actor = jax.tree.map(lambda x: x[None], Actor(teams, key, jnp.int32(0), jnp.int32(0)))
    actors, collect = split(actor, 1), make_collect(config, env, method)
    for turn in itertools.count():
        yield jax.tree.map(lambda x: x[0], join(collect(actors, turn, 0.0))).episodes  # at ε = 0, as in evaluation


def logged(data: str, spec: EnvSpec, named: bool) -> Iterator[Episode]:
    """The episodes (leading axis) of a dataset, padded, batch after batch to its end.

    named: whether the run was in an environment, which the dataset must be of.
    """
    dataset = Dataset.open(data)
    if named:
        dataset.check_env(spec, allow_version_mismatch=True)
    else:
        as_play_of(dataset, spec)
    limit, count = int(dataset.length.max()), len(dataset.length)

    def padded(i: int) -> Any:
        episode, short = dataset.episode(i), limit - int(dataset.length[i])
        return [np.pad(x, [(0, short), *[(0, 0)] * (x.ndim - 1)]) for x in episode]

    for first in range(0, count, TOGETHER):
        block = [padded(min(i, count - 1)) for i in range(first, first + TOGETHER)]
        arrays: Any = [np.stack(x) for x in zip(*block, strict=True)]
        whole = Episode(*arrays)
        arrays[-1][max(0, count - first) :] = False  # the last one again, so that every block is of one size
        yield whole


def record(
    method: Method, teams: Teams, episodes: Iterator[Episode], own: bool, steps: int, display: Display
) -> dict[str, np.ndarray]:
    """At least so many steps of episodes, and what the team in JAX does at each: the arrays of check.npz.

    own: whether the team played them itself, so that what it does is what it did.
    """

    @jax.jit
    def judge(teams: Teams, batch: Episode) -> tuple[Array, Array]:
        def one(episode: Episode) -> tuple[Array, Array]:
            scores = acting_scores(method, teams, episode)
            return scores[:-1], episode.action if own else greedy(scores, episode.avail)[:-1]

        return jax.vmap(one)(batch)

    parts: list[dict[str, np.ndarray]] = []
    done = 0
    display.begin("recording steps", steps, left="compiling …")
    for batch in episodes:
        scores, action = map(np.asarray, judge(teams, batch))
        valid, n_actions = np.asarray(batch.valid), batch.avail.shape[-1]
        before = np.pad(np.asarray(batch.action)[:, :-1], [(0, 0), (1, 0), (0, 0)], constant_values=-1)
        small = np.int8 if n_actions < 2**7 else np.int32
        rows = {
            "observations": np.asarray(batch.obs)[:, :-1].astype(np.float32),
            "available": np.asarray(batch.avail)[:, :-1],
            "last_action": before.astype(small),
            "first": np.arange(valid.shape[1]) == np.zeros((len(valid), 1)),
            "action": action.astype(small),
            "scores": scores,
        }
        parts.append({name: array[valid] for name, array in rows.items()})
        done += int(valid.sum())
        display.update(min(done, steps), f"{min(done, steps):,}/{steps:,} steps")
        if done >= steps:
            break
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def acting_scores(method: Method, teams: Teams, episode: Episode) -> Float[Array, "T1 N A"]:
    """What the greedy action is the largest of at every row of an episode, as the method plays in evaluation."""
    heads = [unroll(team.agent, episode) for team in teams if team is not None]

    def at_row(heads: list[Heads], avail: Array, t: Array) -> Array:
        says = [PolicyOutput(one, None) for one in heads]
        offline = says[1] if len(says) > 1 else None
        one = jnp.ones(())
        return method.acting_utilities(ActionInputs(heads[0].acting, avail, t, one, says[0], offline, one))

    return jax.vmap(at_row)(heads, episode.avail, jnp.arange(len(episode.avail)))
