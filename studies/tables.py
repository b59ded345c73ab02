"""The tables of docs/results.md that are made of studies/results/, as Markdown.

python studies/tables.py
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.system.files import read_json_lines

RESULTS = Path(__file__).parent / "results"
GAMES = ("two_step after 58 steps", "climbing", "two_step")
SETTINGS = {
    "copy every 200": "a copy every 200 updates (the default before)",
    "copy every 50": "a copy every 50 updates",
    "rate 0.01": "0.01 per update",
    "rate 0.02": "0.02 per update (the default)",
    "rate 0.05": "0.05 per update",
}
TASKS = ("3m", "two_step, 58 steps of waiting", "simple_spread", "2s3z")


def table(
    corner: str,
    columns: Sequence[str],
    rows: dict[str, str],
    cells: dict[tuple[str, str], dict[str, Any]],
    show: Callable[[dict[str, Any]], str],
) -> str:
    """A table in Markdown. rows: each one's name, and what it is called; cells: the lines by column and row."""
    lines: list[list[str]] = [[corner, *columns], ["---", *("---:" for _ in columns)]]
    for row, text in rows.items():
        there = (cells.get((column, row)) for column in columns)
        lines.append([text, *("not run" if line is None else show(line) for line in there)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def long_episodes(lines: Sequence[dict[str, Any]]) -> str:
    """Of every method and game the largest mean |Q_tot| of any evaluation, and each seed's last return."""

    def show(line: dict[str, Any]) -> str:
        returns = ", ".join(f"{x:.0f}" for x in line.get("final_return", ()))
        return line.get("error") or f"{line['largest_q_tot']:.1f} ({returns})"

    methods = {line["method"]: f"`{line['method']}`" for line in lines}
    return table("method", GAMES, methods, {(line["game"], line["method"]): line for line in lines}, show)


def target_refresh(lines: Sequence[dict[str, Any]]) -> str:
    """Of every setting and task the mean online return over all evaluations, and in brackets that of the last two."""

    def show(line: dict[str, Any]) -> str:
        return f"{np.mean(line['mean_return']):.2f} ({np.mean(line['final_return']):.2f})".replace("-", "−")

    return table("target network", TASKS, SETTINGS, {(line["task"], line["setting"]): line for line in lines}, show)


TABLES = {"long_episodes": long_episodes, "target_refresh": target_refresh}


def made(name: str) -> str:
    """The table of one study, of all its results so far."""
    return TABLES[name](read_json_lines(RESULTS / f"{name}.jsonl"))


if __name__ == "__main__":
    for name in TABLES:
        print(f"{name}\n\n{made(name)}")
