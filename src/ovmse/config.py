"""What a run is: frozen dataclasses with a unit per field, and its presets."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from ovmse.core.errors import UserError, check_known, check_positive, check_seed, check_share, option
from ovmse.core.kinds import settled
from ovmse.core.literals import MixerName, OfflineValueChoice, Parameters, RoundLoss, TrackerName
from ovmse.core.types import EnvSpec


def check_numbers(settings: Any, shares: Collection[str] = ()) -> None:
    """Check the numbers among the fields of a dataclass of settings, each by its name on the command line.

    Raises:
        UserError: for a share outside [0, 1], a seed below 0, another number that is not finite and above 0, or a whole
            number of more than 32 bits.
    """
    for one in dataclasses.fields(settings):
        name, value = option(one.name), getattr(settings, one.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        is_seed = one.name.endswith("seed")
        check = check_share if one.name in shares else check_seed if is_seed else check_positive
        check(name, value)


@dataclass(frozen=True)
class LearnerConfig:
    """Sizes of the networks and settings of the optimiser; each field says its unit.

    Raises:
        UserError: for a share outside [0, 1], a size or a rate that is not above 0, or an unknown name.
    """

    hidden: int = 64
    """units of the agents' recurrent layer (H)"""
    mixer: MixerName | None = None
    """how utilities become Q_tot: qmix, linear or vdn; by default the method's own, most often qmix"""
    parameters: Parameters = "shared"
    """who has the same network: all agents (shared), none (per_agent), or those of a kind (per_kind)"""
    kinds: str | None = None
    """for per_kind: a word for each agent in order, such as scout,scout,truck, or names, by which scout_0 and scout_1
    are of a kind; by default agents with the same features and actions are, as the environment or dataset has it"""
    embedding: int = 32
    """units of QMIX's mixing layer (M)"""
    hyper: int = 64
    """units of QMIX's hypernetworks (E)"""
    gamma: float = 0.99
    """discount factor γ per environment step"""
    td_lambda: float = 0.6
    """λ of the λ-return; 0 is the one-step target"""
    bootstrap_at_limit: bool = True
    """count what would come after an episode that was cut, such as by its time limit; else it ends there"""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 5e-4
    """step size of the optimiser, per update"""
    clip_norm: float = 10.0
    """largest global norm of a gradient"""
    target_rate: float = 0.02
    """share of the online network mixed into the target network at every update; 1/share updates are one refresh"""
    target_every_updates: int | None = None
    """updates between hard copies into the target network, one refresh each, instead of target_rate"""
    value_normalisation: bool = False
    """divide the squared error of Q_tot by the running mean of its squared target, so that it has no scale"""

    def __post_init__(self) -> None:
        check_numbers(self, ("gamma", "td_lambda"))
        check_share("--target-rate", self.target_rate)
        check_known("optimiser", self.optimiser, ("adam", "rmsprop"))
        if self.mixer is not None:
            check_known("mixer", self.mixer, get_args(MixerName))
        check_known("value of --parameters", self.parameters, get_args(Parameters))
        if self.kinds is not None and self.parameters != "per_kind":
            raise UserError(f"--kinds goes with --parameters per_kind; got {self.parameters}.")

    @property
    def updates_per_refresh(self) -> float:
        """Updates after which the target network has followed the online one: between hard copies, or 1/share."""
        return 1.0 / self.target_rate if self.target_every_updates is None else float(self.target_every_updates)


