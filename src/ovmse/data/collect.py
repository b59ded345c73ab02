"""Collect a dataset: train a behaviour team with the library's own online QMIX, and record how it plays."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from ovmse import checkpoint, envs, learner, machine, methods, rundir
from ovmse import replay as replays
from ovmse.config import Config, settings
from ovmse.data.doctor import KINDS, Flat
from ovmse.data.provenance import versions
from ovmse.data.store import Dataset, pack
from ovmse.data.whole import check_free
from ovmse.display import Display
from ovmse.errors import UserError, check_positive, check_share, unknown
from ovmse.interrupt import Interrupted
from ovmse.learner import LearnerConfig
from ovmse.networks import Team
from ovmse.phases import Online
from ovmse.prepare import prepare
from ovmse.replay import Replay
from ovmse.rollout import Teams
from ovmse.train import play_out
from ovmse.worlds import Player, World, make_world

Quality = Literal["random", "medium", "expert", "medium-replay", "mixed"]
QUALITIES = ("random", "medium", "expert", "medium-replay", "mixed")
BEHAVIOUR_METHOD = "scratch"
PATHS = ("out", "behaviour")
"""Settings that say where things go, and change nothing in the data."""


@dataclass(frozen=True)
class Collecting:
    """What to collect, and how the behaviour team is trained."""

    env: str = "smax:3m"
    """the environment, such as smax:5m_vs_6m"""
    quality: Quality = "medium"
    """random, medium (half the expert's win rate), expert, medium-replay (all that the learner saw until medium), or
    mixed (half medium, half expert)"""
    episodes: int = 5_000
    """episodes to record; medium-replay records at most that many, the latest ones"""
    out: Path = Path("dataset")
    """the dataset's directory; it must be empty or not there yet"""
    seed: int = 0
    """seed of the training and of the recorded episodes"""
    epsilon: float = 0.05
    """how often each agent acts at random while it is recorded, as a share of its steps"""
    behaviour_env_steps: int = 200_000
    """environment steps that the behaviour team is trained for; the best team on the way is the expert"""
    evaluate_every_env_steps: int = 2_000
    """environment steps between two candidates for medium and expert"""
    replay_env_steps: int | None = None
    """environment steps that the behaviour's replay holds, if its episodes last 8 steps or more; by default all that it
    plays, however short the episodes; medium-replay needs all"""
    env_settings: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """an option handed to the environment, such as max_steps=60; may be repeated"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """networks and optimiser of the behaviour team"""
    float16: bool = False
    """store observations and states in half precision: half the size, three significant digits"""
    behaviour: Path | None = None
    """a directory for the behaviour team's training run, which is then kept and can be looked at"""

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise unknown("quality", self.quality, QUALITIES)
        check_share("epsilon (ε)", self.epsilon)
        for name in ("episodes", "behaviour_env_steps", "evaluate_every_env_steps"):
            check_positive(name.replace("_", "-"), getattr(self, name))
        if self.replay_env_steps is not None:
            check_positive("replay-env-steps", self.replay_env_steps)
            if self.quality == "medium-replay" and self.replay_env_steps < self.behaviour_env_steps:
                raise UserError(
                    f"medium-replay needs all that is played: replay-env-steps must be at least behaviour-env-steps, "
                    f"{self.behaviour_env_steps}; got {self.replay_env_steps}."
                )


@dataclass(frozen=True)
class Behaviour:
    """A team to record. score: its greedy win rate, or its return where nothing can be won."""

    team: Team
    env_steps: int
    score: float


def collect(collecting: Collecting, display: Display | None = None) -> Dataset:
    """Train the behaviour team, choose the checkpoint of the wanted quality, play, and write the dataset.

    Raises `UserError` on bad input, before anything is trained.
    """
    machine.use()
    display = display or Display()
    check_free(collecting.out.resolve())
    try:
        collecting.out.resolve().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"can't create {collecting.out.parent}: {error.strerror}. Choose another --out.") from error
    env = envs.make(collecting.env, **settings(collecting.env_settings))
    config = behaviour_config(collecting)
    world = make_world(config, env, methods.find(BEHAVIOUR_METHOD))

    if collecting.quality == "random":
        fresh = learner.init(config.learner, env.spec, jax.random.key(collecting.seed)).team
        parts = record(world, jax.tree.map(lambda x: x[None], fresh), collecting, 0, collecting.episodes, 1.0, display)
        text = "uniformly random legal actions"
    else:
        with TemporaryDirectory() as scratch:
            try:
                run, [state] = play_out(
                    prepare(replace(config, out=collecting.behaviour or Path(scratch) / "run")), display
                )
            except Interrupted:
                raise KeyboardInterrupt from None  # a dataset is collected in one go
            medium, expert, score = choose(run.out, config, env.spec, state.inner.learner.team)
        display.say(
            f"expert: {expert.score:.3g} at {expert.env_steps} env steps; "
            f"medium: {medium.score:.3g} at {medium.env_steps} (greedy {score.replace('_', ' ')})"
        )
        if collecting.quality == "medium-replay":
            assert isinstance(state.inner, Online)
            parts = [replayed(state.inner.replay, medium.env_steps, collecting.episodes)]
            text = f"all that the learner played until {medium.env_steps} env steps, exploring as it learned"
        else:
            teams = {"medium": [medium], "expert": [expert], "mixed": [medium, expert]}[collecting.quality]
            counts = [len(part) for part in np.array_split(np.arange(collecting.episodes), len(teams))]
            parts = [
                part
                for i, (behaviour, count) in enumerate(zip(teams, counts, strict=True))
                for part in record(world, behaviour.team, collecting, i, count, collecting.epsilon, display)
            ]
            text = "; ".join(
                f"after {b.env_steps} env steps, greedy {score.replace('_', ' ')} {b.score:.4g}" for b in teams
            )
            text += f"; recorded with ε-greedy exploration at ε = {collecting.epsilon}"
        text = f"online QMIX ({BEHAVIOUR_METHOD}, seed {collecting.seed}): {text}"

    return Dataset.write(
        collecting.out,
        spec=env.spec,
        **joined(parts),
        behaviour=text,
        quality=collecting.quality,
        seed=collecting.seed,
        git_revision=rundir.git_revision(),
        command=rundir.command_line(),
        float_dtype="float16" if collecting.float16 else "float32",
        recipe=recipe(collecting),
    )


