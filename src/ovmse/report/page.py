"""The report: one self-contained HTML page for one run, or for several with a comparison on top."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmse.analysis.comparison import Comparison, compare_runs
from ovmse.analysis.results import RunSummary
from ovmse.config import flatten
from ovmse.core.errors import UserError
from ovmse.render import format as fmt
from ovmse.render import html
from ovmse.render.page import CSS, wrap_main
from ovmse.report import words
from ovmse.report.compare import CAPTION, HEADER, TOTAL_CAPTION, TOTAL_HEADER, table_rows, total_rows
from ovmse.runs.metrics_file import RunRecord, counted, load_run, series, setting
from ovmse.stats.estimates import curve

SPEED = {
    "offline_updates_per_s": "offline gradient updates per second",
    "online_updates_per_s": "online gradient updates per second",
    "online_env_steps_per_s": "online environment steps per second",
    "compile_s": "compilation",
    "peak_memory_bytes": "peak memory",
    "wall_s": "wall-clock time",
}


def write_report(run_dirs: Sequence[Path], out: Path | None = None, reference: float | None = None) -> Path:
    """Write the report of one or several run directories and return the page's path.

    out: an ``.html`` file or a folder; without it ``report.html`` in the run directory, or in the folder
    around the first of several. Figures go to ``figures/`` beside the page, as SVG and PNG.
    reference: the score that regret is measured against, instead of 100 % or the best return seen.
    Raises `UserError` for a run directory that cannot be read.
    """
    if not run_dirs:
        raise UserError("no run directory given. Name at least one folder that training wrote.")
    dirs = list(dict.fromkeys(Path(d) for d in run_dirs))
    runs = [load_run(d) for d in dirs]
    path = out if out is not None else (dirs[0] if len(dirs) == 1 else dirs[0].parent)
    path = path if path.suffix.lower() in (".html", ".htm") else path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(runs, path.parent, reference), encoding="utf-8")
    return path


def _page(runs: Sequence[RunRecord], base: Path, reference: float | None) -> str:
    css = CSS.read_text(encoding="utf-8")
    found = compare_runs(runs, reference)
    names, results = found.names, found.results
    if len(runs) == 1:
        title = _title(runs[0], names[0])
        body = wrap_main(html.tag("h1", title) + _run(runs[0], results[0], base, "", 2))
        return html.page(f"{title} · ovmse", css, body)
    title = f"Comparison of {len(runs)} runs"
    parts = [html.tag("h1", title), _comparison(found, base)]
    for i, (run, result, name) in enumerate(zip(runs, results, names, strict=True), start=1):
        body = html.tag("h2", name) + _run(run, result, base, f"{i}-{_slug(name)}-", 3)
        parts.append(html.wrap("article", body, id=f"run-{i}"))
    return html.page(f"{title} · ovmse", css, wrap_main("\n".join(parts)))


def _title(run: RunRecord, name: str) -> str:
    env = setting(run.config, "env")
    return f"{name} on {env}" if isinstance(env, str) and env else name


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]


def _comparison(found: Comparison, base: Path) -> str:
    from ovmse.render.draw import inline_svg, save
    from ovmse.report.plots_compare import compare_figure, profiles_figure

    figure, profiles = compare_figure(found), profiles_figure(found)
    finals = "; ".join(
        f"{n}: {fmt.with_interval(r.final, r.score)}" for n, r in zip(found.names, found.results, strict=True)
    )
    chances = "; ".join(f"{t.method}: {fmt.chance(t.better)}" for t in found.totals[1:])
    svg = inline_svg(figure, "comparison", f"Line chart of several runs over training. Final scores: {finals}.")
    profiles_svg = inline_svg(profiles, "profiles", f"Performance profiles. Probability of improvement: {chances}.")
    names = enumerate(found.names, start=1)
    links = "".join(html.wrap("li", html.tag("a", name, href=f"#run-{i}")) for i, name in names)
    score = fmt.SCORE_NAMES[found.score]
    several = len(found.distinct_tasks()) > 1
    rows = [[cell.replace("–", "–\u2060") for cell in row] for row in table_rows(found)]  # no break within an interval
    return "\n".join([
        html.tag("p", "Interquartile means over seeds. The final score is the one that counts.", cls="lead"),
        html.box("Read with care", list(found.notes), warn=True),
        html.table(f"Judged by {score}. {CAPTION}", HEADER, rows, cls="dense"),
        html.table(TOTAL_CAPTION, TOTAL_HEADER, total_rows(found)) if several and found.totals else "",
        html.figure(svg, f"{score.capitalize()} of all runs.", save(figure, base / "figures" / "comparison"), base),
        html.figure(profiles_svg, "How the final scores are spread, and how often a method ends above the first.",
                    save(profiles, base / "figures" / "profiles"), base),
        html.wrap("nav", html.tag("strong", "Runs") + html.wrap("ul", links)),
    ])  # fmt: skip


def _run(run: RunRecord, result: RunSummary, base: Path, stem: str, level: int) -> str:
    """All sections of one run; `stem` starts the names of its figures, `level` is its headings' level."""
    h = f"h{level}"
    sections = [
        html.tag("p", _subtitle(run), cls="sub"),
        html.tag("p", words.reading(run, result), cls="lead"),
        html.cards(_cards(result)),
        html.box("What to do next", words.next_steps(run, result)),
        html.box("Noted while reading", list(run.notes), warn=True),
        html.tag(h, "Learning"),
        _learning(run, result, base, stem),
        _q_values(run, base, stem, h),
        html.tag(h, "Handover, seed by seed" if result.before else "Seed by seed"),
        _seed_table(result),
        _dataset(run, base, stem, h),
    ]
    if run.summary:
        sections += [html.tag(h, "Speed and memory"), _speed(run)]
    if run.config:
        table = html.pairs("Resolved configuration.", flatten(run.config))
        sections += [html.tag(h, "Configuration"), html.fold("All settings", table)]
    if run.versions:
        table = html.pairs("What the run was made with.", flatten(run.versions), ("what", "version"))
        sections += [html.tag(h, "Versions"), html.fold("Software, device and command", table)]
    return "\n".join(filter(None, sections))