@dataclass(frozen=True)
class RoundConfig:
    """A round of the online phase on logs that a deployed team brought back; each field says its unit.

    Raises:
        UserError: for a number out of range, or an unknown choice.
    """

    run: Path
    """the run, or the earlier round, whose team was deployed and goes on"""
    team: str
    """which of its teams that is, such as last"""
    number: int = 1
    """the number of the round, from 1"""
    earlier: tuple[str, ...] = ()
    """the datasets that were learned from before, oldest first"""
    updates: int = 2_000
    """gradient updates of the round"""
    offline_value: OfflineValueChoice = "first"
    """the team whose values are remembered (Q_off): that of the first handover, or the one that was last accepted"""
    loss: RoundLoss = "online"
    """the loss that the round learns by: the method's online one, or its offline one, which stays near the logs"""
    margin: float = 0.05
    """how much worse than the deployed team the new one may be, as a share of what the new logs themselves earned"""
    fits: int = 5
    """fits of each of the two teams by which they are compared"""
    least_coverage: float = 0.05
    """share of the new logs' joint choices that must be the new team's, or it is not accepted"""

    def __post_init__(self) -> None:
        check_numbers(self, ("margin", "least_coverage"))
        check_known("offline value", self.offline_value, get_args(OfflineValueChoice))
        check_known("loss", self.loss, get_args(RoundLoss))
        if self.fits < 2:
            raise UserError(f"--fits must be 2 or more, or there is no interval; got {self.fits}.")