def recipe(collecting: Collecting) -> dict[str, Any]:
    """What `ovmse datasets make` needs to collect the same again, as JSON: all settings but the paths, and what ran."""
    settings_of = {name: value for name, value in asdict(collecting).items() if name not in PATHS}
    return {
        "made_by": "collect",
        **settings_of,
        "env_settings": list(collecting.env_settings),
        "versions": versions(),
    }


def behaviour_config(collecting: Collecting) -> Config:
    """The training run of the behaviour team."""
    return Config(
        env=collecting.env,
        env_settings=collecting.env_settings,
        method=BEHAVIOUR_METHOD,
        learner=collecting.learner,
        seed=collecting.seed,
        online_env_steps=collecting.behaviour_env_steps,
        evaluate_every_env_steps=collecting.evaluate_every_env_steps,
        replay_env_steps=collecting.replay_env_steps or 2 * collecting.behaviour_env_steps,  # twice: nothing is dropped
        keep_teams=True,
    )


def choose(run_dir: Path, config: Config, spec: Any, like: Team) -> tuple[Behaviour, Behaviour, str]:
    """The medium and the expert checkpoint of a training run.

    The expert is the best one; medium the one whose score is nearest half of the expert's (where nothing was won:
    half-way between the first checkpoint's return and the expert's).
    """
    rows = rundir.read_rows(run_dir / "metrics.jsonl")
    score = "win_rate" if spec.has_win and any(row["win_rate"] for row in rows) else "return"
    kept = sorted((run_dir / "teams").glob("online-*.safetensors"))
    scores = np.asarray([row[score] for row in rows])
    best = int(scores.argmax())
    floor = 0.0 if score == "win_rate" else scores[0]
    if best == 0 or scores[best] <= floor:
        raise UserError(
            f"after {config.online_env_steps} environment steps the behaviour team is no better than at first "
            f"({score} {scores[best]:.3g}); give it more --behaviour-env-steps."
        )
    half = 1 + int(np.abs(scores[1 : best + 1] - (floor + scores[best]) / 2).argmin())  # 0 has played nothing yet
    one_seed = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), like)

    def behaviour(i: int) -> Behaviour:
        return Behaviour(checkpoint.restore(kept[i], one_seed), rows[i]["env_steps"], float(scores[i]))

    return behaviour(half), behaviour(best), score


def record(
    world: World, team: Team, collecting: Collecting, part: int, episodes: int, epsilon: float, display: Display
) -> list[Flat]:
    """Play episodes with one team (leading axis 1) whose agents act at random with probability ε, each on its own."""
    key = jax.random.fold_in(jax.random.key(collecting.seed), 2 + part)  # no two parts play the same battles
    parts: list[Flat] = []
    done, clock = 0, machine.Clock()
    display.phase("record", 0, episodes, "episodes")
    while done < episodes:
        key, k = jax.random.split(key)
        with clock.measure("record"):
            [played] = world([Player(Teams(team), k[None], jnp.zeros(1, jnp.int32))], 0, epsilon)
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


def joined(parts: list[Flat]) -> Flat:
    """Datasets' arrays end to end."""
    return cast("Flat", {name: np.concatenate([dict(part)[name] for part in parts]) for name in KINDS})
