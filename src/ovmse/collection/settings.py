"""What to collect, and how the behaviour team is trained: the settings of `ovmse collect`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ovmse.config import LearnerConfig, check_numbers
from ovmse.core.errors import UserError, check_known

Quality = Literal["random", "medium", "expert", "medium-replay", "mixed"]
QUALITIES = get_args(Quality)
BEHAVIOUR_METHOD = "scratch"
PATHS = ("out", "behaviour", "env_python", "ray_address")
"""Settings that say where things are, and change nothing in the data."""


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
    episodes_per_collect: int = 8
    """episodes that the behaviour team plays side by side between two rounds of updates"""
    updates_per_collect: int = 8
    """its gradient updates after each round of collecting"""
    batch_episodes: int = 32
    """episodes in its training batch"""
    change: tuple[str, ...] = ()
    """a change to how it learns, QMIX from scratch, such as explore.epsilon=linear(1.0,0.05,0.3); may be repeated"""
    env_settings: tuple[str, ...] = ()
    """an option handed to the environment, such as max_steps=60; may be repeated"""
    env_python: Path | None = None
    """a Python interpreter in which the environment runs, in a process of its own, with its own versions of packages"""
    workers: int = 1
    """processes with a host environment each, which play whole episodes side by side, where that is slow"""
    ray_address: str | None = None
    """with workers: a Ray to have them on: auto or HOST:PORT, or local, as --ray says, for one of this machine alone"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """networks and optimiser of the behaviour team"""
    float16: bool = False
    """store observations and states in half precision: half the size, three significant digits"""
    rule: str | None = None
    """a rule in use that plays instead of a trained team, such as sumo:max_pressure, or your own module:function: from
    what the agents see (N, O) and their legal actions (N, A) to an action for each (N,); explores as epsilon says"""
    behaviour: Path | None = None
    """a directory for the behaviour team's training run, which is then kept and can be looked at"""

    def __post_init__(self) -> None:
        check_known("quality", self.quality, QUALITIES)
        check_numbers(self, ("epsilon",))
        held = self.replay_env_steps
        if self.quality == "medium-replay" and held is not None and held < self.behaviour_env_steps:
            raise UserError(
                "medium-replay needs all that is played: --replay-env-steps must be at least --behaviour-env-steps, "
                f"{self.behaviour_env_steps}; got {held}."
            )