def _subtitle(run: RunRecord) -> str:
    known = {"method": setting(run.config, "method"), "environment": setting(run.config, "env")}
    known |= {"data": setting(run.config, "data"), "device": run.versions.get("device")}
    return " · ".join([f"{k} {fmt.plain(v)}" for k, v in known.items() if v is not None] + [f"run {run.path.name}"])


def _cards(result: RunSummary) -> list[tuple[str, str, str]]:
    score, final = result.score, result.final
    name = fmt.SCORE_NAMES[score]
    span = fmt.interval(final, score)
    found = [
        (
            f"final {name}",
            fmt.score(final.value, score),
            f"interval {span}" if span else fmt.seeds(final.n),
        )
    ]
    if result.before and result.dip:
        found.append(("before", fmt.score(result.before.value, score), "at the handover"))
        found.append(("deepest dip", fmt.difference(result.dip.value, score), "below before"))
        recovered = fmt.recovery(result.recovered, True)
        found.append(("recovered after", recovered, "environment steps" + (", median" if final.n > 1 else "")))
    if result.auc:
        found.append(("mean online", fmt.score(result.auc.value, score), "area under the curve"))
    if result.regret:
        to = fmt.score(result.reference, score)
        found.append(("regret", fmt.number(result.regret.value), f"missing to {to}, summed over steps"))
    return found


def _learning(run: RunRecord, result: RunSummary, base: Path, stem: str) -> str:
    from ovmse.render.draw import inline_svg, save
    from ovmse.report.plots import learning_figure

    figure = learning_figure(run)
    svg = inline_svg(figure, f"{stem}learning", words.learning_alt(run, result))
    reach = " Curves reach as far as every seed that counts." if len(result.seeds) > 1 else ""
    caption = f"Greedy evaluation over training.{reach}"
    files = save(figure, base / "figures" / f"{stem}learning")
    return html.figure(svg, caption, files, base) + html.fold("The numbers behind it", _curve_table(run, result))


