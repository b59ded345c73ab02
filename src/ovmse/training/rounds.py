"""A batch round on the host: how the deployed team goes on, and whether the new one may take its place."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import UInt

from ovmse.analysis.agreement import agreement
from ovmse.config import RoundConfig
from ovmse.core.errors import UserError, number_of
from ovmse.core.literals import ROUNDS
from ovmse.core.networks import Team
from ovmse.data.flat import joined
from ovmse.learning import learner
from ovmse.learning.fqe import fit_settings, joint_actions
from ovmse.learning.parallel import SeedBatches, over_seeds, split
from ovmse.learning.phases import Phase, SeedState, begin
from ovmse.learning.replay import Replay, from_flat, to_flat
from ovmse.learning.rounds import handover_to_logs
from ovmse.policy.load import FILES
from ovmse.runs import rounds_file
from ovmse.runs.rounds_file import JudgedTeam, RoundRecord, Rounds
from ovmse.runs.saved_config import read_config
from ovmse.stats.paired import bootstrapped_difference
from ovmse.system import pytree_files
from ovmse.system.clock import Clock
from ovmse.training.evaluate_run import restore_teams
from ovmse.training.fitting import fitter
from ovmse.training.log_evaluation import LogEvaluation
from ovmse.training.log_phases import batch_round
from ovmse.training.loop import run_phase
from ovmse.training.resume import save, save_when_due
from ovmse.training.run import Run, teams

FIRST = "first.safetensors"
"""In a round's directory the team of the first handover, which all rounds after it may go on remembering."""


def improve(run: Run, states: SeedBatches) -> SeedBatches:
    """A batch round: from the deployed team, by what it brought back, to a verdict on the team that comes out of it."""
    if states[0].phase is Phase.OFFLINE:
        states = take_deployed(run, states)
        save(run, states, handover=True)
    states = run_phase(run, states, batch_round(run))
    judge(run, states)
    return states


def take_deployed(run: Run, states: SeedBatches) -> SeedBatches:
    """The first states of a round: the deployed team, handed over to the logs, and Q_off as it is to be remembered."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    assert config.round is not None
    source = config.round.run
    deployed = team_of(run, source / FILES[config.round.team])
    first = team_of(run, source / (FIRST if (source / FIRST).is_file() else FILES["offline"]))
    remembered = first if config.round.offline_value == "first" else deployed
    for file, team in ((FILES["before"], deployed), (FIRST, first), (FILES["offline"], remembered)):
        pytree_files.save(run.out / file, team)

    def one(given: tuple[Team, Team, SeedState], data: Replay) -> SeedState:
        team, remembered, state = given
        state = begin(learner.restart(config.learner, team), state.key)
        return handover_to_logs(config, spec, method, state, remembered, data, run.task.earlier)

    given = zip(split(deployed, config.seeds), split(remembered, config.seeds), states, strict=True)
    return over_seeds(one, config.seeds, keep=True)(list(given), run.data)


def team_of(run: Run, file: Path) -> Team:
    """The team of the round's seed in a file of the run that it goes on from, with a leading axis of one seed."""
    config = run.task.config
    there = read_config(file.parent, trusted=True)
    found = restore_teams(file, there, run.task.spec, run.task.method.parts)
    place = config.seed - there.seed
    return jax.tree.map(lambda x: np.asarray(x)[place : place + 1], found)


def judge(run: Run, states: SeedBatches) -> None:
    """Compare the new team with the deployed one on the held-out new episodes, and write down which is to be deployed.

    Both are valued by `fits` fits, each on a draw of its own of these episodes and of the earlier ones, which both
    teams know: the same draw for both. A value is the mean over the held-out episodes drawn; the interval of the
    difference is that of the bootstrap (`bootstrapped_difference`).
    """
    config, evaluation, first = run.task.config, run.log_evaluation, run.task.earlier
    assert config.round is not None and evaluation is not None and run.data is not None
    known = [to_flat(run.data, range(first))] if first else []
    settings = fit_settings(
        config.learner,
        config.batch_episodes,
        config.fqe_updates,
        fits=config.round.fits,
        seed=config.seed,
        resampled=tuple(len(log["length"]) for log in (*known, evaluation.log)),
    )
    data = from_flat(joined([*known, evaluation.log]), run.task.spec)
    new = teams(run, states)
    deployed = pytree_files.restore(run.out / FILES["before"], jax.eval_shape(lambda team: team, new))
    policies = policies_of((deployed, new), data)
    fit = fitter(settings, run.task.spec, data, len(policies))

    def advance(done: int, clock: Clock) -> None:
        run.display.advance(done, clock)
        save_when_due(run, states)

    run.display.phase("fitting", 0, len(policies) * settings.fits * settings.updates, "updates")
    fitted = fit(policies, advance)
    values, halfway = (
        np.take_along_axis(found, fitted.drawn[None, :, first:], axis=-1).mean(axis=-1)  # [team, fit]
        for found in (fitted.start, fitted.halfway)
    )
    held_out_rows = slice(sum(int((log["length"] + 1).sum()) for log in known), None)
    found = record(run, evaluation, policies[:, held_out_rows], values, halfway)
    write_down(run.out, [*rounds_before(config.round), found])
    run.display.say(in_words(found))


