"""Collect a dataset: train a behaviour team with the library's own online QMIX, and record how it plays."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import envs, methods
from ovmse.collection import rules
from ovmse.collection.behaviour import Trained, behaviour_config, train_behaviour
from ovmse.collection.settings import BEHAVIOUR_METHOD, PATHS, Collecting, Quality
from ovmse.config import Config, with_kinds
from ovmse.core.errors import UserError, number_of
from ovmse.core.networks import Team
from ovmse.core.types import EnvSpec, Flat
from ovmse.data.dataset import Dataset
from ovmse.data.flat import joined, pack
from ovmse.data.schema import Names
from ovmse.envs.protocol import AnyEnvironment
from ovmse.envs.settings import make_by_options
from ovmse.learning import learner, replay as replays
from ovmse.learning.play import Actor, CollectFn, begin, closing, make_collect
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Teams
from ovmse.learning.workers import check_workers
from ovmse.system import files, jax_setup, provenance
from ovmse.system.clock import Clock
from ovmse.training.display import Display

NAMELESS = Names()


def collect(collecting: Collecting, display: Display | None = None, also: Sequence[Quality] = ()) -> Dataset:
    """Train the behaviour team, choose the checkpoint of the wanted quality, play, and write the dataset; or play by a
    rule in use.

    also: further qualities, cut from the same run of the behaviour team into directories beside, ``OUT-QUALITY``.
    Returns the dataset of `collecting` itself. Raises `UserError` on bad input, before anything is trained.
    """
    jax_setup.use()
    display = display or Display()
    every = [collecting, *(replace(collecting, quality=x, out=beside(collecting.out, x)) for x in also)]
    if collecting.rule is not None and also:
        raise UserError(f"--also cuts qualities from a trained team's run; the rule {collecting.rule} is not trained.")
    if collecting.rule is not None:
        rules.find(collecting.rule)
        if collecting.ray_address is not None:
            raise UserError(f"the rule {collecting.rule} plays on this machine: leave --ray out.")
    if len({each.quality for each in every}) < len(every):
        raise UserError(f"each quality can be collected once: got {', '.join(each.quality for each in every)}.")
    for each in every:
        files.check_free(each.out.resolve())
    try:
        collecting.out.resolve().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't create {collecting.out.parent}: {error.strerror}. Choose another --out.") from error
    env = make_by_options(collecting.env, collecting.env_settings, collecting.env_python)
    if envs.is_host(env) or not type(env).__module__.startswith("ovmse."):  # ours in JAX are known to pass
        envs.check(env, episodes=1)
    if collecting.rule is not None:
        return write_by_rule(collecting, env, display)
    config = behaviour_config(collecting)
    config = replace(config, learner=with_kinds(config.learner, env.spec))
    collect_episodes = make_collect(config, env, methods.find(BEHAVIOUR_METHOD))
    trained = None
    with closing(collect_episodes):
        if any(each.quality != "random" for each in every):
            trained = train_behaviour(collecting, config, env, collect_episodes, display)
        written = [write(each, config, env.spec, collect_episodes, trained, display) for each in every]
    for each, dataset in zip(every[1:], written[1:], strict=True):
        display.say(f"{each.quality}: {number_of(len(dataset.length), 'episode')} in {each.out}")
    return written[0]


def beside(out: Path, quality: Quality) -> Path:
    """Where a further quality goes."""
    return out.with_name(f"{out.name}-{quality}")


def write(
    collecting: Collecting,
    config: Config,
    spec: EnvSpec,
    collect_episodes: CollectFn,
    trained: Trained | None,
    display: Display,
) -> Dataset:
    """Play with the teams of the wanted quality, or take what was played, and write the dataset."""
    if collecting.quality == "random":
        fresh = learner.init(config.learner, spec, jax.random.key(collecting.seed)).team
        one_seed = jax.tree.map(lambda x: x[None], fresh)
        parts = record(collect_episodes, one_seed, collecting, 0, collecting.episodes, 1.0, display)
        text = "uniformly random legal actions"
    else:
        assert trained is not None
        medium, expert = trained.medium, trained.expert
        if collecting.quality == "medium-replay":
            parts = [replayed(trained.replay, medium.env_steps, collecting.episodes)]
            text = f"all that the learner played until {medium.env_steps} env steps, exploring as it learned"
        else:
            teams = {"medium": [medium], "expert": [expert], "mixed": [medium, expert]}[collecting.quality]
            counts = [len(part) for part in np.array_split(np.arange(collecting.episodes), len(teams))]
            parts = [
                part
                for i, (behaviour, count) in enumerate(zip(teams, counts, strict=True))
                for part in record(collect_episodes, behaviour.team, collecting, i, count, collecting.epsilon, display)
            ]
            text = "; ".join(f"after {b.env_steps} env steps, {trained.score} {b.score:.4g}" for b in teams)
            text += f"; recorded with ε-greedy exploration at ε = {collecting.epsilon}"
        text = f"online QMIX ({BEHAVIOUR_METHOD}, seed {collecting.seed}): {text}"

    return write_parts(collecting, spec, parts, text, collecting.quality)


def write_by_rule(collecting: Collecting, env: AnyEnvironment, display: Display) -> Dataset:
    """Play by a rule in use, and write the dataset."""
    check_workers(behaviour_config(collecting), env, methods.find(BEHAVIOUR_METHOD))
    parts = rules.record(collecting, display)
    text = f"the rule {collecting.rule}; each agent acts at random with probability ε = {collecting.epsilon}"
    told = getattr(env, "names", None) or {}
    names = Names(env.spec.agents or None, **{kind: tuple(given) for kind, given in told.items()})
    return write_parts(collecting, env.spec, parts, text, "rule", names)


def write_parts(
    collecting: Collecting, spec: EnvSpec, parts: list[Flat], behaviour: str, quality: str, names: Names = NAMELESS
) -> Dataset:
    """Write what was played."""
    return Dataset.write(
        collecting.out,
        spec=spec,
        **joined(parts),
        behaviour=behaviour,
        quality=quality,
        seed=collecting.seed,
        git_revision=provenance.git_revision(),
        command=provenance.command_line(),
        float_dtype="float16" if collecting.float16 else "float32",
        recipe=recipe(collecting),
        names=names,
    )


def recipe(collecting: Collecting) -> dict[str, Any]:
    """What `ovmse datasets make` needs to collect the same again, as JSON: all settings but the paths, and what ran."""
    kept = {name: value for name, value in asdict(collecting).items() if name not in PATHS}
    kept |= {name: list(value) for name, value in kept.items() if isinstance(value, tuple)}
    return {"made_by": "collect", **kept, "versions": provenance.dataset_versions()}


def record(
    collect_episodes: CollectFn,
    team: Team,
    collecting: Collecting,
    part: int,
    episodes: int,
    epsilon: float,
    display: Display,
) -> list[Flat]:
    """Play episodes with one team (leading axis 1) whose agents act at random with probability ε, each on its own."""
    key = jax.random.fold_in(jax.random.key(collecting.seed), 2 + part)  # no two parts play the same battles
    parts: list[Flat] = []
    done, clock, nothing = 0, Clock(), jnp.zeros(1, jnp.int32)  # nothing was played online before
    display.phase("record", 0, episodes, "episodes")
    begun = []
    for _ in range(-(-episodes // collecting.episodes_per_collect)):
        key, k = jax.random.split(key)
        begun.append(begin(collect_episodes, [Actor(Teams(team), k[None], nothing, nothing)], 0, epsilon))
    for finish in begun:
        with clock.measure("record"):
            [played] = finish()
            played = jax.tree.map(lambda x: np.asarray(x)[0], played)
        wanted = jax.tree.map(lambda x: x[: episodes - done], played)  # noqa: B023
        parts.append(pack(wanted.episodes, wanted.won))
        done += len(wanted.won)
        display.advance(done, clock)
    return parts


def replayed(replay: Replay, env_steps: int, most: int) -> Flat:
    """The episodes that a learner (leading axis 1) had stored by `env_steps`, at most the latest `most`."""
    one = jax.tree.map(lambda x: x[0], replay)
    if int(one.index.oldest) != 0:
        raise UserError(
            "the behaviour's replay dropped episodes, which medium-replay needs: leave --replay-env-steps out."
        )
    length = np.asarray(one.index.length)[: int(one.index.written)]
    count = int(np.searchsorted(np.cumsum(length), env_steps, side="right"))
    return replays.to_flat(one, range(max(0, count - most), count))
