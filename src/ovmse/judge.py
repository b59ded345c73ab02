"""Judge the teams of a finished run on fresh episodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import checkpoint, envs, learner, machine, methods, metrics, rundir
from ovmse.config import Config, change_method, settings
from ovmse.display import Display
from ovmse.errors import UserError, check_positive
from ovmse.networks import Parts, Team
from ovmse.rollout import Teams
from ovmse.seeds import slots, split
from ovmse.worlds import evaluate, make_world

FILES = {"last": "teams.safetensors", "offline": "offline.safetensors"}


def judge_run(
    config: Config, run: Path, episodes: int, seed: int, teams: Literal["last", "offline"], display: Display
) -> list[dict[str, Any]]:
    """Greedy scores of a run's teams on fresh episodes, a row per seed; written to `evaluation.json` too.

    Raises `UserError` if the run has no such teams, or another version of the environment is installed.
    """
    machine.use()
    check_positive("episodes", float(episodes))
    config = replace(config, evaluate_episodes=episodes)
    env = envs.make(config.env, **settings(config.env_settings))
    made = rundir.read_json(run / "config.json").get("env_spec", env.spec._asdict())
    if made["version"] != env.spec.version and not config.allow_version_mismatch:
        raise UserError(f"{run} was trained in {made['name']} ({made['version']}); installed is {env.spec.version}.")
    path = run / FILES[teams]
    if not path.exists():
        raise UserError(f"{path} is missing: the run did not get there. Was it interrupted? ovmse train --resume {run}")
    method = change_method(methods.find(config.method), config.change)
    team = restore_teams(path, config, env.spec, method.parts if teams == "offline" else method.parts_online)
    guide = restore_teams(run / FILES["offline"], config, env.spec, method.parts) if method.guided else None
    world = make_world(config, env, method)
    fill = np.resize(np.arange(config.seeds), slots(config.seeds))
    fresh = jax.random.fold_in(jax.random.key(seed), 2**20)  # training folds in 0 and 1, collecting 2 and on
    keys = jnp.stack([jax.random.fold_in(fresh, config.seed + int(i)) for i in fill])
    display.say(f"playing {episodes} episodes with each of {config.seeds} teams …")
    playing = split(jax.tree.map(lambda x: x[fill], Teams(team, guide)), config.seeds)
    scores = evaluate(config, world, playing, split(keys, config.seeds))
    rows = [
        {"seed": config.seed + i, "episodes": episodes, "teams": teams, "episodes_seed": seed}
        | metrics.score_row(scores, i, env.spec.has_win)
        for i in range(config.seeds)
    ]
    rundir.write_json(run / "evaluation.json", rows)
    return rows


def restore_teams(path: Path, config: Config, spec: Any, parts: Parts) -> Team:
    """The networks of all seeds (leading axis) in a file."""

    def one(key: Any) -> Team:
        return learner.init(config.learner, spec, key, parts).team

    like = jax.eval_shape(lambda keys: jax.vmap(one)(keys), jax.random.split(jax.random.key(0), config.seeds))
    return checkpoint.restore(path, like)
