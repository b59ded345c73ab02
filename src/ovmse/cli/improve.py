"""`ovmse improve`."""

from pathlib import Path

import tyro

from ovmse.cli.options import Run
from ovmse.core.literals import OfflineValueChoice, RoundLoss, TeamChoice
from ovmse.system.progress import Terminal


def improve(
    run: Run,
    data: str,
    out: Path | None = None,
    updates: int = 2_000,
    offline_value: OfflineValueChoice = "first",
    loss: RoundLoss = "online",
    margin: float = 0.05,
    held_out: float = 0.3,
    fits: int = 5,
    least_coverage: float = 0.05,
    fqe_updates: int | None = None,
    evaluate_every_updates: int | None = None,
    method: str | None = None,
    change: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    seed: int | None = None,
    teams: TeamChoice = "deployed",
    trust_code: bool = False,
) -> None:
    """A round of the online phase on logs that a deployed team brought back; the new team is deployed where it may.

    Stopped, it goes on with `ovmse train --resume ROUND`, or the same command with --out (docs/improve.md).

    Args:
        run: the run, or the earlier round, whose team was deployed.
        data: the dataset of the logs that it brought back.
        out: the directory of the round; by default RUN-round-N beside the run's.
        updates: gradient updates of the round; its schedules run over these.
        offline_value: whose values are remembered (Q_off): those of the first handover, or of the team that was last
            accepted, which the round goes on from.
        loss: the method's online loss, or its offline one, whose pessimism keeps the team near the logs.
        margin: how much worse than the deployed one the new team may be, as a share of what the new logs themselves
            earned.
        held_out: share of the new episodes that is not learned from, and judges both teams.
        fits: fits of each of the two teams, each on a draw of its own of the held-out episodes.
        least_coverage: share of the new logs' joint choices that must be the new team's, or it is not accepted; it
            falls with the number of agents.
        fqe_updates: gradient updates of each fit; by default as in the run.
        evaluate_every_updates: gradient updates between two evaluations; by default as in the run.
        method: how the round learns; by default the run's method, or ovmse with its objective.
        change: a further change to the method, such as offline_share=constant(0.3), the share of earlier logs in a
            batch; may be repeated.
        seed: the seed whose team was deployed; by default the run's first.
        teams: which team of an ordinary run was deployed, as it was exported.
        trust_code: import and run the environment or method of somebody's own that the run names.
    """
    from ovmse.training.display import Display  # here, since --help does without JAX
    from ovmse.training.improve import round_config
    from ovmse.training.train import train

    config = round_config(
        run, data, out,
        updates=updates, offline_value=offline_value, loss=loss, margin=margin, held_out=held_out, fits=fits,
        least_coverage=least_coverage, fqe_updates=fqe_updates, evaluate_every_updates=evaluate_every_updates,
        method=method, change=change, seed=seed, teams=teams, trusted=trust_code,
    )  # fmt: skip
    train(config, Display(Terminal()))
