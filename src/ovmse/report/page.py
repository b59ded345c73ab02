"""The report: one self-contained HTML page for one run, or for several with a comparison on top."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.analysis.results import RunSummary
from ovmse.core.errors import UserError
from ovmse.core.settings import flatten
from ovmse.inspection.figures import plot_profile
from ovmse.render import format as fmt
from ovmse.render.draw import Picture, picture
from ovmse.render.page import render
from ovmse.report import rounds, words
from ovmse.report.compare import tables_of
from ovmse.report.plots import learning_figure, log_figure, mean_curve, q_value_figure
from ovmse.report.plots_compare import compare_figure, profiles_figure
from ovmse.runs.measure_columns import in_words
from ovmse.runs.metrics_file import RunRecord, counted_series, load_run, setting
from ovmse.system.files import write_bytes, write_text
from ovmse.system.progress import duration

SPEED = {
    "wall_s": "wall-clock time",
    "cpu_s": "processor time",
    "compile_s": "compilation",
    "evaluation_s": "evaluation, compilation included",
    "offline_s": "offline phase, compilation included",
    "online_s": "online phase, compilation included",
    "offline_updates_per_s": "offline gradient updates per second",
    "online_updates_per_s": "online gradient updates per second",
    "online_env_steps_per_s": "online environment steps per second",
    "online_updates_per_env_step": "online gradient updates per environment step",
    "playing_s": "play on the host, without compilation",
    "acting_s": "of that, the team's acting",
    "waiting_for_play_s": "waiting for workers to play",
    "worker_restarts": "workers restarted",
    "peak_memory_bytes": "peak memory",
    "predicted_program_bytes": "predicted memory: programs",
    "predicted_dataset_bytes": "predicted memory: dataset",
    "predicted_replay_bytes": "predicted memory: replay",
    "predicted_learning_bytes": "predicted memory: learning",
    "predicted_compiling_bytes": "predicted memory: compiling",
    "state_sha256": "checksum of the final state (SHA-256)",
    "checkpoint": "checkpoint kept, to train for longer from",
}


def write_report(
    run_dirs: Sequence[Path],
    out: Path | None = None,
    reference: float | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write the report of one or several run directories and return the page's path.

    out: an ``.html`` file or a folder; without it ``report.html`` in the run directory, or in the folder
    around the first of several. Figures go to ``figures/`` beside the page, as SVG and PNG.
    reference: the score that regret is measured against, instead of 100 % or the best return seen.
    labels: what to call the runs, one each, instead of what differs in their methods.
    Raises `UserError` for a run directory that cannot be read, or labels that do not tell the runs apart.
    """
    if not run_dirs:
        raise UserError("no run directory given. Name at least one folder that training wrote.")
    dirs = list(dict.fromkeys(Path(d) for d in run_dirs))
    runs = [load_run(d) for d in dirs]
    path = out if out is not None else (dirs[0] if len(dirs) == 1 else dirs[0].parent)
    path = path if path.suffix.lower() in (".html", ".htm") else path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, _page(compare_runs(runs, reference, labels), path.parent))
    return path


def _page(found: Comparison, base: Path) -> str:
    several = len(found.runs) > 1
    task = found.tasks[0]
    alone = found.names[0] if task == "unknown" else f"{found.names[0]} on {task}"
    return render(
        "report.html",
        title=f"Comparison of {len(found.runs)} runs" if several else alone,
        found=found,
        comparison=_comparison(found, base) if several else None,
        runs=[_run(found, i, base) for i in range(len(found.runs))],
        words=words,
        flatten=flatten,
    )


def _comparison(found: Comparison, base: Path) -> dict[str, Any]:
    """Figures and tables of several runs. No line breaks within an interval."""
    runs, *totals = tables_of(found)
    texts = runs.texts()
    return {
        "finals": "; ".join(
            map(": ".join, zip(found.names, texts["FQE" if found.score == "fqe" else "final"], strict=True))
        ),
        "chances": "; ".join(f"{t.method}: {fmt.with_interval(t.better, 'chance')}" for t in found.totals[1:]),
        "scores": picture(compare_figure(found), base, "comparison", write_bytes),
        "profiles": picture(profiles_figure(found), base, "profiles", write_bytes),
        "caption": runs.caption,
        "runs": {name: [cell.replace("–", "–\u2060") for cell in cells] for name, cells in texts.items()},
        "totals": totals if found.totals else [],
    }


def _run(found: Comparison, i: int, base: Path) -> dict[str, Any]:
    """What the page shows of the i-th run; with several, the names of its figures start with its own."""
    run, result, name = found.runs[i], found.results[i], found.names[i]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    stem = f"{i + 1}-{slug}-" if len(found.runs) > 1 else ""
    q_values, log = q_value_figure(run), log_figure(run)
    dataset, summary = flatten(run.dataset or {}), flatten(run.summary)
    known = {"method": setting(run.config, "method"), "environment": found.tasks[i]}
    known |= {"data": setting(run.config, "data"), "device": run.versions.get("device")}
    known = {name: value for name, value in known.items() if value is not None}
    return {
        "name": name,
        "run": run,
        "result": result,
        "subtitle": " · ".join([*(f"{k} {fmt.plain(v)}" for k, v in known.items()), f"run {run.path.name}"]),
        "learning": None
        if result.score == "fqe"
        else picture(learning_figure(run), base, f"{stem}learning", write_bytes),
        "measures": picture(learning_figure(run, run.measures), base, f"{stem}measures", write_bytes)
        if run.measures
        else None,
        "measured": _measure_columns(run),
        "log": log and picture(log, base, f"{stem}log", write_bytes),
        "logged": _log_columns(run),
        "rounds": rounds.columns(run.rounds) if run.rounds else None,
        "curve": _curve_columns(run, result),
        "q_values": q_values and picture(q_values, base, f"{stem}q_values", write_bytes),
        "seeds": _seed_columns(result),
        "profile": run.dataset and _profile(run.dataset, base, stem),
        "dataset": {_in_words(k): _measured(k, v) for k, v in dataset.items() if not isinstance(v, list)},
        "speed": {_in_words(k): _measured(k, summary[k]) for k in (*SPEED, *summary) if k in summary and k != "guard"},
    }


