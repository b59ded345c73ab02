"""Batch rounds side by side, as a table of the page."""

from pathlib import Path

from ovmse.render import format as fmt
from ovmse.runs.rounds_file import RoundRecord, Rounds, Trial


def columns(rounds: Rounds) -> dict[str, list[str]]:
    """A row for each round, the first one first."""
    rows = [_cells(one) for one in rounds.rounds]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _cells(one: RoundRecord) -> dict[str, str]:
    verdict = "accepted" if one.accepted else "the deployed one stays"
    return {  # what matters first: the table is wider than a page
        "round": str(one.number),
        "verdict": f"{verdict}; trial {_interval(one.trial)}" if one.trial else verdict,
        "difference": _interval(one),
        "may lose": fmt.number(one.allowed),
        "coverage": fmt.score(one.new.coverage, "win_rate"),
        "new": fmt.number(one.new.fqe),
        "deployed": fmt.number(one.deployed.fqe),
        "behaviour": fmt.number(one.behaviour_return),
        "logs": f"{Path(one.data).name} ({one.held_out} of {one.episodes} held out)",
        "method": one.method,
        "Q_off": one.offline_value,
        "updates": fmt.plain(one.updates),
    }


def _interval(one: RoundRecord | Trial) -> str:
    return f"{fmt.number(one.difference)} [{fmt.number(one.low)} to {fmt.number(one.high)}]"
