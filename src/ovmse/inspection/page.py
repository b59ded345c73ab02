"""The doctor's report as one self-contained HTML page, in the look of the training reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovmse.data.findings import SEVERITIES, Finding
from ovmse.inspection import tables
from ovmse.inspection.figures import page_figures
from ovmse.inspection.recommendations import Statement
from ovmse.render import format as fmt
from ovmse.render.draw import picture
from ovmse.render.page import render


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
    markup = render(
        "inspect.html",
        title=f"Dataset {Path(facts['path']).resolve().name}",
        facts=facts,
        profile=profile,
        findings={severity: [f for f in findings if f.severity == severity] for severity in SEVERITIES},
        statements=statements,
        command=command,
        **({} if profile is None else _measured(profile, facts, names, folder)),
    )
    page = folder / "index.html"
    page.write_text(markup, encoding="utf-8")
    return page


def _measured(profile: dict[str, Any], facts: dict[str, Any], names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Figures and tables of a profile."""
    figures = page_figures(profile, names)
    return {
        "pictures": {name: picture(figure, folder, name) for name, figure in figures.items()},
        "agents": profile["clone"] and _agents(profile),
        "play": tables.play(profile),
        "spread": tables.spread(profile, fmt.number),
        "size": tables.sizes(facts),
    }


def _agents(profile: dict[str, Any]) -> dict[str, list[str]]:
    """The cloned policy and the coverage by agent, as columns; an agent without choices has dashes."""
    clones = [clone or {} for clone in profile["clone"]["agents"]]
    coverage = [own if clone else None for clone, own in zip(clones, profile["coverage"]["agents"], strict=True)]

    def cells(values: Sequence[float | None], form: str) -> list[str]:
        return ["–" if value is None else format(value, form) for value in values]

    return {
        "agent": [str(i) for i in range(len(clones))],
        "entropy, nats": cells([clone.get("entropy") for clone in clones], ".3f"),
        "of uniform play's": cells([clone.get("entropy_share") for clone in clones], ".1%"),
        "accuracy": cells([clone.get("accuracy") for clone in clones], ".1%"),
        "by chance": cells([clone.get("uniform_accuracy") for clone in clones], ".1%"),
        "log-likelihood": cells([clone.get("log_likelihood") for clone in clones], ".3f"),
        "own coverage": cells(coverage, ".3f"),
    }