def _curve_columns(run: RunRecord, result: RunSummary) -> dict[str, list[str]]:
    """At most 25 points of the curve."""
    line = mean_curve(counted_series(run, result.phase, result.score))
    picked = sorted({*range(0, line.x.size, -(-line.x.size // 25)), line.x.size - 1})
    found = {fmt.SCORE_NAMES[result.score]: line.middle, "95 % low": line.low, "95 % high": line.high}
    at = "environment steps" if result.phase == "online" else "gradient updates"
    return {at: [fmt.steps(x) for x in line.x[picked]]} | {
        name: [fmt.score(y, result.score) for y in values[picked]]
        for name, values in found.items()
        if values is not None
    }


def _last_evaluations(run: RunRecord) -> dict[int, dict[str, float]]:
    """The columns of each seed's last evaluation."""
    return {t.seed: {name: values[-1] for name, values in t.columns.items()} for t in run.all_traces}


def _measure_columns(run: RunRecord) -> dict[str, list[str]]:
    """The environment's own measures of each seed's team, at the run's last evaluation; empty where it tells none."""
    last = _last_evaluations(run)
    return {"seed": [str(seed) for seed in sorted(last)]} | {
        in_words(name): [fmt.plain(_known(last[seed].get(name, math.nan))) for seed in sorted(last)]
        for name in run.measures
    }


def _log_columns(run: RunRecord) -> dict[str, list[str]]:
    """What held-out episodes say of each seed's team at its last evaluation; empty where none were held out."""
    last = _last_evaluations(run)
    rows = [row | {"seed": seed} for seed, row in sorted(last.items()) if np.isfinite(row["behaviour_return"])]
    columns = {
        "seed": [str(row["seed"]) for row in rows],
        "loss": [fmt.plain(_known(row["held_out_loss"])) for row in rows],
        "TD error": [fmt.plain(_known(row["held_out_td_error"])) for row in rows],
        "agreement": [fmt.score(_known(row["agreement"]), "win_rate") for row in rows],
        "coverage": [fmt.score(_known(row["coverage"]), "win_rate") for row in rows],
        "FQE": [fmt.plain(_known(row["fqe"])) for row in rows],
        "95 %": [" to ".join(fmt.plain(_known(row[end])) for end in ("fqe_low", "fqe_high")) for row in rows],
        "behaviour": [fmt.plain(_known(row["behaviour_return"])) for row in rows],
    }
    return columns if rows else {}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _seed_columns(result: RunSummary) -> dict[str, list[str]]:
    """A row for each seed; columns without any value are left out."""
    seeds, score = result.seeds, result.score
    agree = {True: "yes", False: "NO", None: "–"}
    columns = {
        "seed": [f"{s.seed}" if s.counts else f"{s.seed} (left out)" for s in seeds],
        "before": [fmt.score(s.before, score) for s in seeds],
        "after": [fmt.score(s.after, score) for s in seeds],
        "agree": [agree[s.agree] for s in seeds],
        "return differs by": [fmt.plain(s.difference) for s in seeds],
        "deepest dip": [fmt.difference(s.dip, score) for s in seeds],
        "recovered at": [fmt.recovery(s.recovered, s.dip is not None) for s in seeds],
        "mean online": [fmt.score(s.auc, score) for s in seeds],
        "final": [fmt.score(s.final, score) + (" (diverged)" if s.diverged else "") for s in seeds],
        "regret": [fmt.plain(s.regret) for s in seeds],
        "best (optimistic)": [fmt.score(s.best, score) for s in seeds],
        "last evaluation": [fmt.steps(s.last) for s in seeds],
    }
    return {name: cells for name, cells in columns.items() if set(cells) != {"–"}}


def _profile(profile: Mapping[str, Any], base: Path, stem: str) -> Picture | None:
    """The dataset's own figure, or nothing where the profile lacks what the figure needs."""
    try:
        figure = plot_profile(dict(profile))
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return picture(figure, base, f"{stem}dataset", write_bytes)


def _in_words(key: str) -> str:
    """A field's name, such as ``return.quantiles.0.5``, in words; the unit is said with its value."""
    spaced = re.sub(r"_|(?<!\d)\.|\.(?!\d)", " ", key).replace("bytes", "size")
    return SPEED.get(key) or re.sub(r"(?<!per) s$", "", spaced)


def _measured(key: str, value: Any) -> str:
    """A value with the unit that its name states: bytes, or seconds (``_s``, but not ``per_s``)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return fmt.plain(value)
    if "bytes" in key.rsplit(".", 1)[-1].split("_"):
        return fmt.size(value)
    if key.endswith("_s") and not key.endswith("per_s"):
        return f"{value:.3g} s" if value < 60 else duration(value)
    return fmt.plain(value)
