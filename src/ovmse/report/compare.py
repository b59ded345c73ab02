"""Several runs in one table and one figure, judged by the same score."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovmse.errors import UserError
from ovmse.report import format as fmt
from ovmse.report.results import Result, judge, labels
from ovmse.report.runs import Run, load_run, score_name, setting
from ovmse.report.stats import Estimate, probability_of_improvement

HEADER = (
    "run", "seeds", "before", "dip", "recovered", "mean", "final", "best", "beats first",
)  # fmt: skip
CAPTION = (
    "[95 % interval]. Dip: deepest. Recovered: at environment steps. Mean: area under the online curve. "
    "Beats first: chance that a seed of the run ends above a seed of the first run."
)


def compare(run_dirs: Sequence[Path], out: Path | None, console: Console) -> Path:
    """Print a table of several runs and write it; return the folder that holds it.

    out: a folder for ``compare.csv``, ``compare.md``, ``compare.svg`` and ``compare.png``; without it
    ``comparison/`` beside the first run. Raises `UserError` for fewer than two runs or an unreadable one.
    """
    dirs = list(dict.fromkeys(Path(d) for d in run_dirs))
    if len(dirs) < 2:
        raise UserError(f"a comparison needs at least two run directories; got {len(dirs)}.")
    folder = out if out is not None else dirs[0].parent / "comparison"
    if folder.is_file() or folder.suffix.lower() in (".html", ".csv", ".md", ".svg", ".png"):
        raise UserError(f"{folder}: give a folder; the comparison is several files.")
    runs = [load_run(d) for d in dirs]
    results, names = judge_alike(runs), labels(runs)
    rows, notes = table_rows(results, names), unlike(runs, results)
    folder.mkdir(parents=True, exist_ok=True)
    _print(rows, notes, results[0].score, console)
    (folder / "compare.md").write_text(_markdown(rows, notes), encoding="utf-8")
    _write_csv(folder / "compare.csv", runs, results, names)

    from ovmse.report.draw import save
    from ovmse.report.plots import compare_figure

    save(compare_figure(runs, results, names), folder / "compare")
    return folder


def judge_alike(runs: Sequence[Run]) -> tuple[Result, ...]:
    """Judge all runs by their win rate, or all by their return where one of them cannot be won."""
    score = "win_rate" if all(score_name(r) == "win_rate" for r in runs) else "return"
    return tuple(judge(r, score) for r in runs)


def table_rows(results: Sequence[Result], names: Sequence[str]) -> list[list[str]]:
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
            fmt.score(r.best.value, r.score),
            "–" if i == 0 else f"{_better(r, results[0]):.2f}",
        ]
        for i, (name, r) in enumerate(zip(names, results, strict=True))
    ]


def _better(result: Result, first: Result) -> float:
    """Probability that a seed of `result` ends above a seed of `first`."""
    mine, other = (np.array([s.final for s in r.seeds if s.counts]) for r in (result, first))
    return probability_of_improvement(mine, other)


def unlike(runs: Sequence[Run], results: Sequence[Result]) -> list[str]:
    """Sentences on what makes these runs hard to compare."""
    notes = []
    if len({score_name(r) for r in runs}) > 1:
        notes.append("Not every run has a win rate, so all are judged by their return.")
    if len({repr(setting(r.config, "env")) for r in runs}) > 1:
        notes.append("The runs come from different environments: their scores do not mean the same.")
    if len({r.phase for r in results}) > 1:
        notes.append("Some runs have no online phase: their final score is the offline one.")
    online = [min(s.last for s in r.seeds if s.counts) for r in results if r.phase == "online"]
    if online and min(online) < 0.9 * max(online):
        notes.append(
            f"The runs spent between {min(online):,.0f} and {max(online):,.0f} online environment steps: "
            "final scores and means are not at the same budget."
        )
    if min(r.final.n for r in results) < 5:
        notes.append("Fewer than 5 seeds: the intervals are too narrow.")
    return notes


def _print(rows: Sequence[Sequence[str]], notes: Sequence[str], score: str, console: Console) -> None:
    table = Table(
        title=f"Judged by {fmt.SCORE_NAMES[score]} (interquartile mean over seeds)",
        title_justify="left",
        caption=escape(CAPTION),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(HEADER):
        # words stay whole
        table.add_column(
            name, justify="left" if i == 0 else "right", overflow="fold", min_width=max(len(w) for w in name.split())
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _markdown(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    lines = [HEADER, ["---"] + ["---:"] * (len(HEADER) - 1), *rows]
    table = "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in line) + " |" for line in lines)
    return f"{table}\n\n{CAPTION}\n" + "".join(f"\n- {note}" for note in notes) + ("\n" if notes else "")


def _write_csv(path: Path, runs: Sequence[Run], results: Sequence[Result], names: Sequence[str]) -> None:
    """Full precision, one row per run; scores are shares in [0, 1] or returns, an empty cell means none."""
    estimates = ("before", "dip", "auc", "final", "best")
    header = ["label", "path", "score", "seeds", "recovered_env_steps", "p_better_than_first"]
    header += [f"{n}{part}" for n in estimates for part in ("", "_low", "_high")]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for run, result, name in zip(runs, results, names, strict=True):
            better = _better(result, results[0])
            head = [name, str(run.path), result.score, result.final.n, result.recovered, better]
            writer.writerow(head + [cell for n in estimates for cell in _cells(getattr(result, n))])


def _cells(estimate: Estimate | None) -> list[float | None]:
    return [None] * 3 if estimate is None else [estimate.value, estimate.low, estimate.high]