def _curve_table(run: RunRecord, result: RunSummary) -> str:
    """At most 25 points of the curve, as a table."""
    found = series(counted(run.online if result.phase == "online" else run.offline), result.score)
    line = curve([x for _, x, _ in found], [y for _, _, y in found])
    every = -(-line.x.size // 25)
    picked = sorted({*range(0, line.x.size, every), line.x.size - 1})
    name = fmt.SCORE_NAMES[result.score]
    header = ["environment steps" if result.phase == "online" else "gradient updates", name]
    rows = [[fmt.steps(float(line.x[i])), fmt.score(float(line.middle[i]), result.score)] for i in picked]
    if line.low is not None and line.high is not None:
        header += ["95 % low", "95 % high"]
        for row, i in zip(rows, picked, strict=True):
            row += [fmt.score(float(line.low[i]), result.score), fmt.score(float(line.high[i]), result.score)]
    return html.table(f"Interquartile mean of the {name}, {result.phase} phase.", header, rows)


def _q_values(run: RunRecord, base: Path, stem: str, h: str) -> str:
    from ovmse.render.draw import inline_svg, save
    from ovmse.report.plots import q_value_figure

    figure = q_value_figure(run)
    if figure is None:
        return ""
    text = words.q_value_reading(run)
    svg = inline_svg(figure, f"{stem}q-values", f"Line chart of Q values over training. {text}")
    files = save(figure, base / "figures" / f"{stem}q_values")
    return html.tag(h, "Q values") + html.figure(svg, text, files, base)


def _seed_table(result: RunSummary) -> str:
    score = result.score
    agree = {True: "yes", False: "NO", None: "–"}
    at = "environment steps" if result.phase == "online" else "gradient updates"
    columns: list[tuple[str, list[str]]] = [
        ("before", [fmt.score(s.before, score) for s in result.seeds]),
        ("after", [fmt.score(s.after, score) for s in result.seeds]),
        ("agree", [agree[s.agree] for s in result.seeds]),
        ("return differs by", [fmt.plain(s.difference) for s in result.seeds]),
        ("deepest dip", [fmt.difference(s.dip, score) for s in result.seeds]),
        ("recovered at", [fmt.recovery(s.recovered, s.dip is not None) for s in result.seeds]),
        ("mean online", [fmt.score(s.auc, score) for s in result.seeds]),
        ("final", [fmt.score(s.final, score) for s in result.seeds]),
        ("regret", [fmt.plain(s.regret) for s in result.seeds]),
        ("best (optimistic)", [fmt.score(s.best, score) for s in result.seeds]),
        ("last evaluation", [fmt.steps(s.last) for s in result.seeds]),
    ]
    shown = [(n, values) for n, values in columns if any(v != "–" for v in values)]
    names = [f"{s.seed}" if s.counts else f"{s.seed} (left out)" for s in result.seeds]
    rows = [[name, *(values[i] for _, values in shown)] for i, name in enumerate(names)]
    return html.table(
        f"{fmt.SCORE_NAMES[score].capitalize()}s; positions in {at}.", ["seed", *(n for n, _ in shown)], rows
    )


def _dataset(run: RunRecord, base: Path, stem: str, h: str) -> str:
    if run.dataset is None:
        return ""
    profile = {k: _measured(k, v) for k, v in flatten(run.dataset).items() if not isinstance(v, list)}
    table = html.pairs("What the policy was pre-trained on.", profile, ("property", "value"))
    drawn = _profile_figure(run.dataset, base, stem)
    return html.tag(h, "Dataset") + (drawn + html.fold("All numbers", table) if drawn else table)


def _profile_figure(profile: Mapping[str, Any], base: Path, stem: str) -> str:
    """The dataset's own figure, or nothing where the profile lacks what the figure needs."""
    from ovmse.render.draw import inline_svg, save

    try:
        from ovmse.inspection.inspect import plot_profile

        figure = plot_profile(dict(profile))
    except (ImportError, LookupError, TypeError, ValueError, AttributeError):
        return ""
    svg = inline_svg(figure, f"{stem}dataset", "Charts of the dataset's profile; the numbers are below.", themed=False)
    files = save(figure, base / "figures" / f"{stem}dataset")
    return html.figure(svg, "The dataset's profile.", files, base, cls="plot paper")


def _speed(run: RunRecord) -> str:
    found = {k: v for k, v in flatten(run.summary).items() if k != "guard"}
    rows = [(SPEED.get(k, k.replace("_", " ")), _measured(k, v)) for k, v in found.items()]
    return html.table("Measured over the whole run.", ("what", "value"), rows)


def _measured(key: str, value: Any) -> str:
    """A value with the unit that its name states: bytes, or seconds (``_s``, but not ``per_s``)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return fmt.plain(value)
    if "bytes" in key.rsplit(".", 1)[-1].split("_"):
        return fmt.size(value)
    return fmt.duration(value) if key.endswith("_s") and not key.endswith("per_s") else fmt.plain(value)
