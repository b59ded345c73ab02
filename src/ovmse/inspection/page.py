"""What the doctor found, and that as one self-contained HTML page, in the look of the training reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovmse.data.findings import SEVERITIES, Finding
from ovmse.inspection import tables
from ovmse.inspection.figures import page_figures
from ovmse.inspection.recommendations import Recommendation
from ovmse.render import format as fmt
from ovmse.render.draw import picture
from ovmse.render.page import render
from ovmse.system.files import write_bytes, write_text


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    facts: what the metadata says. profile: see `examination.profile_of`; None where no episode is sound.
    command: the training command that is recommended; empty where the dataset cannot be used. usable: no finding
    is an error, so `Dataset.open` reads it. written: the page, the numbers, and the figure where one was asked for.
    """

    path: Path
    facts: dict[str, Any]
    findings: tuple[Finding, ...]
    profile: dict[str, Any] | None
    verdict: tuple[Recommendation, ...]
    command: str
    usable: bool
    written: tuple[Path, ...] = ()


def write_page(folder: Path, report: Report, names: Sequence[str]) -> Path:
    """Write ``index.html`` and ``figures/`` into an existing folder; return the page's path."""
    profile = report.profile
    findings = {severity: [f for f in report.findings if f.severity == severity] for severity in SEVERITIES}
    shown = vars(report) | {"findings": findings}
    if profile is not None:
        shown |= {
            "pictures": {
                name: picture(figure, folder, name, write_bytes)
                for name, figure in page_figures(profile, names).items()
            },
            "agents": profile["clone"] and _agents(profile),
            "play": tables.play(profile),
            "spread": tables.spread(profile, fmt.number),
            "size": tables.sizes(report.facts),
        }
    page = folder / "index.html"
    title = f"Dataset {report.path.resolve().name}"
    write_text(page, render("inspect.html", title=title, **shown))
    return page


def _agents(profile: dict[str, Any]) -> dict[str, list[str]]:
    """The cloned policy and the coverage by agent, as columns; an agent without choices has dashes."""
    clones = [clone or {} for clone in profile["clone"]["agents"]]
    coverage = [own if clone else None for clone, own in zip(clones, profile["coverage"]["agents"], strict=True)]
    return {
        "agent": profile["names"]["agents"] or [str(i) for i in range(len(clones))],
        "entropy, nats": tables.cells([clone.get("entropy") for clone in clones], ".3f"),
        "of uniform play's": tables.cells([clone.get("entropy_share") for clone in clones]),
        "accuracy": tables.cells([clone.get("accuracy") for clone in clones]),
        "by chance": tables.cells([clone.get("uniform_accuracy") for clone in clones]),
        "log-likelihood": tables.cells([clone.get("log_likelihood") for clone in clones], ".3f"),
        "own coverage": tables.cells(coverage, ".3f"),
    }
