"""Judge the teams of a finished run on fresh episodes."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ovmse import methods
from ovmse.config import NO_ENV, Config
from ovmse.core.errors import UserError, check_positive, check_seed, number_of, typed_command
from ovmse.core.literals import TeamChoice
from ovmse.core.networks import Parts, Team
from ovmse.core.types import EnvSpec
from ovmse.envs.settings import make_by_options
from ovmse.learning import learner
from ovmse.learning.evaluation import Scores, evaluate
from ovmse.learning.parallel import padded_seeds, split
from ovmse.learning.play import closing, make_collect
from ovmse.learning.rollout import Teams
from ovmse.methods.method import Method
from ovmse.methods.overrides import change_method
from ovmse.policy.load import FILES, deployed_name, safe_names
from ovmse.runs.saved_config import read_spec
from ovmse.system import files, jax_setup, pytree_files
from ovmse.training import metrics
from ovmse.training.display import Display

EPISODES = "evaluation.csv"
"""The file of a run's directory that has a line for every episode of its last evaluation on fresh episodes."""


def evaluate_run(
    config: Config,
    run: Path,
    episodes: int,
    seed: int,
    teams: TeamChoice,
    display: Display,
    episodes_out: Path | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
) -> list[dict[str, Any]]:
    """Greedy scores of a run's teams on fresh episodes, a row per seed; written to `evaluation.json` too.

    Every episode has a line in `episodes_out`, by default `evaluation.csv` in the run's directory. workers: as many
    play in a host environment; None: as many as in the run. ray_address: the Ray that has them, whatever the run had.

    teams: `deployed` are the last ones, but of a batch round the one that it accepted or kept; `safe` the last ones,
    but the offline one of each seed whose last one the guard found below it.
    Raises `UserError` if the run has no such teams, or had no guard to choose safe ones by, or another version of the
    environment is installed.
    """
    jax_setup.use()
    check_positive("--episodes", episodes)
    check_seed("--seed", seed)
    if config.env == NO_ENV:
        raise UserError(
            f"{run} learned from logs alone: there is no environment to play in. What its log says of its teams is in "
            f"its report ({typed_command('report', run)}); {typed_command('select', run, '--data', 'DATASET')} ranks "
            "them by a log."
        )
    if episodes_out is not None and (episodes_out.is_dir() or not episodes_out.parent.is_dir()):
        raise UserError(f"--episodes-out {episodes_out}: expected a file in a directory that is there.")
    if workers is not None:
        check_positive("--workers", workers)
    config = replace(config, evaluate_episodes=episodes, workers=workers or config.workers, ray_address=ray_address)
    env = make_by_options(str(config.env), config.env_settings, config.env_python)
    check_env(run, config, env.spec)
    method = change_method(methods.find(config.method), config.change)
    names, team = choose_teams(run, config, env.spec, method, teams)
    guide = restore_teams(run / FILES["offline"], config, env.spec, method.parts) if method.uses_offline_team else None
    collect_episodes = make_collect(config, env, method)
    fill = np.resize(np.arange(config.seeds), padded_seeds(config.seeds))
    fresh = jax.random.fold_in(jax.random.key(seed), 2**20)  # training folds in 0 and 1, collecting 2 and on
    keys = jnp.stack([jax.random.fold_in(fresh, config.seed + int(i)) for i in fill])
    display.say(f"playing {number_of(episodes, 'episode')} with each of {number_of(config.seeds, 'team')} …")
    playing = split(jax.tree.map(lambda x: x[fill], Teams(team, guide)), config.seeds)

    def tell(share: float) -> None:
        display.update(done := round(share * episodes), f"{done}/{number_of(episodes, 'episode')}")

    with display, closing(collect_episodes):
        display.begin("evaluate", episodes)
        scores = evaluate(config, collect_episodes, playing, split(keys, config.seeds), tell)
    rows = [
        {"seed": config.seed + i, "episodes": episodes, "teams": teams, "team": names[i], "episodes_seed": seed}
        | metrics.score_row(scores, i, env.spec.has_win)
        for i in range(config.seeds)
    ]
    files.write_json(run / "evaluation.json", rows)
    files.write_text(episodes_out or run / EPISODES, csv_of(scores, config, names, env.spec.has_win))
    return rows


def csv_of(scores: Scores, config: Config, names: list[str], has_win: bool) -> str:
    """A line for each episode of each seed: who played, its return, length and win, and the environment's measures."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["seed", "team", "episode", "return", "length", "won", *scores.measures])
    for i, name in enumerate(names):
        won = [int(x) for x in scores.won[i]] if has_win else [""] * len(scores.won[i])
        told = [["" if np.isnan(x) else x for x in values[i].tolist()] for values in scores.measures.values()]
        episodes = zip(scores.returns[i].tolist(), scores.length[i].tolist(), won, *told, strict=True)
        lines.writerows([config.seed + i, name, e, *episode] for e, episode in enumerate(episodes))
    return text.getvalue()


def check_env(run: Path, config: Config, spec: EnvSpec) -> None:
    """Raise `UserError` where a run was trained in another version of the environment, unless that is allowed."""
    made = read_spec(run) or spec
    if made.version != spec.version and not config.allow_version_mismatch:
        raise UserError(f"{run} was trained in {made.name} ({made.version}); installed is {spec.version}.")


def choose_teams(run: Path, config: Config, spec: EnvSpec, method: Method, teams: TeamChoice) -> tuple[list[str], Team]:
    """Which team of each seed plays, as `FILES` names it, and those teams (leading axis: seed).

    Raises `UserError` as `evaluate_run`.
    """
    one = deployed_name(run) if teams == "deployed" else str(teams)
    names = safe_names(run) if teams == "safe" else [one] * config.seeds
    found = {}
    for name in dict.fromkeys(names):
        if not (path := run / FILES[name]).exists():
            raise UserError(
                f"{path} is missing: the run did not get there. Was it interrupted? "
                + typed_command("train", "--resume", run)
            )
        found[name] = restore_teams(path, config, spec, method.parts if name == "offline" else method.parts_online)
    picked = [jax.tree.map(lambda x: x[i], found[name]) for i, name in enumerate(names)]  # noqa: B023
    return names, jax.tree.map(lambda *x: jnp.stack(x), *picked)


def restore_teams(path: Path, config: Config, spec: Any, parts: Parts) -> Team:
    """The networks of all seeds (leading axis) in a file."""
    init = jax.vmap(lambda key: learner.init(config.learner, spec, key, parts).team)
    return pytree_files.restore(path, jax.eval_shape(init, jax.random.split(jax.random.key(0), config.seeds)))
