"""What several runs say together: each judged within its own task, and each method over all tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovmse.analysis.labels import check_labels, labels
from ovmse.analysis.results import (
    RunSummary,
    as_ended,
    best_reference,
    common_score,
    score_range,
    summarise_run,
)
from ovmse.config import NO_ENV
from ovmse.core.errors import UserError, number_of
from ovmse.runs.metrics_file import RunRecord, score_name, setting
from ovmse.stats import aggregate
from ovmse.stats.estimates import Estimate

BY_LOG = (
    "Nothing was played: scores are estimates by fitted Q evaluation on held-out episodes, and their intervals know "
    "nothing of the fits' bias."
)


@dataclass(frozen=True)
class Total:
    """A method over all tasks.

    finals: for each task the final score of every seed that counts; with several tasks in [0, 1].
    gap: the optimality gap, None where scores are not in [0, 1]. better: probability of improvement over the first
    method, None for the first itself.
    """

    method: str
    finals: tuple[np.ndarray, ...]
    iqm: Estimate
    median: Estimate
    mean: Estimate
    gap: Estimate | None
    better: Estimate | None


@dataclass(frozen=True)
class Comparison:
    """Several runs, one entry each in `runs`, `results`, `names`, `methods`, `tasks` and `better`.

    runs: as they ended (`as_ended`). tasks: the environments. methods: names that are distinct within a task and the
    same across tasks; names: distinct over all runs. better: probability that a seed of this run ends above one of its
    task's first run, which has None. totals: one per method that has a run in every task, in order of appearance.
    notes: what to read with care.
    """

    score: str
    runs: tuple[RunRecord, ...]
    results: tuple[RunSummary, ...]
    names: tuple[str, ...]
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    better: tuple[Estimate | None, ...]
    totals: tuple[Total, ...] = ()
    notes: tuple[str, ...] = ()

    def of_task(self, task: str) -> list[int]:
        """The positions of a task's runs."""
        return [i for i, name in enumerate(self.tasks) if name == task]

    def distinct_tasks(self) -> list[str]:
        """The tasks in order of appearance."""
        return list(dict.fromkeys(self.tasks))


def compare_runs(
    runs: Sequence[RunRecord], reference: float | None = None, named: Sequence[str] | None = None
) -> Comparison:
    """Judge all runs by their win rate, or all by their return where one of them cannot be won.

    reference: the score that regret is measured against, in every task; without it each task's `best_reference`.
    named: the methods' names, one for each run, instead of what differs between them; equal ones in several tasks are
    one method.
    Raises `UserError` for a run without a finite score, a reference that is no number or, for win rates, no share, or
    names that do not tell the runs of a task apart.
    """
    score = common_score(runs)
    if reference is not None and not (0 <= reference <= 1 if score == "win_rate" else np.isfinite(reference)):
        raise UserError(
            f"reference must be {'a share in [0, 1]' if score == 'win_rate' else 'finite'}; got {reference}."
        )
    tasks = tuple(task_of(r) for r in runs)
    groups = {task: [i for i, t in enumerate(tasks) if t == task] for task in tasks}
    ended = {task: iter(as_ended([runs[i] for i in mine])) for task, mine in groups.items()}
    runs = tuple(next(ended[task]) for task in tasks)
    best = {
        task: best_reference([runs[i] for i in mine], score) if reference is None else reference
        for task, mine in groups.items()
    }
    results = tuple(summarise_run(r, score, best[t]) for r, t in zip(runs, tasks, strict=True))
    if named:
        check_labels(named, tasks)
    called = {task: iter(labels([runs[i] for i in mine])) for task, mine in groups.items()}
    methods = tuple(named or (next(called[task]) for task in tasks))
    names = tuple(f"{m}, {t}" for m, t in zip(methods, tasks, strict=True)) if len(groups) > 1 else methods
    first = {task: results[mine[0]] for task, mine in groups.items()}
    better = tuple(
        None if r is first[t] else aggregate.improvement([finals(r)], [finals(first[t])])
        for r, t in zip(results, tasks, strict=True)
    )
    found = Comparison(score, runs, results, names, methods, tasks, better)
    found = replace(found, totals=_totals(found))
    return replace(found, notes=tuple(_notes(found)))


def task_of(run: RunRecord) -> str:
    """The environment with its settings: what makes scores comparable."""
    name = setting(run.config, "env")
    if name == NO_ENV:
        name = setting(run.config.get("env_spec", {}), "name")
    options = run.config.get("env_settings")
    extra = f" ({', '.join(map(str, options))})" if isinstance(options, list | tuple) and options else ""
    return f"{'unknown' if name is None else name}{extra}"


def finals(result: RunSummary) -> np.ndarray:
    """The final score of each seed that counts."""
    return np.array([s.final for s in result.seeds if s.counts])


