"""A profile, findings and a verdict in the terminal, within 80 columns."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ovmse.core.errors import UserError
from ovmse.data.findings import SEVERITIES, Finding, Severity
from ovmse.inspection.recommendations import Statement
from ovmse.system.progress import say

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}


def names_of(n_actions: int, action_names: Sequence[str] | None) -> list[str]:
    """The names of the actions, or their numbers."""
    if action_names is None:
        return [str(action) for action in range(n_actions)]
    if len(action_names) != n_actions:
        raise UserError(f"action_names: expected {n_actions} names, one per action, got {len(action_names)}.")
    return list(action_names)


def print_numbers(data: dict[str, Any], names: list[str], console: Console) -> None:
    """Print what `ovmse.data.profile` found."""
    console.print(_overview(data))
    console.print(_spreads(data))
    console.print(_actions(data, names))


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, errors first; a line says so where there are none."""
    if not findings:
        console.print("[bold green]No errors, no warnings, nothing to note.[/]", highlight=False)
    for severity in SEVERITIES:
        for found in findings:
            if found.severity == severity:
                head = f"[{STYLES[severity]}]{severity}[/] {escape(found.kind)}" + f" ({found.times:,})" * (
                    found.times > 1 and severity != "note"
                )
                console.print(head, highlight=False)
                console.print(Padding(escape(found.first), (0, 0, 0, 2)), highlight=False)
                console.print(Padding(f"[dim]→ {escape(found.advice)}[/]", (0, 0, 0, 2)), highlight=False)


def print_verdict(statements: Sequence[Statement], command: str, console: Console) -> None:
    """Print the verdict, and the command that follows it."""
    for statement in statements:
        console.print(f"[bold]{escape(statement.sentence)}[/]", highlight=False)
        source = statement.reason + statement.source
        console.print(Padding(f"[dim]{escape(source)}[/]", (0, 0, 0, 2)), highlight=False)
    if command:
        say(console, f"Next:\n{command}")


def print_play(data: dict[str, Any], console: Console) -> None:
    """Print how broad the play is and who played."""
    table = Table(show_header=False, title="Play", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in play_rows(data):
        table.add_row(name, escape(value))
    console.print(table)


def play_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Coverage, the cloned policy and the mixture, as names and values."""
    cover, clone, mixture = data["coverage"], data["clone"], data["mixture"]
    own = [share for share in cover["agents"] if share is not None]
    space = f" of {cover['joint_action_space']:,.0f}" if cover["joint_action_space"] < 1e9 else ""
    rows = [
        ("Joint-SACo", f"{cover['joint_saco']:.3f} distinct pairs of state and joint action per step"),
        (
            "distinct states",
            f"{cover['distinct_states']:.3f} per step, {cover['actions_per_state']:.2f} joint actions each",
        ),
        (
            "own coverage",
            f"{min(own):.3f} to {max(own):.3f} distinct pairs of own obs and action per choice" if own else "–",
        ),
        ("joint actions", f"{cover['joint_actions']:,}{space} distinct"),
    ]
    if clone is not None and mixture is not None:
        found = mixture["agreement"]
        rows += [
            ("entropy", f"{clone['entropy']:.3f} nats, {clone['entropy_share']:.1%} of uniform play's"),
            (
                "accuracy",
                f"{clone['accuracy']:.1%} of held-out choices cloned; {clone['uniform_accuracy']:.1%} by chance",
            ),
            (
                "log-likelihood",
                f"{clone['log_likelihood']:.3f} nats per choice; {clone['uniform_log_likelihood']:.3f} by chance",
            ),
            ("policies", f"{mixture['policies']} (agreement {found['surprise']:.2f} and {found['actions']:.2f})"),
            ("z of episodes", f"{mixture['z_mean']:+.2f} ± {mixture['z_std']:.2f}; 0 ± 1 for one policy, well fitted"),
        ]
    parts = [f"{100 * c['weight']:.0f} % at {c['mean']:.4g} ± {c['std']:.2g}" for c in data["return_components"]]
    rows.append(("return components", "; ".join(parts)))
    shift = data["return_drift"]
    rows.append(("drift of returns", f"{shift['parts']:+.1f} (0 ± 1 without), correlation {shift['correlation']:+.2f}"))
    return rows


def _overview(data: dict[str, Any]) -> Table:
    table = Table(show_header=False, title=escape(data["environment"]), title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "dataset": data["path"],
        "version": data["version"],
        "behaviour": data["behaviour"] + (f" ({data['quality']})" if data["quality"] else ""),
        "episodes": f"{data['episodes']:,}",
        "steps": f"{data['steps']:,} ({data['steps'] * data['agents']:,} choices of {data['agents']} agents)",
        "win rate": "none: cannot be won" if data["win_rate"] is None else f"{data['win_rate']:.1%}",
        "ended by the task": f"{data['ended_by_task']:.1%} of episodes (the rest were cut)",
        "size": f"{size_of(data['bytes_on_disk'])} on disk, {size_of(data['bytes_in_memory'])} in memory",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _spreads(data: dict[str, Any]) -> Table:
    table = Table(title="Episodes", title_justify="left")
    for heading in ("", "return", "steps"):
        table.add_column(heading, justify="right" if heading else "left")
    quantiles = {f"{float(q):.0%} quantile": q for q in data["return"]["quantiles"]}
    for name in ("mean", "std", "min", *quantiles, "max"):
        parts = (data["return"], data["length"])
        values = (p["quantiles"][quantiles[name]] if name in quantiles else p[name] for p in parts)
        table.add_row(name, *(f"{value:.4g}" for value in values))
    return table


def _actions(data: dict[str, Any], names: list[str]) -> Table:
    use = data["actions"]
    few = data["agents"] <= 5
    table = Table(title="Actions: share of choices", title_justify="left")
    table.add_column("action", overflow="ellipsis", max_width=18)
    for heading in ("all", "legal", "if legal", *(f"agent {i}" for i in range(data["agents"]) if few)):
        table.add_column(heading, justify="right")
    for action, name in enumerate(names):
        taken = use["share_when_legal"][action]
        agents = [f"{row[action]:.1%}" for row in use["by_agent"]] if few else []
        often = "–" if taken is None else f"{taken:.1%}"
        table.add_row(escape(name), f"{use['share'][action]:.1%}", f"{use['legal'][action]:.1%}", often, *agents)
    return table


def size_of(n_bytes: int) -> str:
    """A number of bytes for people, in powers of 1024."""
    value, units = float(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"