def write_down(out: Path, found: list[RoundRecord]) -> None:
    """Write down the rounds so far, and the team to deploy by the verdict on the last of them."""
    name: Literal["last", "before"] = "last" if found[-1].accepted else "before"
    rounds_file.write(out, Rounds(name, FILES[name], found))


def rounds_before(chosen: RoundConfig) -> list[RoundRecord]:
    """The rounds before this one, as the last of them tells. Raises `UserError` where it does no more."""
    before = rounds_file.read(chosen.run)
    if before is None and chosen.number > 1:
        raise UserError(f"{chosen.run / ROUNDS} is missing, which tells of the rounds before this one. Put it back.")
    return [] if before is None else before.rounds


def policies_of(those: Iterable[Team], data: Replay) -> UInt[np.ndarray, "P R N"]:
    """What the first seed's team of each would do at every row of a log (on the host)."""
    longest, log = int(data.index.length.max()), jax.device_put(data)
    act = eqx.filter_jit(lambda team, data: joint_actions(team, data, longest))
    return np.stack([np.asarray(act(jax.tree.map(lambda x: x[0], team), log)) for team in those])


def record(
    run: Run, evaluation: LogEvaluation, policies: np.ndarray, values: np.ndarray, halfway: np.ndarray
) -> RoundRecord:
    """The verdict on a round. values: of the deployed team and the new one, by fit; halfway: those after half of its
    updates."""
    config, split_by = run.task.config, run.task.split
    assert config.round is not None and split_by is not None
    followed = [agreement(evaluation.log, policy) for policy in policies]
    deployed, new = (
        JudgedTeam(float(value.mean()), one.agent_coverage, one.coverage)
        for value, one in zip(values, followed, strict=True)
    )
    difference = bootstrapped_difference(values[1].tolist(), values[0].tolist())
    low, high = (float(x) for x in (difference.low, difference.high) if x is not None)
    allowed = config.round.margin * abs(evaluation.behaviour)
    accepted, reason = verdict(low, allowed, new.coverage, config.round.least_coverage)
    return RoundRecord(
        number=config.round.number,
        run=str(config.round.run),
        data=str(config.data),
        earlier=list(config.round.earlier),
        method=config.method,
        offline_value=config.round.offline_value,
        loss=config.round.loss,
        updates=config.round.updates,
        episodes=len(split_by.kept) + len(split_by.held_out) - run.task.earlier,
        held_out=len(split_by.held_out),
        behaviour_return=evaluation.behaviour,
        deployed=deployed,
        new=new,
        difference=difference.value,
        low=low,
        high=high,
        fits=difference.n,
        moved=float(np.diff(values - halfway, axis=0).mean()),
        allowed=allowed,
        accepted=accepted,
        reason=reason,
    )


def verdict(low: float, allowed: float, coverage: float | None, least: float) -> tuple[bool, str]:
    """Whether a new team is accepted, and why.

    low: the lower end of the interval of how much better than the deployed one it is. allowed: how much worse it may
    be. coverage: the share of the joint choices that are its own (None: nobody ever had a choice), and the least of it.
    """
    if not np.isfinite(low):
        return False, "a fit is no longer a number, so that nothing is known of the difference"
    if coverage is not None and coverage < least:
        share = f"{100 * coverage:.1f} %"
        return False, f"the new logs hardly follow the new team ({share} of joint choices): its value is extrapolated"
    if low > -allowed:
        return True, f"it is not worse by more than {allowed:.3g}: at the lower end {low:+.3g}"
    return False, f"it may be worse by more than {allowed:.3g}: at the lower end {low:+.3g}"


def in_words(found: RoundRecord) -> str:
    """The verdict, for its user to read."""
    values = f"{found.new.fqe:.2f}, the deployed one {found.deployed.fqe:.2f}"
    interval = f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    ends = (
        "the new team is to be deployed" if found.accepted else "the deployed team stays, until a trial says otherwise"
    )
    if abs(found.moved) > found.allowed:
        ends += (
            f". The fits have not settled: the difference moved by {found.moved:+.2f} in the second half of their "
            "updates; give the next round more --fqe-updates"
        )
    return (
        f"round {found.number}: by {number_of(found.held_out, 'held-out episode')} the new team is worth {values}, "
        f"difference {interval}: {found.reason}; {ends}"
    )
