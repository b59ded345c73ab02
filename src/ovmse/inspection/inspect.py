"""`ovmse inspect`: examine a dataset, profile it, and say how to learn from it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ovmse.core.errors import UserError, check_seed
from ovmse.data.dataset import Dataset
from ovmse.data.findings import merge
from ovmse.data.folder import find
from ovmse.data.profile import profile
from ovmse.data.schema import Names
from ovmse.data.stream import scan_dataset
from ovmse.inspection import tables
from ovmse.inspection.examination import about, contradictions, gather, profile_of
from ovmse.inspection.figures import plot_profile
from ovmse.inspection.page import Report, write_page
from ovmse.inspection.recommendations import command, figures, recommendations
from ovmse.inspection.warnings import Whole, warnings
from ovmse.system import files
from ovmse.system.progress import say

FIGURE_KINDS = (".png", ".svg", ".pdf")


def inspect(
    data: str,
    out: Path | None = None,
    console: Console | None = None,
    figure: Path | None = None,
    seed: int = 0,
    clone: bool = True,
    action_names: Sequence[str] | None = None,
) -> Report:
    """Examine a dataset, print what was found, and write a folder with a page, its figures and the numbers.

    data: a directory, or the name of a shipped dataset; read in blocks, so it may be larger than memory. out: the
    folder to write, by default ``NAME-inspect``; its files are replaced. console: where to print; None is silent.
    figure: write the profile's figure here, too (.png, .svg or .pdf). seed: of the sample and the fit. clone: False
    leaves the behaviour-cloning fit out. Raises `UserError` where there is no dataset at all, or an argument is wrong;
    whatever is wrong with a dataset is a finding.
    """
    check_seed("--seed", seed)
    path = find(data)
    if figure is not None and figure.suffix not in FIGURE_KINDS:
        raise UserError(f"--figure must end in {', '.join(FIGURE_KINDS)}; got {figure}.")
    folder = out if out is not None else Path(f"{path.resolve().name}-inspect")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder to write into, got a file.")
    report = diagnose(path, seed, clone, console, data)
    names = tables.names_of(report.facts["actions"], action_names or report.facts["action_names"])
    if console is not None:
        if report.profile is None:
            say(console, f"{report.path}: no episode can be read.")
        else:
            tables.print_numbers(report.profile, names, console)
        tables.print_findings(report.findings, console)
        tables.print_verdict(report.verdict, report.command, console)
    written = _write(report, names, folder, figure)
    say(console, f"Written: {', '.join(map(str, written))}")
    return replace(report, written=written)


def diagnose(
    path: Path, seed: int = 0, clone: bool = True, console: Console | None = None, called: str | None = None
) -> Report:
    """Examine a dataset and write nothing; see `inspect`. called: what the command names the dataset by."""
    found = scan_dataset(path)
    faults, gathered = gather(found, seed, clone, console)
    findings, described = [*found.findings, *faults], None
    if gathered is not None:
        described = profile_of(found, gathered, seed)
        assumptions = tuple(found.metadata.assumptions) if found.metadata else ()
        names = found.metadata.names if found.metadata else Names()
        findings += contradictions(found, gathered)
        findings += warnings(Whole(found.spec, gathered.episodes, gathered.sums, assumptions, names))
    merged = merge(findings)
    counts = Counter(f.severity for f in merged)
    said = recommendations(figures(described, counts["error"], counts["warning"])) if described else ()
    usable = described is not None and not counts["error"]
    after = command(found.spec.name, called or str(path), said) if usable else ""
    named = found.metadata.actions if found.metadata else None
    facts = about(found) | {"actions": found.spec.n_actions, "action_names": named}
    return Report(path, facts, merged, described, said, after, usable)


def _write(report: Report, names: list[str], folder: Path, figure: Path | None) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    files.check_tree(folder)
    file = folder / "profile.json"
    told = {
        **(report.profile or report.facts),
        "usable": report.usable,
        "findings": [f._asdict() | {"severity": f.severity, "advice": f.advice} for f in report.findings],
        "verdict": [statement._asdict() for statement in report.verdict],
        "command": report.command,
    }
    plain = json.loads(json.dumps(told), parse_constant=lambda name: None)  # JSON knows neither NaN nor infinities
    files.write_text(file, json.dumps(plain, indent=1) + "\n")
    page = write_page(folder, report, names)
    if figure is None or report.profile is None:
        return page, file
    figure.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(figure) as temporary:
        plot_profile(report.profile, names).savefig(temporary, format=figure.suffix[1:])
    return page, file, figure


def print_profile(dataset: Dataset, console: Console, action_names: Sequence[str] | None = None) -> None:
    """Print the profile as tables that fit 80 columns. Raises `UserError` on a wrong number of names."""
    names = tables.names_of(dataset.spec.n_actions, action_names or dataset.metadata.actions)
    tables.print_numbers(profile(dataset), names, console)
