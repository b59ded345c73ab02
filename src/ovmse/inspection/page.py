"""The doctor's report as one self-contained HTML page, in the look of the training reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ovmse.data.findings import SEVERITIES, Finding
from ovmse.inspection import figures, tables
from ovmse.inspection.recommendations import Statement
from ovmse.render import format as fmt
from ovmse.render import html
from ovmse.render.draw import inline_svg, save
from ovmse.render.page import CSS, wrap_main

LIMITS = (
    "The cloned policy has no memory beyond the last action: a team that remembers looks more random to it than it is.",
    "Returns with two peaks are what one policy that wins or loses looks like; the components only describe.",
    "Where states are continuous nearly every pair is distinct: Joint-SACo then says that states vary, not that "
    "actions do. The entropy speaks of actions.",
    "Whatever differs from episode to episode and is not observed — a hidden task, a patched game — looks like several "
    "policies.",
    "Policies that use every action equally often and equally predictably, and differ only in when, look like one.",
    "Suggested settings are starting points by rule of thumb. What they are worth shows in a run.",
)


def write_page(
    folder: Path,
    profile: dict[str, Any] | None,
    facts: dict[str, Any],
    findings: Sequence[Finding],
    statements: Sequence[Statement],
    names: Sequence[str],
    command: str,
) -> Path:
    """Write ``index.html`` and ``figures/`` into an existing folder; return the page's path."""
    css = CSS.read_text(encoding="utf-8")
    title = f"Dataset {Path(facts['path']).resolve().name}"
    body = [html.tag("h1", title), html.tag("p", _subtitle(facts), cls="sub")]
    body += [html.tag("p", " ".join(s.sentence for s in statements if s.topic in LEAD), cls="lead")]
    if profile is None:
        body.append(html.box("Nothing could be read", ["No episode is sound; see the findings."], warn=True))
    else:
        body.append(html.cards(_cards(profile, findings)))
        body += [html.tag("h2", "Verdict"), _verdict(statements), _command(command)]
    body += [html.tag("h2", "Findings"), _findings(findings)]
    if profile is not None:
        body += _pictures(profile, names, folder)
        body.append(html.tag("h2", "Numbers") + _numbers(profile, facts))
    body += [html.tag("h2", "What this cannot tell"), html.box("Limits", LIMITS)]
    page = folder / "index.html"
    page.write_text(html.page(f"{title} · ovmse", css, wrap_main("\n".join(filter(None, body)))), encoding="utf-8")
    return page


LEAD = ("use", "quality", "breadth", "policies")


def _subtitle(facts: dict[str, Any]) -> str:
    quality = f" ({facts['quality']})" if facts["quality"] else ""
    source = f" · from {facts['source']}" if facts["source"] else ""
    return f"{facts['environment']}, {facts['version']} · {facts['behaviour']}{quality}{source}"


