"""A run in a few lines of HTML, as a notebook shows it."""

from pathlib import Path

from ovmse.analysis.results import summarise_run
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.render.page import render
from ovmse.report.words import reading
from ovmse.runs.metrics_file import PROGRESS, RunRecord, load_run, setting

BUDGETS = {"offline": "offline_updates", "online": "online_env_steps", "round": "updates"}
"""The setting that says how long each phase is to be."""


def summary_html(path: Path) -> str:
    """Method, environment, data, how far the run is, and its result in a paragraph; why not, where it can't be read."""
    try:
        run = load_run(path)
        result = summarise_run(run)
    except UserError as error:
        return render("run.html", name="run", path=path, rows={}, reading=str(error))
    told = {name: setting(run.config, field) for name, field in (("environment", "env"), ("data", "data"))}
    rows = {name: fmt.plain(value) for name, value in told.items() if value is not None}
    rows["seeds"] = fmt.plain([seed.seed for seed in result.seeds])
    rows["progress"] = progress(run)
    name = setting(run.config, "method") or "run"
    return render("run.html", name=name, path=path, rows=rows, reading=reading(run, result))


def progress(run: RunRecord) -> str:
    """Whether a run has ended, or else how far it is, by its last evaluation."""
    if run.summary:
        return "finished"
    phase = next(phase for phase in reversed(PROGRESS) if run.traces(phase))
    unit = "environment steps" if phase == "online" else "gradient updates"
    done = max(float(trace.columns[PROGRESS[phase]][-1]) for trace in run.traces(phase))
    of = setting(run.config, BUDGETS[phase])
    most = f" of {fmt.steps(of)}" if isinstance(of, int | float) else ""
    return f"unfinished: {fmt.steps(done)}{most} {unit} of the {phase}{'' if phase == 'round' else ' phase'}"