@dataclass(frozen=True)
class Config:
    """One run: a method, an environment, the data, and the budgets; each field says its unit.

    Raises:
        UserError: for a budget that is not above 0, a seed below 0, or settings that contradict each other.
    """

    env: str | None = None
    """environment: smax:5m_vs_6m, matrix:climbing, pettingzoo:mpe2.simple_spread_v3, or your own module:attribute;
    none: nothing is played. By default the dataset's own where it can be made, else none; smax:3m without a dataset"""
    method: str = "ovmse"
    """the method, such as ovmse, finetune or awac (docs/methods.md has them all), a pair strategy+objective such as
    ovmse+omiga, or your own module:attribute"""
    data: str | None = None
    """the dataset to learn from: a directory, or the name of one that comes with the package (smax-3m-medium)"""
    pretrained: Path | None = None
    """a run with the same networks whose offline phase is taken over instead of pretraining anew"""
    pretrained_seed: int | None = None
    """the seed of that run whose team all repetitions go on from; by default each takes that of its own seed"""
    out: Path | None = None
    """the directory to write the run into, empty or not there yet; by default the next free runs/ENV-METHOD"""
    seeds: int = 1
    """independent repetitions, side by side on the cores or as one batch on an accelerator"""
    seed: int = 0
    """the first repetition's seed; the others follow it"""
    offline_updates: int = 5_000
    """gradient updates of the offline phase"""
    online_env_steps: int = 50_000
    """environment steps of the online phase, per seed"""
    schedule_env_steps: int | None = None
    """environment steps over which schedules run, such as those of ε and λ; by default the whole online phase"""
    episodes_per_collect: int = 8
    """episodes played side by side between two rounds of updates"""
    updates_per_collect: int = 8
    """gradient updates after each round of collecting"""
    batch_episodes: int = 32
    """episodes in a training batch"""
    replay_env_steps: int = 100_000
    """environment steps that the replay holds, per seed"""
    evaluate_every_updates: int = 1_000
    """gradient updates between two evaluations in the offline phase"""
    evaluate_every_env_steps: int = 5_000
    """environment steps between two evaluations in the online phase"""
    evaluate_episodes: int = 128
    """greedy episodes per evaluation and seed"""
    held_out: float | None = None
    """share of the dataset's episodes that is not learned from; what teams do in them is evaluated by the log alone. By
    default a fifth where nothing is played, and none where it is"""
    fqe_updates: int = 1_000
    """gradient updates of each fitted Q evaluation, where episodes are held out"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """networks and optimiser"""
    loss_limit: float = 1e10
    """a loss beyond this stops the run, as one that is not finite does"""
    checkpoint_minutes: float = 10.0
    """minutes between two checkpoints; the handover, and a run that is asked to stop, write one, too"""
    checkpoints_kept: int = 2
    """newest checkpoints kept beside the handover's, until the run ends"""
    keep_checkpoint: bool = False
    """keep the last checkpoint when the run ends, however large, so that it can be trained for longer; one of at most
    256 MB is kept in any case"""
    change: tuple[str, ...] = ()
    """a change to the method, such as explore.epsilon=linear(0.2,0.05) or offline_loss.alpha=5; may be repeated"""
    env_settings: tuple[str, ...] = ()
    """an option handed to the environment, such as max_steps=60; may be repeated"""
    env_python: Path | None = None
    """a Python interpreter in which the environment runs, in a process of its own, with its own versions of packages"""
    env_seconds: float = 60.0
    """the longest that a host environment may take for one step or reset; then it is restarted"""
    env_restarts: int = 10
    """restarts of failing host environments since a run began, or went on, before it is given up"""
    workers: int = 1
    """processes that play whole episodes side by side, each with a host environment of its own, where that is slow; 1:
    it is played in ovmse's own process"""
    ray_address: str | None = None
    """with workers: a Ray to have them on: auto or HOST:PORT, or local, as --ray says, for one of this machine alone"""
    rounds_ahead: int = 2
    """with workers: rounds that they play ahead while the learner learns, so that a round's weights are as many old"""
    keep_teams: bool = False
    """write the teams at every evaluation, not only the last ones"""
    keep_experience: bool = False
    """write everything played online as datasets, experience/seed-N in the run's directory, to learn from next time"""
    guard_margin: float | None = None
    """the rollback guard: a seed whose online score stays this far below its score before the handover returns to its
    offline policy; in win rate (0.1 is 10 points) or, without wins, as a share of |return|. None: no guard"""
    guard_patience: int = 2
    """online evaluations in a row that are so far below, until the guard acts"""
    log: tuple[TrackerName, ...] = ()
    """a tracker that the metrics are sent to, too: tensorboard, wandb, mlflow or trackio (docs/python.md); may be
    repeated"""
    allow_version_mismatch: bool = False
    """learn from a dataset that another version of the environment, or other settings, made"""
    round: tyro.conf.Suppress[RoundConfig | None] = None
    """a round on logs that were brought back, in place of both phases (`ovmse improve`)"""

    def __post_init__(self) -> None:
        if self.guard_margin is not None and not 0.0 < self.guard_margin <= 1.0:
            raise UserError(f"--guard-margin must be above 0 and at most 1, such as 0.1; got {self.guard_margin}.")
        for name in self.log:
            check_known("tracker", name, get_args(TrackerName))
        check_numbers(self)
        if self.held_out is not None and not 0.0 < self.held_out < 1.0:
            raise UserError(f"--held-out must be above 0 and below 1, such as 0.2; got {self.held_out}.")
        if self.pretrained_seed is not None and self.pretrained is None:
            raise UserError("--pretrained-seed names a seed of the run that --pretrained names; give both.")
        if self.env_seconds > 1e6:
            raise UserError(f"--env-seconds must be at most a million; got {self.env_seconds}.")
        if self.replay_env_steps < self.batch_episodes:
            raise UserError(
                f"--replay-env-steps ({self.replay_env_steps}) must at least hold one batch ({self.batch_episodes})."
            )

    @property
    def scheduled_env_steps(self) -> Any:
        """Environment steps over which schedules run: an int, or inside a compiled program its argument."""
        return self.online_env_steps if self.schedule_env_steps is None else self.schedule_env_steps


NO_ENV = "none"
"""What `Config.env` is where nothing can be played."""

PresetName = Literal["demo", "paper"]
PRESETS: dict[PresetName, dict[str, Any]] = {
    "demo": {
        "data": "smax-3m-medium",
        "seeds": 2,
        "offline_updates": 1_500,
        "online_env_steps": 30_000,
        "evaluate_every_updates": 500,
        "evaluate_every_env_steps": 2_500,
    },
    "paper": {
        "seeds": 5,
        "offline_updates": 20_000,
        "online_env_steps": 200_000,
        "evaluate_every_updates": 2_000,
        "evaluate_every_env_steps": 10_000,
    },
}
"""Named starting points: `demo` shows the whole pipeline in minutes, `paper` has the length of a published study."""


def with_kinds(learner: LearnerConfig, spec: EnvSpec, names: Sequence[str] | None = None) -> LearnerConfig:
    """The learner's settings with the kinds of agents settled, a word for each (`ovmse.core.kinds.settled`)."""
    return dataclasses.replace(learner, kinds=settled(learner.parameters, learner.kinds, spec, names))
