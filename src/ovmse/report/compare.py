"""Several runs in one table and a few figures, judged by the same score."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.render.draw import save
from ovmse.report import marl_eval
from ovmse.report.plots_compare import compare_figure, profiles_figure
from ovmse.report.table import Column, Table, print_table, write_csv
from ovmse.runs.metrics_file import counted_series, load_run
from ovmse.system import files

BEST = "best (optimistic)"
CAPTION = (
    "[95 % interval]. First tenth: mean over the first tenth of the online budget, minus before. Recovered: at "
    "environment steps. Mean: area under the online curve. "
    "Regret: what is missing to 100 % (returns: to the best seen in these runs; or to the reference given), summed "
    "over online environment steps. "
    "Beats first: chance that a seed of the run ends above a seed of the first run in the same environment. "
    f"{BEST.capitalize()}: the highest evaluation; not for ranking. Dip: how far the lowest one fell below before; the "
    "minimum of noisy numbers, so too deep."
)
LOG_CAPTION = (
    "At the last evaluation [95 % interval over seeds]. Loss: each method's own, not to be compared between methods. "
    "Agreement, coverage: share of the agents' choices, and of the joint ones, that the team would have made too. FQE: "
    "fitted Q evaluation of the discounted return; behaviour: what the episodes themselves earned. Beats first: chance "
    "that a seed of the run ends above a seed of the first run."
)
TOTAL_CAPTION = (
    "Final scores over all environments [95 % interval, stratified bootstrap]. IQM: interquartile mean of all runs. "
    "Median, mean: of the environments' means. Optimality gap: what is missing to 1 on average. "
    "Beats first: chance that a run ends above one of the first method, averaged over environments."
)


def compare(
    run_dirs: Sequence[Path],
    out: Path | None,
    console: Console,
    reference: float | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Print a table of several runs and write it; return the folder that holds it.

    out: a folder for ``compare.csv``, ``.md``, ``.svg`` and ``.png``, ``profiles.svg`` and ``.png``, ``marl_eval.json``
    and, where the runs come from several environments, ``total.csv``; without it ``comparison/`` beside the first run.
    reference: the score that regret is measured against, instead of 100 % or the best return seen.
    labels: what to call the runs, one each, instead of what differs in their methods.
    Raises `UserError` for fewer than two runs, an unreadable one, or labels that do not tell them apart.
    """
    dirs = list(dict.fromkeys(Path(d) for d in run_dirs))
    if len(dirs) < 2:
        raise UserError(f"a comparison needs at least two run directories; got {len(dirs)}.")
    folder = out if out is not None else dirs[0].parent / "comparison"
    if folder.is_file() or folder.suffix.lower() in (".html", ".csv", ".md", ".svg", ".png"):
        raise UserError(f"{folder}: give a folder; the comparison is several files.")
    found = compare_runs([load_run(d) for d in dirs], reference, labels)
    folder.mkdir(parents=True, exist_ok=True)
    files.check_tree(folder)
    tables, notes = tables_of(found), [*found.notes, *marl_eval.unfit(found)]
    for table in tables:
        print_table(table, console, without=(BEST, "dip"))
        write_csv(folder / table.file, table.columns)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    files.write_text(folder / "compare.md", _markdown(tables, notes))
    marl_eval.write(found, folder / "marl_eval.json")
    save(compare_figure(found), folder / "compare", files.write_bytes)
    save(profiles_figure(found), folder / "profiles", files.write_bytes)
    return folder


def tables_of(found: Comparison) -> list[Table]:
    """A row for each run and, over several environments, a row for each method that was run in all of them."""
    runs = _by_log(found) if found.score == "fqe" else _runs(found)
    return [runs] if len(found.distinct_tasks()) == 1 else [runs, _totals(found)]