def _totals(found: Comparison) -> tuple[Total, ...]:
    groups = [found.of_task(task) for task in found.distinct_tasks()]
    strata: dict[str, tuple[np.ndarray, ...]] = dict.fromkeys(found.methods, ())
    for mine in groups:
        low, high = 0.0, 1.0
        if found.score != "win_rate" and len(groups) > 1:
            low, high = score_range([found.runs[i] for i in mine], found.score)
        for i in mine:
            strata[found.methods[i]] += ((finals(found.results[i]) - low) / ((high - low) or 1.0),)
    strata = {method: tasks for method, tasks in strata.items() if len(tasks) == len(groups)}
    unit = found.score == "win_rate" or len(groups) > 1
    first = next(iter(strata), None)
    return tuple(
        Total(
            method=method,
            finals=tasks,
            iqm=aggregate.stratified_estimate(aggregate.pooled_iqm, tasks),
            median=aggregate.stratified_estimate(aggregate.median, tasks),
            mean=aggregate.stratified_estimate(aggregate.mean, tasks),
            gap=aggregate.stratified_estimate(aggregate.optimality_gap, tasks) if unit else None,
            better=None if method == first else aggregate.improvement(tasks, strata[str(first)]),
        )
        for method, tasks in strata.items()
    )


def _seed_notes(run: RunRecord, result: RunSummary) -> list[str]:
    """What became of the seeds of a run, where it is not the usual."""
    notes, counts = [], {s.seed for s in result.seeds if s.counts}
    first, many = run.config.get("seed"), run.config.get("seeds")
    wanted = {s.seed for s in result.seeds} | {t.seed for t in run.all_traces}
    if isinstance(first, int) and isinstance(many, int):
        wanted |= set(range(first, first + many))
    if missing := ", ".join(map(str, sorted(wanted - counts))):
        notes.append(f"seed {missing} did not finish the {result.phase} phase; {len(counts)} of {len(wanted)} count.")
    if result.diverged:
        seeds = f"{result.diverged} of {number_of(len(counts), 'seed')}"
        worst = "a win rate of 0" if result.score == "win_rate" else "the lowest return of these runs"
        notes.append(f"{seeds} diverged and {'counts' if result.diverged == 1 else 'count'} as {worst} from then on.")
    return notes


def _unequal(runs: Sequence[RunRecord], results: Sequence[RunSummary]) -> list[tuple[str, list[float | int]]]:
    """What should be the same for all runs of a task: a sentence on its range, and its value in each run."""
    episodes = [setting(run.config, "evaluate_episodes") for run in runs]
    return [
        ("average {} seeds: the more seeds, the narrower the interval.", [r.final.n for r in results]),
        (
            "were evaluated on {} episodes at a time: the fewer, the more chance is in a score.",
            [n for n in episodes if isinstance(n, int | float)],
        ),
        (
            "did {} gradient updates offline: they did not begin the online phase alike.",
            [_offline(run) for run in runs if not run.round],
        ),
    ]


def _offline(run: RunRecord) -> float:
    """The gradient updates before the online phase, those of a run that was taken over included."""
    if run.online:
        return float(max(t.columns["updates"][0] for t in run.online))
    return float(max(t.columns["updates"][-1] for t in (*run.offline, *run.round)))


def _notes(found: Comparison) -> list[str]:
    tasks, results, notes = found.distinct_tasks(), found.results, []
    if len({score_name(r) for r in found.runs}) > 1:
        notes.append("Not every run has a win rate, so all are judged by their return.")
    if found.score == "fqe":
        notes.append(BY_LOG)
        if len({(r.dataset or {}).get("checksum") for r in found.runs}) > 1:
            notes.append("The runs were evaluated on different logs: their estimates are not of the same episodes.")
    if {"offline", "online"} <= {r.phase for r in results}:
        notes.append("Some runs have no online phase: their final score is the offline one.")
    for name, run, result in zip(found.names, found.runs, results, strict=True):
        notes += [f"{name}: {said}" for said in _seed_notes(run, result)]
    for task in tasks:
        where = f"On {task} the" if len(tasks) > 1 else "The"
        runs, mine = [found.runs[i] for i in found.of_task(task)], [results[i] for i in found.of_task(task)]
        online = [min(s.last for s in r.seeds if s.counts) for r in mine if r.phase == "online"]
        if online and min(online) < 0.9 * max(online):
            notes.append(
                f"{where} runs spent between {min(online):,.0f} and {max(online):,.0f} online environment steps: "
                "final scores, means and regrets are not at the same budget."
            )
        notes += [
            f"{where} runs {told.format(f'between {min(values):,.0f} and {max(values):,.0f}')}"
            for told, values in _unequal(runs, mine)
            if len(set(values)) > 1
        ]
    if min(r.final.n for r in results) < 5:
        notes.append("Fewer than 5 seeds: the intervals are too narrow.")
    if len(tasks) == 1:
        return notes
    notes.append("The runs come from different environments: compare them within one, or the methods over all of them.")
    if found.score != "win_rate":
        notes.append(
            "Over all environments, returns are scaled to 0 at the lowest and 1 at the highest evaluation of these "
            "runs in each environment: add or leave out a run, and they change."
        )
    partial = [m for m in dict.fromkeys(found.methods) if m not in {t.method for t in found.totals}]
    if partial:
        notes.append(f"Not run in every environment, so in no total: {', '.join(partial)}.")
    if any(len({t.size for t in total.finals}) > 1 for total in found.totals):
        notes.append(
            "A method has more seeds in one environment than in another, which weighs more in its interquartile mean."
        )
    return notes
