"""What a batch round is: the run whose team was deployed, the logs that it brought back, and how it goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ovmse import methods
from ovmse.config import Config, RoundConfig
from ovmse.core.errors import UserError
from ovmse.core.literals import OfflineValueChoice, RoundLoss, TeamChoice
from ovmse.methods.going_online import remembering
from ovmse.methods.overrides import change_method
from ovmse.policy.load import deployed_name, safe_names
from ovmse.runs import directory
from ovmse.runs.saved_config import read_config

HELD_OUT = 0.3
"""Share of the new episodes that is held out where a round says nothing of it: the verdict rests on them."""


def round_config(
    run: Path,
    data: str,
    out: Path | None = None,
    *,
    updates: int = 2_000,
    offline_value: OfflineValueChoice = "first",
    loss: RoundLoss = "online",
    margin: float = 0.05,
    held_out: float = HELD_OUT,
    fits: int = 5,
    least_coverage: float = 0.05,
    fqe_updates: int | None = None,
    evaluate_every_updates: int | None = None,
    method: str | None = None,
    change: tuple[str, ...] = (),
    seed: int | None = None,
    teams: TeamChoice = "deployed",
    trusted: bool = False,
) -> Config:
    """The configuration of a round, which is a run of its own that `ovmse.train` runs and resumes.

    Args:
        run: the run, or the earlier round, whose team was deployed.
        data: the dataset of the logs that it brought back.
        out: the directory of the round; by default RUN-round-N beside the run's.
        updates: gradient updates of the round; its schedules run over these.
        offline_value: whose values are remembered (Q_off): those of the first handover, or of the last accepted team.
        loss: the method's online loss, or its offline one, whose pessimism keeps the team near the logs.
        margin: how much worse than the deployed one the new team may be, as a share of what the new logs earned.
        held_out: share of the new episodes that is not learned from, and judges both teams.
        fits: fits of each of the two teams, each on a draw of its own of the held-out episodes.
        least_coverage: share of the new logs' joint choices that must be the new team's; lower it for many agents.
        fqe_updates: gradient updates of each fit; by default as in the run.
        evaluate_every_updates: gradient updates between two evaluations; by default as in the run.
        method: how the round learns; by default the run's method, or ovmse with its objective.
        change: further changes to the method.
        seed: the seed whose team was deployed; by default the run's first.
        teams: which team of an ordinary run was deployed.
        trusted: whether the method of somebody's own that the run names may be imported and run.

    Raises:
        UserError: where the run can't be read, or has no such team.
    """
    base = read_config(run, trusted)
    seed = base.seed if seed is None else seed
    parts = change_method(methods.find(base.method), base.change).parts
    name, kept = (method, list[str]()) if method is not None else remembering(base.method, base.change, parts)
    before = base.round
    number = 1 if before is None else before.number + 1
    earlier = (*(() if before is None else before.earlier), *(() if base.data is None else (base.data,)))
    chosen = RoundConfig(
        run=run,
        team=_team(run, base, seed, teams),
        number=number,
        earlier=earlier,
        updates=updates,
        offline_value=offline_value,
        loss=loss,
        margin=margin,
        fits=fits,
        least_coverage=least_coverage,
    )
    given: dict[str, Any] = {"fqe_updates": fqe_updates, "evaluate_every_updates": evaluate_every_updates}
    return replace(
        base,
        **{name: value for name, value in given.items() if value is not None},
        method=name,
        change=(*kept, *change),
        data=data,
        out=out or directory.next_free(f"{_root(run, before)}-round-{number}", run.parent),
        pretrained=None,
        pretrained_seed=None,
        seeds=1,
        seed=seed,
        held_out=held_out,
        keep_experience=False,
        guard_margin=None,
        round=chosen,
    )


def _team(run: Path, base: Config, seed: int, teams: TeamChoice) -> str:
    """Which team of a run was deployed, by its name in `FILES`."""
    if teams != "deployed" and base.round is not None:
        raise UserError(f"{run} is a batch round, which says itself which team is deployed: leave --teams out.")
    if teams == "safe":
        return safe_names(run)[seed - base.seed]
    return deployed_name(run) if teams == "deployed" else str(teams)


def _root(run: Path, before: RoundConfig | None) -> str:
    """The name that rounds are called after: that of the run that they all go on from."""
    return run.name if before is None else run.name.rpartition("-round-")[0] or run.name
