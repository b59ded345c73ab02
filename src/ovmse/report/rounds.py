"""Batch rounds side by side, as a table of the page."""

from pathlib import Path

from ovmse.render import format as fmt
from ovmse.runs.rounds_file import RoundRecord, Rounds, Trial


def columns(rounds: Rounds) -> dict[str, list[str]]:
    """A row for each round, the first one first."""
    rows = [_cells(one) for one in rounds.rounds]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _cells(one: RoundRecord) -> dict[str, str]:
    return {
        "round": str(one.number),
        "logs": f"{Path(one.data).name} ({one.held_out} of {one.episodes} held out)",
        "method": one.method,
        "Q_off": one.offline_value,
        "updates": fmt.plain(one.updates),
        "behaviour": fmt.number(one.behaviour_return),
        "deployed": fmt.number(one.deployed.fqe),
        "new": fmt.number(one.new.fqe),
        "difference": _interval(one),
        "may lose": fmt.number(one.allowed),
        "coverage": fmt.score(one.new.coverage, "win_rate"),
        "trial": "–" if one.trial is None else _interval(one.trial),
        "verdict": "accepted" if one.accepted else "the deployed one stays",
    }


def _interval(one: RoundRecord | Trial) -> str:
    return f"{fmt.number(one.difference)} [{fmt.number(one.low)} to {fmt.number(one.high)}]"
