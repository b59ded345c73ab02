"""A profile, findings and a verdict in the terminal, within 80 columns."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ovmse.core.errors import UserError
from ovmse.data.findings import SEVERITIES, Finding, Severity
from ovmse.inspection.recommendations import Recommendation
from ovmse.render import format as fmt
from ovmse.system.progress import say

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}


def names_of(n_actions: int, action_names: Sequence[str] | None) -> list[str]:
    """The names of the actions, or their numbers."""
    if action_names is None:
        return [str(action) for action in range(n_actions)]
    if len(action_names) != n_actions:
        raise UserError(f"action_names: expected {n_actions} names, one per action, got {len(action_names)}.")
    return list(action_names)


def agents(data: dict[str, Any]) -> list[str]:
    """The agents as tables call them: by the log's names, or by their numbers."""
    return data["names"]["agents"] or [f"agent {i}" for i in range(data["agents"])]


def print_numbers(data: dict[str, Any], names: list[str], console: Console) -> None:
    """Print what `ovmse.data.profile` found and, where it was measured, how broad the play is and who played."""
    console.print(_overview(data))
    console.print(_columns("Episodes", spread(data, "{:.4g}".format)))
    console.print(_actions(data, names))
    if "clone" in data:
        console.print(_pairs("Play", play(data)))


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, errors first; a line says so where there are none."""
    if not findings:
        console.print("[bold green]No errors, no warnings, nothing to note.[/]", highlight=False)
    for found in sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)):
        times = f" ({found.times:,})" if found.times > 1 and found.severity != "note" else ""
        head = f"[{STYLES[found.severity]}]{found.severity}[/] {escape(found.kind)}{times}"
        console.print(head, highlight=False)
        console.print(Padding(escape(found.first), (0, 0, 0, 2)), highlight=False)
        console.print(Padding(f"[dim]→ {escape(found.advice)}[/]", (0, 0, 0, 2)), highlight=False)


def print_verdict(statements: Sequence[Recommendation], command: str, console: Console) -> None:
    """Print the verdict, and the command that follows it."""
    for statement in statements:
        console.print(f"[bold]{escape(statement.sentence)}[/]", highlight=False)
        source = statement.reason + statement.source
        console.print(Padding(f"[dim]{escape(source)}[/]", (0, 0, 0, 2)), highlight=False)
    if command:
        say(console, f"Next:\n{command}")


def play(data: dict[str, Any]) -> dict[str, str]:
    """Coverage, the cloned policy and the mixture, in words."""
    cover, clone, mixture = data["coverage"], data["clone"], data["mixture"]
    own = [share for share in cover["agents"] if share is not None]
    space = f" of {cover['joint_action_space']:,.0f}" if cover["joint_action_space"] < 1e9 else ""
    span = f"{min(own):.3f} to {max(own):.3f} distinct pairs of own obs and action per choice" if own else "–"
    each = f"{cover['actions_per_state']:.2f} joint actions each"
    rows = {
        "Joint-SACo": f"{cover['joint_saco']:.3f} distinct pairs of state and joint action per step",
        "distinct states": f"{cover['distinct_states']:.3f} per step, {each}",
        "own coverage": span,
        "joint actions": f"{cover['joint_actions']:,}{space} distinct",
    }
    if clone is not None and mixture is not None:
        found, chance = mixture["agreement"], f"{clone['uniform_accuracy']:.1%} by chance"
        likely = f"{clone['log_likelihood']:.3f} nats per choice; {clone['uniform_log_likelihood']:.3f} by chance"
        rows |= {
            "entropy": f"{clone['entropy']:.3f} nats, {clone['entropy_share']:.1%} of uniform play's",
            "accuracy": f"{clone['accuracy']:.1%} of held-out choices cloned; {chance}",
            "log-likelihood": likely,
            "policies": f"{mixture['policies']} (agreement {found['surprise']:.2f} and {found['actions']:.2f})",
            "z of episodes": f"{mixture['z_mean']:+.2f} ± {mixture['z_std']:.2f}; 0 ± 1 for one policy, well fitted",
        }
    parts = [f"{100 * c['weight']:.0f} % at {c['mean']:.4g} ± {c['std']:.2g}" for c in data["return_components"]]
    shift = data["return_drift"]
    drift = f"{shift['parts']:+.1f} (0 ± 1 without), correlation {shift['correlation']:+.2f}"
    return rows | {"return components": "; ".join(parts), "drift of returns": drift}


def spread(data: dict[str, Any], text: Callable[[float], str]) -> dict[str, list[str]]:
    """The columns of a table of the episodes' returns and lengths."""
    parts = [
        part | {f"{float(q):.0%} quantile": x for q, x in part["quantiles"].items()}
        for part in (data["return"], data["length"])
    ]
    names = ["mean", "std", "min", *(name for name in parts[0] if name.endswith(" quantile")), "max"]
    returns, steps = ([text(part[name]) for name in names] for part in parts)
    return {"": names, "return": returns, "steps": steps}


def sizes(facts: dict[str, Any], digits: int = 3) -> str:
    """How large a dataset is."""
    disk, memory = (fmt.size(facts[f"bytes_{where}"], digits) for where in ("on_disk", "in_memory"))
    return f"{disk} on disk, {memory} in memory"


def _overview(data: dict[str, Any]) -> Table:
    rows = {
        "dataset": data["path"],
        "version": data["version"],
        "behaviour": data["behaviour"] + (f" ({data['quality']})" if data["quality"] else ""),
        "episodes": f"{data['episodes']:,}",
        "steps": f"{data['steps']:,} ({data['steps'] * data['agents']:,} choices of {data['agents']} agents)",
        "win rate": "none: cannot be won" if data["win_rate"] is None else f"{data['win_rate']:.1%}",
        "ended by the task": f"{data['ended_by_task']:.1%} of episodes (the rest were cut)",
        "size": sizes(data, digits=4),
    }
    if data["names"]["agents"]:
        rows["agents"] = ", ".join(data["names"]["agents"])
    return _pairs(escape(data["environment"]), rows)


def _pairs(title: str, rows: dict[str, str]) -> Table:
    table = Table(show_header=False, title=title, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _columns(title: str, columns: dict[str, list[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(columns):
        table.add_column(
            escape(heading), justify="right" if i else "left", overflow="ellipsis", max_width=None if i else 18
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, row))
    return table


def _actions(data: dict[str, Any], names: list[str]) -> Table:
    use = data["actions"]
    columns = {"action": names, "all": cells(use["share"]), "legal": cells(use["legal"])}
    columns["if legal"] = cells(use["share_when_legal"])
    if data["agents"] <= 5:
        columns |= {name: cells(shares) for name, shares in zip(agents(data), use["by_agent"], strict=True)}
    return _columns("Actions: share of choices", columns)


def cells(values: Sequence[float | None], form: str = ".1%") -> list[str]:
    """Numbers as text, by default in percent; nothing as a dash."""
    return ["–" if value is None else format(value, form) for value in values]
