"""Train a behaviour team with the library's own online QMIX, and choose the teams of medium and expert quality."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ovmse.collection.settings import BEHAVIOUR_METHOD, Collecting
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.networks import Team
from ovmse.envs.protocol import AnyEnvironment
from ovmse.learning.evaluation import evaluate
from ovmse.learning.parallel import split
from ovmse.learning.play import CollectFn
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Teams
from ovmse.runs.metrics_file import checked_rows
from ovmse.system import pytree_files
from ovmse.system.signals import Interrupted
from ovmse.training.display import Display
from ovmse.training.setup import setup
from ovmse.training.train import run_phases

FRESH_EPISODES = 256
"""Episodes on which a chosen team's score is told: those that it was chosen by flatter it."""
FRESH = 4  # folded into the seed's key for them: training evaluates by 1, and recording begins at 2 (two teams at most)


@dataclass(frozen=True)
class Behaviour:
    """A team to record. score: its greedy win rate, or its return where nothing can be won."""

    team: Team
    env_steps: int
    score: float


@dataclass(frozen=True)
class Trained:
    """The behaviour's run. replay: all that it played; medium, expert: the teams to record; score: what they are judged
    by, in words."""

    replay: Replay
    medium: Behaviour
    expert: Behaviour
    score: str


def behaviour_config(collecting: Collecting) -> Config:
    """The training run of the behaviour team."""
    return Config(
        env=collecting.env,
        env_settings=collecting.env_settings,
        env_python=collecting.env_python,
        workers=collecting.workers,
        ray_address=collecting.ray_address,
        method=BEHAVIOUR_METHOD,
        learner=collecting.learner,
        change=collecting.change,
        episodes_per_collect=collecting.episodes_per_collect,
        updates_per_collect=collecting.updates_per_collect,
        batch_episodes=collecting.batch_episodes,
        seed=collecting.seed,
        online_env_steps=collecting.behaviour_env_steps,
        evaluate_every_env_steps=collecting.evaluate_every_env_steps,
        replay_env_steps=collecting.replay_env_steps or 2 * collecting.behaviour_env_steps,  # twice: nothing is dropped
        keep_teams=True,
    )


def train_behaviour(
    collecting: Collecting, config: Config, env: AnyEnvironment, collect_episodes: CollectFn, display: Display
) -> Trained:
    """Train the behaviour team, choose its medium and its expert checkpoint, and judge them on fresh episodes."""
    with TemporaryDirectory() as scratch:
        try:
            run, [state] = run_phases(
                setup(replace(config, out=collecting.behaviour or Path(scratch) / "run")), display
            )
        except Interrupted:
            raise KeyboardInterrupt from None  # a dataset is collected in one go
        medium, expert, score = choose(run.out, config, env.spec, state.learner.team)
    medium, expert = (judged(config, collect_episodes, each, score) for each in (medium, expert))
    words = f"greedy {score.replace('_', ' ')} in {FRESH_EPISODES} fresh episodes"
    found = Trained(state.replay, medium, expert, words)
    display.say(
        f"expert: {expert.score:.3g} at {expert.env_steps} env steps; "
        f"medium: {medium.score:.3g} at {medium.env_steps} ({found.score})"
    )
    return found


def judged(config: Config, collect_episodes: CollectFn, behaviour: Behaviour, score: str) -> Behaviour:
    """The behaviour with its score on episodes that nothing was chosen by."""
    keys = split(jax.random.fold_in(jax.random.key(config.seed), FRESH)[None], 1)
    scores = evaluate(
        replace(config, evaluate_episodes=FRESH_EPISODES), collect_episodes, [Teams(behaviour.team)], keys
    )
    return replace(behaviour, score=float((scores.won if score == "win_rate" else scores.returns).mean()))


def choose(run_dir: Path, config: Config, spec: Any, like: Team) -> tuple[Behaviour, Behaviour, str]:
    """The medium and the expert checkpoint of a training run.

    The expert is the best one; medium is the one at which the run comes to half of the expert's score (`halfway`).
    """
    rows = checked_rows(run_dir / "metrics.jsonl")
    score = "win_rate" if spec.has_win and any(row.get("win_rate") for row in rows) else "return"
    kept = sorted((run_dir / "teams").glob("online-*.safetensors"))
    scores = np.asarray([row.get(score) for row in rows], float)
    best = int(scores.argmax())
    floor = 0.0 if score == "win_rate" else scores[0]
    if best == 0 or scores[best] <= floor:
        raise UserError(
            f"after {config.online_env_steps} environment steps the behaviour team is no better than at first "
            f"({score} {scores[best]:.3g}); give it more --behaviour-env-steps."
        )
    half = halfway(scores[: best + 1], (floor + scores[best]) / 2)
    one_seed = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), like)

    def behaviour(i: int) -> Behaviour:
        return Behaviour(pytree_files.restore(kept[i], one_seed), rows[i]["env_steps"], float(scores[i]))

    return behaviour(half), behaviour(best), score


def halfway(scores: Float[np.ndarray, " K"], level: float) -> int:
    """The checkpoint nearest to a level as a run comes to stay there: up to the best one, but for the untrained first.

    That is the first one that reaches the level as the next one does, too, or the one before it. A single high score of
    a team that has hardly learned is luck, and would leave medium-replay next to nothing.
    """
    reached = np.append(scores >= level, True)
    stays = 1 + int((reached[1:-1] & reached[2:]).argmax())
    before = max(1, stays - 1)
    return before if abs(scores[before] - level) < abs(scores[stays] - level) else stays
