"""The teams that are ranked: which files hold them, whether they fit the log, and what each would do in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, UInt

from ovmse import methods
from ovmse.config import NO_ENV, Config
from ovmse.core.errors import UserError, typed_command
from ovmse.core.networks import Team
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.same_plant import as_play_of
from ovmse.learning.fqe import joint_actions, start_values
from ovmse.learning.replay import Replay
from ovmse.methods.method import Method, learns_values
from ovmse.methods.overrides import change_method
from ovmse.ope.settings import Selecting
from ovmse.policy.load import FILES, names_of
from ovmse.runs.metrics_file import PROGRESS, checked_rows
from ovmse.runs.saved_config import read_config, read_spec
from ovmse.training.evaluate_run import restore_teams

TRUTHS = ("win_rate", "return")


@dataclass(frozen=True)
class Candidate:
    """One seed's team at one point of a run.

    run: its directory; file: the file in it; index: the team's place in that file; place: updates, or online
    environment steps, until then; recorded: the greedy scores (`TRUTHS`) that the run wrote down of it, if any.
    """

    run: Path
    config: Config
    method: Method
    file: Path
    index: int
    phase: str
    place: int
    recorded: dict[str, float | None] | None

    @property
    def seed(self) -> int:
        """The seed's number."""
        return self.config.seed + self.index

    @property
    def name(self) -> str:
        """Run, seed and checkpoint in one word."""
        return f"{self.run.name}/{self.seed}@{self.place}"


def candidates(selecting: Selecting, run: Path, dataset: Dataset) -> list[Candidate]:
    """All candidates of a run, in order.

    Raises `UserError` where it is of another environment than the log, or has no such teams.
    """
    config = read_config(run, selecting.trust_code)
    check_fits(run, dataset, selecting.allow_version_mismatch, named=config.env != NO_ENV)
    method = change_method(methods.find(config.method), config.change)
    last = selecting.checkpoints == "last"
    if last and method.uses_offline_team:
        raise UserError(f"{run}: at its end {config.method!r} plays with two teams; use --checkpoints offline.")
    if not last and method.offline_loss is None:
        raise UserError(f"{run}: {config.method!r} has no offline phase; use --checkpoints last.")
    phase = "online" if last and method.online_target is not None else "offline"
    phase = phase if config.round is None else "round"
    x = PROGRESS[phase]
    rows = [row for row in checked_rows(run / "metrics.jsonl") if row["phase"] == phase]
    end = max((row[x] for row in rows), default=0)
    teams = {end: run / FILES["offline" if phase == "offline" and not last else "last"]}
    if not teams[end].is_file():
        raise UserError(
            f"{teams[end]} is missing: the run did not get there. {typed_command('train', '--resume', run)}"
        )
    if selecting.checkpoints == "all":
        kept = (run / "teams").glob(f"{phase}-*.safetensors")
        teams = {int(path.stem.partition("-")[2]): path for path in kept} | teams
    # online, seeds stop at different steps: each one's last row is that of the end
    recorded = {(r["seed"], end if phase == "online" else r[x]): {name: r.get(name) for name in TRUTHS} for r in rows}
    return [
        Candidate(run, config, method, path, i, phase, at, recorded.get((config.seed + i, at)))
        for at, path in sorted(teams.items())
        for i in range(config.seeds)
    ]


def check_fits(run: Path, dataset: Dataset, allow_version_mismatch: bool = False, named: bool = True) -> None:
    """Raise `UserError` unless a run's environment is the one that the log was played in.

    named: whether it was in one; where nothing was played, a log's name says nothing, and its sizes must fit.
    """
    found = read_spec(run)
    if found is None:
        raise UserError(f"{run / 'config.json'} doesn't say which environment the run was in (env_spec).")
    try:
        if named:
            dataset.check_env(found, allow_version_mismatch)
        else:
            as_play_of(dataset, found, names_of(run), run)
    except UserError as error:
        raise UserError(f"{run} can't be judged by this dataset. {error}") from error


def judged(
    those: Sequence[Candidate], data: Replay, spec: EnvSpec
) -> tuple[UInt[np.ndarray, "P R N"], list[float | None]]:
    """What candidates would do at every row of a log, and the mean of each one's own Q_tot over the first rows.

    None for one that learns no values. Compiled once for every kind of network.
    """

    longest = int(np.max(data.index.length))

    @eqx.filter_jit
    def look(team: Team, data: Replay) -> tuple[Any, Float[Any, " E"]]:
        policy = joint_actions(team, data, longest)
        return policy, start_values(team, data, policy, spec)

    on_device = jax.device_put(data)
    policies, own, teams = [], [], {}
    for one in those:
        if one.file not in teams:
            teams = {one.file: restore(one, spec)}  # one file at a time
        policy, values = look(jax.tree.map(lambda x: x[one.index], teams[one.file]), on_device)  # noqa: B023
        policies.append(np.asarray(policy))
        loss = one.method.offline_loss if one.phase == "offline" else one.method.online_loss
        own.append(float(values.mean()) if loss is not None and learns_values(loss) else None)
    return np.stack(policies), own


def restore(one: Candidate, spec: EnvSpec) -> Team:
    """All teams (leading axis: seed) of a candidate's file."""
    parts = one.method.parts if one.phase == "offline" else one.method.parts_online
    return restore_teams(one.file, one.config, spec, parts)
