"""The numbers that a run is judged by, from its evaluations; the report and the comparison share them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.runs.metrics_file import RunRecord, Trace, counted, score_name, series
from ovmse.stats import estimates


@dataclass(frozen=True)
class SeedSummary:
    """One seed. Scores are win rates in [0, 1] or returns; None where there is no such number.

    counts: whether the seed enters the averages. diverged: whether it ended without a finite score; `final` is then the
    worst there is (see `as_ended`). agree, difference: the handover check's verdict and the
    largest difference of a return. recovered: environment steps, None if never or not applicable.
    first_tenth: the mean over the first tenth of the online budget minus `before`. last_fifth: the mean over the last
    fifth of it. regret: score units times environment steps. best: the highest evaluation; as a maximum over noisy
    evaluations it is optimistic, and nothing is ranked by it.
    last: position of the last evaluation (environment steps, or gradient updates without an online phase).
    """

    seed: int
    counts: bool
    diverged: bool
    before: float | None
    after: float | None
    agree: bool | None
    difference: float | None
    first_tenth: float | None
    dip: float | None
    recovered: float | None
    auc: float | None
    last_fifth: float | None
    regret: float | None
    final: float
    best: float
    last: float


@dataclass(frozen=True)
class RunSummary:
    """A run: interquartile means over the seeds that count, with 95 % intervals.

    score: ``win_rate`` or ``return``. phase: where the final score was measured. diverged: how many of the seeds that
    count diverged in that phase.
    recovered: median environment steps, never counted as infinite; None if infinite or not applicable.
    reference: the score that regret is measured against.
    """

    score: str
    phase: str
    diverged: int
    reference: float
    seeds: tuple[SeedSummary, ...]
    before: estimates.Estimate | None
    first_tenth: estimates.Estimate | None
    dip: estimates.Estimate | None
    recovered: float | None
    auc: estimates.Estimate | None
    last_fifth: estimates.Estimate | None
    regret: estimates.Estimate | None
    final: estimates.Estimate
    best: estimates.Estimate


ESTIMATED = ("before", "first_tenth", "dip", "auc", "last_fifth", "regret", "final", "best")
"""The numbers of a seed of which a run has the interquartile mean."""


def summarise_run(run: RunRecord, score: str | None = None, reference: float | None = None) -> RunSummary:
    """Judge a run as it ended, by its win rate, or by its return where it cannot be won (or where `score` says so).

    reference: the score that regret is measured against; without it `best_reference` of this run alone.
    Raises `UserError` where no evaluation has a finite score.
    """
    score = score or score_name(run)
    [run] = as_ended([run])
    traces = _scored(run.online, score) or _scored(run.round, score) or _scored(run.offline, score)
    if not traces:
        raise _nothing_finite(run)
    counts = {t.seed for t in counted(traces)}
    reference = best_reference([run], score) if reference is None else reference
    seeds = tuple(_judge_seed(run, t, score, reference, t.seed in counts) for t in traces)
    mine = [s for s in seeds if s.counts]

    def estimated(name: str) -> Any:
        return estimates.estimate([value for s in mine if (value := getattr(s, name)) is not None])

    return RunSummary(
        score=score,
        phase=traces[0].phase,
        diverged=sum(s.diverged for s in mine),
        reference=reference,
        seeds=seeds,
        recovered=estimates.median_recovery([s.recovered for s in mine if s.dip is not None]),
        # final and best are never None: every trace here has a finite score
        **{name: estimated(name) for name in ESTIMATED},
    )


def common_score(runs: Sequence[RunRecord]) -> str:
    """What all of these runs can be judged by: their win rate, else their return, or what a log says where nothing was
    played. Raises `UserError` where they have no score in common."""
    names = {score_name(run) for run in runs}
    if "fqe" in names and len(names) > 1:
        by_log = next(run for run in runs if score_name(run) == "fqe")
        played = next(run for run in runs if score_name(run) != "fqe")
        raise UserError(
            f"{by_log.path} was evaluated on a log alone, and {played.path} by play: they have no score in common. "
            "Compare runs of one kind, or rank their teams by one log (ovmse select)."
        )
    return "win_rate" if names == {"win_rate"} else "fqe" if names == {"fqe"} else "return"


def best_reference(runs: Sequence[RunRecord], score: str) -> float:
    """The best score there is: 1 for win rates; for returns the highest of any evaluation of these runs.

    For returns it depends on the runs, so regrets are comparable only among runs that were judged together.
    """
    return 1.0 if score == "win_rate" else score_range(runs, score)[1]


def score_range(runs: Sequence[RunRecord], score: str) -> tuple[float, float]:
    """The lowest and the highest score of any evaluation of these runs, all seeds and both phases.

    Raises `UserError` where no evaluation has a finite score.
    """
    values = np.concatenate([t.columns[score] for r in runs for t in r.all_traces])
    values = values[np.isfinite(values)]
    if not values.size:
        raise _nothing_finite(runs[0])
    return float(values.min()), float(values.max())


def as_ended(runs: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """The runs with the worst score there is wherever a seed had diverged: at its last evaluations, if not finite.

    The worst is a win rate of 0, and the lowest return (or where nothing was played, estimate) of any evaluation of
    these runs. So a seed that diverged counts, in every number and curve, as it ended. Raises `UserError` for a run
    without a finite score, or where some were played and others were not.
    """
    base = "fqe" if common_score(runs) == "fqe" else "return"
    lowest = min(score_range([run], base)[0] for run in runs)

    def ended(run: RunRecord, traces: Sequence[Trace]) -> tuple[Trace, ...]:
        worst = {base: lowest} | ({"win_rate": 0.0} if score_name(run) == "win_rate" else {})
        return tuple(_with_end(t, worst) if t.lost else t for t in traces)

    return tuple(
        replace(r, offline=ended(r, r.offline), online=ended(r, r.online), round=ended(r, r.round)) for r in runs
    )


def _with_end(trace: Trace, worst: Mapping[str, float]) -> Trace:
    lost = np.arange(len(trace.columns["return"]), 0, -1) <= trace.lost
    ends = {name: np.where(lost, value, trace.columns[name]) for name, value in worst.items()}
    return replace(trace, columns={**trace.columns, **ends})


def _nothing_finite(run: RunRecord) -> UserError:
    return UserError(f"{run.path / 'metrics.jsonl'}: no finite score in any evaluation. Training diverged?")


def _scored(traces: Sequence[Trace], score: str) -> list[Trace]:
    return [t for t in traces if np.isfinite(t.columns[score]).any()]


def _judge_seed(run: RunRecord, trace: Trace, score: str, reference: float, counts: bool) -> SeedSummary:
    [(_, steps, scores)] = series([trace], score)
    online, record = trace.phase == "online", run.handover.get(trace.seed, {})
    before = record.get(f"{score}_before") if online else None
    past = series((t for t in run.offline if t.seed == trace.seed), score)
    if online and before is None and past:
        before = float(past[0][2][-1])
    told = run.config.get("online_env_steps")
    budget = float(told) if isinstance(told, int | float) else float(steps[-1])
    return SeedSummary(
        seed=trace.seed,
        counts=counts,
        diverged=trace.lost > 0,
        before=before,
        after=record.get(f"{score}_after") if online else None,
        agree=record.get("agree"),
        difference=record.get("max_abs_return_difference"),
        first_tenth=None if before is None else estimates.first_tenth_change(before, steps, scores, budget),
        dip=estimates.dip(before, scores) if before is not None else None,
        recovered=estimates.recovered_at(before, steps, scores) if before is not None else None,
        auc=estimates.area_under_curve(steps, scores) if online else None,
        last_fifth=estimates.mean_within(steps, scores, 0.8 * budget, budget) if online else None,
        regret=estimates.regret(reference, steps, scores) if online else None,
        final=float(scores[-1]),
        best=float(scores.max()),
        last=float(steps[-1]),
    )
