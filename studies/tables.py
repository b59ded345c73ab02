"""The tables of docs/results.md that are made of studies/results/, as Markdown.

python studies/tables.py
"""

from collections.abc import Sequence
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


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def long_episodes(lines: Sequence[dict[str, Any]]) -> str:
    """Of every method and game the largest mean |Q_tot| of any evaluation, and each seed's last return."""
    found = {(line["game"], line["method"]): line for line in lines}

    def cell(game: str, method: str) -> str:
        line = found.get((game, method))
        if line is None:
            return "not run"
        return (
            line.get("error") or f"{line['largest_q_tot']:.1f} ({', '.join(f'{x:.0f}' for x in line['final_return'])})"
        )

    methods = dict.fromkeys(line["method"] for line in lines)
    return markdown(("method", *GAMES), [(f"`{name}`", *(cell(game, name) for game in GAMES)) for name in methods])


def target_refresh(lines: Sequence[dict[str, Any]]) -> str:
    """Of every setting and task the mean online return over all evaluations, and in brackets that of the last two."""
    found = {(line["task"], line["setting"]): line for line in lines}

    def cell(task: str, setting: str) -> str:
        line = found.get((task, setting))
        if line is None:
            return "not run"
        return f"{np.mean(line['mean_return']):.2f} ({np.mean(line['final_return']):.2f})".replace("-", "−")

    rows = [(text, *(cell(task, setting) for task in TASKS)) for setting, text in SETTINGS.items()]
    return markdown(("target network", *TASKS), rows)


TABLES = {"long_episodes": long_episodes, "target_refresh": target_refresh}


def made(name: str) -> str:
    """The table of one study, of all its results so far."""
    return TABLES[name](read_json_lines(RESULTS / f"{name}.jsonl"))


if __name__ == "__main__":
    for name in TABLES:
        print(f"{name}\n\n{made(name)}")
