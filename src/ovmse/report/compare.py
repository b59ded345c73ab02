"""Several runs in one table and a few figures, judged by the same score."""

import csv
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.report import marl_eval
from ovmse.runs.metrics_file import load_run
from ovmse.stats.estimates import Estimate

BEST = "best (optimistic)"
HEADER = ("run", "seeds", "before", "dip", "recovered", "mean", "final", "regret", "beats first", BEST)
CAPTION = (
    "[95 % interval]. Dip: deepest. Recovered: at environment steps. Mean: area under the online curve. "
    "Regret: what is missing to 100 % (returns: to the best seen in these runs; or to the reference given), summed "
    "over online environment steps. "
    "Beats first: chance that a seed of the run ends above a seed of the first run in the same environment. "
    f"{BEST.capitalize()}: the highest evaluation; not for ranking."
)
TOTAL_HEADER = ("method", "runs", "IQM", "median", "mean", "optimality gap", "beats first")
TOTAL_CAPTION = (
    "Final scores over all environments [95 % interval, stratified bootstrap]. IQM: interquartile mean of all runs. "
    "Median, mean: of the environments' means. Optimality gap: what is missing to 1 on average. "
    "Beats first: chance that a run ends above one of the first method, averaged over environments."
)


def compare(run_dirs: Sequence[Path], out: Path | None, console: Console, reference: float | None = None) -> Path:
    """Print a table of several runs and write it; return the folder that holds it.

    out: a folder for ``compare.csv``, ``.md``, ``.svg`` and ``.png``, ``profiles.svg`` and ``.png``, ``marl_eval.json``
    and, where the runs come from several environments, ``total.csv``; without it ``comparison/`` beside the first run.
    reference: the score that regret is measured against, instead of 100 % or the best return seen.
    Raises `UserError` for fewer than two runs or an unreadable one.
    """
    dirs = list(dict.fromkeys(Path(d) for d in run_dirs))
    if len(dirs) < 2:
        raise UserError(f"a comparison needs at least two run directories; got {len(dirs)}.")
    folder = out if out is not None else dirs[0].parent / "comparison"
    if folder.is_file() or folder.suffix.lower() in (".html", ".csv", ".md", ".svg", ".png"):
        raise UserError(f"{folder}: give a folder; the comparison is several files.")
    found = compare_runs([load_run(d) for d in dirs], reference)
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[tuple[Sequence[str], list[list[str]], str]] = [(HEADER, table_rows(found), CAPTION)]
    if len(found.distinct_tasks()) > 1:
        tables.append((TOTAL_HEADER, total_rows(found), TOTAL_CAPTION))
        _write_total_csv(folder / "total.csv", found)
    titles = (f"Judged by {fmt.SCORE_NAMES[found.score]} (interquartile mean over seeds)", "Over all environments")
    for title, (header, rows, caption) in zip(titles, tables, strict=False):
        shown = len(header) - (header[-1] == BEST)  # room for what counts: a narrow terminal drops the last column
        _print(
            title, header[:shown], [row[:shown] for row in rows], caption.partition(f" {BEST.capitalize()}")[0], console
        )
    notes = [*found.notes, *marl_eval.unfit(found)]
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    (folder / "compare.md").write_text(_markdown(tables, notes), encoding="utf-8")
    _write_csv(folder / "compare.csv", found)
    marl_eval.write(found, folder / "marl_eval.json")

    from ovmse.render.draw import save
    from ovmse.report.plots_compare import compare_figure, profiles_figure

    save(compare_figure(found), folder / "compare")
    save(profiles_figure(found), folder / "profiles")
    return folder


def table_rows(found: Comparison) -> list[list[str]]:
    """One row of text per run, in the order of `HEADER`."""
    return [
        [
            name,
            str(r.final.n),
            fmt.with_interval(r.before, r.score),
            fmt.difference(r.dip.value if r.dip else None, r.score),
            fmt.recovery(r.recovered, r.dip is not None),
            fmt.with_interval(r.auc, r.score),
            fmt.with_interval(r.final, r.score),
            fmt.plain(r.regret.value if r.regret else None),
            fmt.chance(better),
            fmt.score(r.best.value, r.score),
        ]
        for name, r, better in zip(found.names, found.results, found.better, strict=True)
    ]


def total_rows(found: Comparison) -> list[list[str]]:
    """One row of text per method that was run in every environment, in the order of `TOTAL_HEADER`."""
    return [
        [
            t.method,
            str(t.iqm.n),
            *(fmt.with_interval(e, found.score) for e in (t.iqm, t.median, t.mean, t.gap)),
            fmt.chance(t.better),
        ]
        for t in found.totals
    ]


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, console: Console) -> None:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(header):
        # words stay whole
        table.add_column(
            name, justify="left" if i == 0 else "right", overflow="fold", min_width=max(len(w) for w in name.split())
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    console.print(f"{caption}\n", highlight=False, markup=False)


def _markdown(tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]], str]], notes: Sequence[str]) -> str:
    parts = []
    for header, rows, caption in tables:
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
        table = "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines)
        parts.append(f"{table}\n\n{caption}\n")
    return "\n".join(parts) + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def _write_csv(path: Path, found: Comparison) -> None:
    """Full precision, one row per run; scores are shares in [0, 1] or returns, an empty cell means none."""
    estimates = ("before", "dip", "auc", "regret", "final", "best")
    names = [*estimates[:-1], "best_optimistic"]
    header = ["label", "path", "environment", "score", "seeds", "recovered_env_steps", "regret_reference"]
    header += [f"{n}{part}" for n in (*names, "p_better_than_first") for part in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        rows = zip(found.names, found.runs, found.tasks, found.results, found.better, strict=True)
        for name, run, task, r, better in rows:
            cells = [cell for e in (*(getattr(r, n) for n in estimates), better) for cell in _cells(e)]
            writer.writerow([name, str(run.path), task, r.score, r.final.n, r.recovered, r.reference, *cells])


def _write_total_csv(path: Path, found: Comparison) -> None:
    """Full precision, one row per method; returns are scaled to [0, 1] in each environment."""
    header = ["method", "environments", "runs"]
    names = ("iqm", "median", "mean", "optimality_gap", "p_better_than_first")
    header += [f"{n}{part}" for n in names for part in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for t in found.totals:
            cells = [cell for e in (t.iqm, t.median, t.mean, t.gap, t.better) for cell in _cells(e)]
            writer.writerow([t.method, len(t.finals), t.iqm.n, *cells])


def _cells(estimate: Estimate | None) -> list[float | None]:
    return [None] * 3 if estimate is None else [estimate.value, estimate.low, estimate.high]
