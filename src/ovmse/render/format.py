"""Numbers as words: one way of writing scores, intervals and counts on the page and in tables."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.filesize import pick_unit_and_suffix

from ovmse.stats.estimates import Estimate

SCORE_NAMES = {"win_rate": "win rate", "return": "return", "fqe": "value by the log"}


def number(value: float | int) -> str:
    """Three significant digits, thousands separated, a true minus sign."""
    if not math.isfinite(value):
        return "not finite"
    if value and not 1e-3 <= abs(value) < 1e12:
        text = f"{value:.2e}"
    elif abs(value) >= 100:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−") if value < 0 else text


def score(value: float | int | None, name: str, unit: bool = True) -> str:
    """A win rate as a percentage, a chance with two decimals, a return as a number, nothing as a dash."""
    if value is None:
        return "–"
    if name == "win_rate":
        return f"{100 * value:.0f}{' %' if unit else ''}"
    return f"{value:.2f}" if name == "chance" else number(value)


def difference(value: float | int | None, name: str) -> str:
    """A distance between scores: percentage points for win rates."""
    if value is None or name != "win_rate":
        return score(value, name)
    points = f"{100 * value:.0f}"
    return f"{points} point{'' if points == '1' else 's'}"


def interval(estimate: Estimate | None, name: str) -> str:
    """An interval such as ``79–88 %`` or ``−1.2 to 3.4``; empty without one."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    between = " to " if name in ("return", "fqe") else "–"
    return f"{score(estimate.low, name, unit=False)}{between}{score(estimate.high, name)}"


def with_interval(estimate: Estimate | None, name: str) -> str:
    """A score with its interval in square brackets."""
    if estimate is None:
        return "–"
    brackets = interval(estimate, name)
    return score(estimate.value, name) + (f" [{brackets}]" if brackets else "")


def change(estimate: Estimate | None, name: str) -> str:
    """A change of a score, with its interval; percentage points for win rates."""
    if estimate is None:
        return "–"
    text = difference(estimate.value, name)
    if estimate.low is not None and estimate.high is not None:
        low, high = (difference(x, name).partition(" ")[0] for x in (estimate.low, estimate.high))
        text += f" [{low} to {high}]"
    return text.replace("-", "−")


def steps(value: float | int | None) -> str:
    """A whole count with separators."""
    return "–" if value is None else f"{value:,.0f}"


def recovery(value: float | int | None, applies: bool) -> str:
    """When the score was back: ``at once`` if it never fell, ``never`` if it did not come back."""
    if not applies:
        return "–"
    if value is None:
        return "never"
    return "did not fall" if value == 0 else f"{value:,.0f}"


def markdown(header: Iterable[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """A table in Markdown; with `numbers` all columns but the first stand at the right."""
    header = list(header)
    rule = ["---"] + ["---:" if numbers else "---"] * (len(header) - 1)
    lines = (header, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"


def plain(value: Any) -> str:
    """Any JSON value as short text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) if len(value) <= 8 else f"{len(value)} values"
    return str(value)


def size(n_bytes: float | int, digits: int = 3) -> str:
    """Bytes in binary units."""
    one, unit = pick_unit_and_suffix(int(n_bytes), ["B", "KiB", "MiB", "GiB", "TiB"], 1024)
    return f"{n_bytes / one:.{digits}g} {unit}"