def _cards(profile: dict[str, Any], findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    clone, cover = profile["clone"], profile["coverage"]
    counts = [(severity, sum(f.severity == severity for f in findings)) for severity in SEVERITIES]
    shown = [
        ("episodes", f"{profile['examined']:,}", f"{profile['steps']:,} steps, {profile['agents']} agents"),
    ]
    if profile["win_rate"] is not None:
        shown.append(("won", fmt.score(profile["win_rate"], "win_rate"), "of episodes"))
    returns = profile["return"]
    span = f"from {fmt.number(returns['min'])} to {fmt.number(returns['max'])}"
    shown.append(("mean return", fmt.number(returns["mean"]), span))
    if clone is not None:
        shown.append(("entropy", fmt.score(clone["entropy_share"], "win_rate"), "of uniform play's"))
    shown.append(("Joint-SACo", f"{cover['joint_saco']:.2f}", "distinct pairs per step"))
    errors, *others = counts
    remark = ", ".join(f"{n} {severity}s" for severity, n in others)
    return [*shown, ("errors", str(errors[1]), remark)]


def _verdict(statements: Sequence[Statement]) -> str:
    rows = "".join(
        html.wrap("li", html.tag("strong", s.sentence) + " " + html.tag("span", s.reason)
                  + html.tag("span", s.source, cls="sub"))
        for s in statements
    )  # fmt: skip
    return html.wrap("div", html.wrap("ul", rows), cls="box")


def _command(command: str) -> str:
    return html.wrap("div", html.wrap("pre", html.tag("code", command)), cls="wide") if command else ""


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return html.tag("p", "No errors, no warnings, nothing to note.")
    parts = []
    for severity in SEVERITIES:
        rows = [f for f in findings if f.severity == severity]
        items = "".join(
            html.wrap("li", html.tag("strong", f.kind) + html.tag("span", _times(f)) + html.tag("span", f.first)
                      + "<br>" + html.tag("span", f"→ {f.advice}", cls="sub"))
            for f in rows
        )  # fmt: skip
        if rows:
            title = html.tag("strong", f"{severity.capitalize()}s")
            box = "box" if severity == "note" else "box warn"
            parts.append(html.wrap("div", title + html.wrap("ul", items), cls=box))
    return "\n".join(parts)


def _times(finding: Finding) -> str:
    return f" ({finding.times:,} times): " if finding.times > 1 and finding.severity != "note" else ": "


def _pictures(profile: dict[str, Any], names: Sequence[str], folder: Path) -> list[str]:
    """All figures with their captions."""
    returns, clone = profile["return"], profile["clone"]
    drawn: list[tuple[str, str, Figure | None, str]] = [
        (
            "Returns and lengths",
            "episodes",
            figures.episodes(profile),
            f"Returns from {fmt.number(returns['min'])} to {fmt.number(returns['max'])}; ▾ marks the means of normal "
            f"distributions fitted to them: {dict(tables.play_rows(profile))['return components']}.",
        ),
        (
            "Actions",
            "actions",
            figures.actions(profile, names),
            "How often each action was taken: of all choices (bar), of each agent's (dots, agents from left to right), "
            "and of the choices at which it was legal (diamond).",
        ),
        (
            "Who played",
            "play",
            figures.play(profile),
            "Left: the policy cloned from the data, on episodes it was not fitted to. Right: how much more surprising "
            "each held-out episode was than that policy leads to expect, in standard deviations.",
        ),
        ("In the order of the dataset", "order", figures.order(profile), "Means of equal parts; dashed: of all."),
    ]
    parts = []
    for heading, name, figure, caption in drawn:
        if figure is not None:
            svg = inline_svg(figure, name, f"{heading}. {caption}")
            files = save(figure, folder / "figures" / name)
            parts.append(html.tag("h2", heading) + html.figure(svg, caption, files, folder))
    if clone is not None:
        parts.insert(-1, html.fold("The numbers behind it", _agents(profile)))
    return parts


def _agents(profile: dict[str, Any]) -> str:
    """The cloned policy and the coverage by agent."""
    header = ("agent", "entropy, nats", "of uniform play's", "accuracy", "by chance", "log-likelihood", "own coverage")
    rows = []
    for i, found in enumerate(profile["clone"]["agents"]):
        own = profile["coverage"]["agents"][i]
        if found is None:
            rows.append([str(i), *["–"] * 6])
            continue
        rows.append([
            str(i), f"{found['entropy']:.3f}", f"{found['entropy_share']:.1%}", f"{found['accuracy']:.1%}",
            f"{found['uniform_accuracy']:.1%}", f"{found['log_likelihood']:.3f}", "–" if own is None else f"{own:.3f}",
        ])  # fmt: skip
    parts = profile["clone"]["episodes"]
    caption = (
        f"On choices among several legal actions of {parts['held_out']} held-out episodes; fitted to {parts['train']}, "
        f"stopped by {parts['stop']}. Log-likelihood in nats per choice."
    )
    return html.table(caption, header, rows)


def _numbers(profile: dict[str, Any], facts: dict[str, Any]) -> str:
    """The tables."""
    returns, length = profile["return"], profile["length"]
    spread = [(name, fmt.number(returns[name]), fmt.number(length[name])) for name in ("mean", "std", "min")]
    quantiles = returns["quantiles"]
    spread += [
        (f"{float(q):.0%} quantile", fmt.number(quantiles[q]), fmt.number(length["quantiles"][q])) for q in quantiles
    ]
    spread.append(("max", fmt.number(returns["max"]), fmt.number(length["max"])))
    what = {
        "path": str(facts["path"]),
        "ended by the task": f"{profile['ended_by_task']:.1%} of episodes",
        "size": f"{fmt.size(facts['bytes_on_disk'])} on disk, {fmt.size(facts['bytes_in_memory'])} in memory",
        "obs": _range(profile["features"]["obs"]),
        "state": _range(profile["features"]["state"]),
    }
    return "\n".join([
        html.pairs("Play.", dict(tables.play_rows(profile)), ("what", "value")),
        html.table("Episodes.", ("", "return", "steps"), spread),
        html.pairs("Data.", what, ("what", "value")),
    ])  # fmt: skip


def _range(features: dict[str, Any]) -> str:
    span = f"from {fmt.number(features['min'])} to {fmt.number(features['max'])}"
    return f"{span}; {len(features['constant'])} features never change"