def _by_log(found: Comparison) -> Table:
    """Runs in which nothing was played."""
    results, score = found.results, found.score
    span, chance = (partial(fmt.with_interval, name=name) for name in (score, "chance"))

    def at_the_end(name: str) -> list[float | None]:
        last = [
            [y[-1] for _, _, y in counted_series(r, s.phase, name)] for r, s in zip(found.runs, results, strict=True)
        ]
        return [float(np.mean(values)) if values else None for values in last]

    shares = {name: at_the_end(name) for name in ("agreement", "coverage")}
    loss, behaviour = at_the_end("held_out_loss"), at_the_end("behaviour_return")
    columns = [
        Column("run", "label", found.names),
        Column("", "path", [run.path for run in found.runs]),
        Column("", "environment", found.tasks),
        Column("", "score", [score] * len(results)),
        Column("seeds", "seeds", [r.final.n for r in results]),
        Column("", "diverged", [r.diverged for r in results]),
        Column("loss", "", list(map(fmt.plain, loss))),
        Column("", "held_out_loss", loss),
        *(Column(name, "", [fmt.score(x, "win_rate") for x in values]) for name, values in shares.items()),
        *(Column("", name, values) for name, values in shares.items()),
        Column("FQE", "final", [r.final for r in results], span),
        Column("behaviour", "", list(map(fmt.plain, behaviour))),
        Column("", "behaviour_return", behaviour),
        Column("beats first", "p_better_than_first", found.better, chance),
    ]
    title = "Judged by held-out episodes of a log (means over seeds; of FQE the interquartile mean)"
    return Table("compare.csv", title, LOG_CAPTION, columns)


def _runs(found: Comparison) -> Table:
    results, score = found.results, found.score
    span, chance = (partial(fmt.with_interval, name=name) for name in (score, "chance"))
    columns = [
        Column("run", "label", found.names),
        Column("", "path", [run.path for run in found.runs]),
        Column("", "environment", found.tasks),
        Column("", "score", [score] * len(results)),
        Column("seeds", "", [f"{r.final.n}" + (f", {r.diverged} diverged" if r.diverged else "") for r in results]),
        Column("", "seeds", [r.final.n for r in results]),
        Column("", "diverged", [r.diverged for r in results]),
        Column("before", "before", [r.before for r in results], span),
        Column("first tenth", "first_tenth_change", [r.first_tenth for r in results], partial(fmt.change, name=score)),
        Column("dip", "dip", [r.dip for r in results], lambda dip: fmt.difference(dip and dip.value, score)),
        Column("recovered", "", [fmt.recovery(r.recovered, r.dip is not None) for r in results]),
        Column("", "recovered_env_steps", [r.recovered for r in results]),
        Column("mean", "auc", [r.auc for r in results], span),
        Column("final", "final", [r.final for r in results], span),
        Column("regret", "regret", [r.regret for r in results], lambda regret: fmt.plain(regret and regret.value)),
        Column("", "regret_reference", [r.reference for r in results]),
        Column("beats first", "p_better_than_first", found.better, chance),
        Column(BEST, "best_optimistic", [r.best for r in results], lambda best: fmt.score(best.value, score)),
    ]
    title = f"Judged by {fmt.SCORE_NAMES[score]} (interquartile mean over seeds)"
    return Table("compare.csv", title, CAPTION, columns)


def _totals(found: Comparison) -> Table:
    """Returns are scaled to [0, 1] in each environment."""
    totals = found.totals
    span, chance = (partial(fmt.with_interval, name=name) for name in (found.score, "chance"))
    columns = [
        Column("method", "method", [t.method for t in totals]),
        Column("", "environments", [len(t.finals) for t in totals]),
        Column("runs", "runs", [t.iqm.n for t in totals]),
        Column("IQM", "iqm", [t.iqm for t in totals], span),
        Column("median", "median", [t.median for t in totals], span),
        Column("mean", "mean", [t.mean for t in totals], span),
        Column("optimality gap", "optimality_gap", [t.gap for t in totals], span),
        Column("beats first", "p_better_than_first", [t.better for t in totals], chance),
    ]
    return Table("total.csv", "Over all environments", TOTAL_CAPTION, columns)


def _markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    parts = []
    for table in tables:
        texts = table.texts()
        parts.append(f"{fmt.markdown(texts, zip(*texts.values(), strict=True), numbers=True)}\n\n{table.caption}\n")
    return "\n".join(parts) + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")
