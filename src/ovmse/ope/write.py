"""What a selection leaves: ``selection.json``, ``selection.md``, the chosen team, and the command that goes on."""

import dataclasses
from collections.abc import Sequence
from shlex import quote
from typing import Any

import jax
import numpy as np

from ovmse import methods
from ovmse.config import Config, LearnerConfig, changed_flags, describe
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.methods.overrides import change_method
from ovmse.ope.candidates import Candidate, restore
from ovmse.ope.results import TRUTHS, Agreed, Row, Selected
from ovmse.ope.settings import Selecting
from ovmse.render.format import number
from ovmse.system import files, pytree_files

HEADER = ("rank", "team", "FQE", "95 %", "joint", "agents", "match", "n", "own")
TRUE_HEADER = ("column", "against", "teams", "Spearman", "Kendall", "regret@1")
STRATEGIES = ("ovmse", "jsrl")


def write(selecting: Selecting, selected: Selected) -> None:
    """Write all files into the selection's directory."""
    keep_chosen(selected)
    record = {
        "settings": describe(selecting),
        "logged_return": selected.logged,
        "teams": [as_json(row, selecting.truth) for row in selected.rows],
        "truth": [dataclasses.asdict(one) for one in selected.truth],
        "next": next_command(selecting, selected),
    }
    files.write_json(selected.out / "selection.json", record)
    (selected.out / "selection.md").write_text(markdown(selecting, selected), encoding="utf-8")


def as_json(row: Row, truth: bool) -> dict[str, Any]:
    """A row in full, with the recorded scores where they were asked for."""
    one, found, matching = row.candidate, row.agreement, row.matching
    recorded = {"recorded": one.row and {name: one.row[name] for name in TRUTHS}} if truth else {}
    return recorded | {
        "rank": row.rank,
        "team": one.name,
        "run": str(one.run),
        "method": one.config.method,
        "seed": one.seed,
        "phase": one.phase,
        "file": str(one.file),
        "updates" if one.phase == "offline" else "env_steps": int(one.place),
        "fqe": row.fqe,
        "fqe_low": row.fqe_low,
        "fqe_high": row.fqe_high,
        "td_error": row.td_error,
        "own_value": row.own_value,
        "coverage": found.coverage,
        "agent_coverage": found.agent_coverage,
        "coverage_by_agent": list(found.by_agent),
        "covered": row.covered,
        "matching_return": matching.value,
        "matching_low": matching.low,
        "matching_high": matching.high,
        "matching_episodes": matching.episodes,
        "matching_refused": matching.reason,
    }


def cells(row: Row) -> list[str]:
    """One row of text, in the order of `HEADER`."""
    found, matching = row.agreement, row.matching
    return [
        str(row.rank),
        row.candidate.name + ("" if row.covered else " *"),
        number(row.fqe),
        f"{number(row.fqe_low)}, {number(row.fqe_high)}",
        percent(found.coverage),
        percent(found.agent_coverage),
        "–" if matching.value is None else number(matching.value),
        str(matching.episodes),
        "–" if row.own_value is None else number(row.own_value),
    ]


def true_cells(one: Agreed) -> list[str]:
    """One row of the comparison with what was recorded, in the order of `TRUE_HEADER`."""
    regret = f"{100 * one.regret:.1f} points" if one.truth == "win_rate" else f"{one.regret:.2f}"
    return [
        one.score,
        one.truth,
        str(one.candidates),
        "–" if one.spearman is None else f"{one.spearman:.2f}",
        "–" if one.kendall is None else f"{one.kendall:.2f}",
        regret,
    ]


def percent(share: float | None) -> str:
    """A share in percent; nothing as a dash."""
    return "–" if share is None else f"{100 * share:.0f} %"


def markdown(selecting: Selecting, selected: Selected) -> str:
    """The page of a selection."""
    uncovered = sum(not row.covered for row in selected.rows)
    text = [
        "# Selection",
        f"{len(selected.rows)} teams, judged by the log `{selecting.data}` alone, ranked by `{selecting.score}`. FQE: "
        f"fitted Q evaluation, {selecting.updates} updates, {selecting.fits} fit(s), mixer {selecting.mixer}, γ = "
        f"{selecting.gamma}; the interval is over the log's first rows and the fits, and knows nothing of the fit's "
        f"bias. The log's own mean discounted return: {number(selected.logged)}.",
        _table(HEADER, [cells(row) for row in selected.rows]),
        "joint, agents: share of the log's joint choices, and of the agents' choices, that are the policy's; match: "
        "mean discounted return of the n episodes that follow it; own: what the team's own Q_tot says.",
    ]
    if uncovered:
        text.append(
            f"\\* Not covered ({uncovered}): less than {percent(selecting.least_coverage)} of the log's joint choices "
            "are the policy's, so that its estimate is extrapolated; ranked behind the others."
        )
    if all(row.matching.value is None for row in selected.rows):
        text.append(
            f"No matching return: for no team do {selecting.least_matches} episodes follow it at "
            f"{percent(selecting.match)} of their joint choices."
        )
    if selected.truth:
        text += [
            "## Compared with what the runs recorded",
            "Greedy scores of the runs' own evaluations. No part of the choice: it measures what the choice is worth.",
            _table(TRUE_HEADER, [true_cells(one) for one in selected.truth]),
        ]
    text += ["## Next", f"```\n{next_command(selecting, selected)}\n```"]
    return "\n\n".join(text) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def keep_chosen(selected: Selected) -> None:
    """Write the first team as the offline phase of a run of one seed, which `ovmse train --pretrained` takes over."""
    one, out = selected.rows[0].candidate, selected.out / "chosen"
    if one.phase != "offline":
        return
    out.mkdir()
    config = files.read_json(one.run / "config.json")
    spec = EnvSpec(**config["env_spec"])
    config |= {"seeds": 1, "seed": one.seed, "pretrained": None, "out": None}
    files.write_json(out / "config.json", config | {"chosen_from": str(one.file)})
    rows = files.read_json_lines(one.run / "metrics.jsonl")
    files.write_json_lines(out / "metrics.jsonl", [row for row in rows if _until(row, one)])
    team: Any = jax.tree.map(lambda x: np.asarray(x)[[one.index]], restore(one, spec))
    pytree_files.save(out / "offline.safetensors", team)


def _until(row: dict[str, Any], one: Candidate) -> bool:
    return row["phase"] == "offline" and row["seed"] == one.seed and row["updates"] <= int(one.place)


def next_command(selecting: Selecting, selected: Selected) -> str:
    """The command that trains the first team on, online; or plays it, where it has been online."""
    one = selected.rows[0].candidate
    if one.phase != "offline":
        return f"ovmse evaluate {quote(str(one.run))}"
    method, changes = online_of(one)
    skip = (
        "method",
        "change",
        "out",
        "pretrained",
        "seed",
        "seeds",
        "data",
        "learner",
        "offline_updates",
        "keep_teams",
    )
    words = ["ovmse", "train", "--method", method, "--data", str(selecting.data)]
    words += ["--pretrained", str(selected.out / "chosen"), "--seed", str(one.seed)]
    words += changed_flags(one.config, Config(), skip) + changed_flags(one.config.learner, LearnerConfig(), ())
    words += [word for change in changes for word in ("--change", change)]
    return " ".join(map(quote, words))


def online_of(one: Candidate) -> tuple[str, list[str]]:
    """The method, and the changes to it, that go on online from a candidate: its own, or where that has no online
    phase a strategy with its objective."""
    changes = [change for change in one.config.change if change.partition("=")[0].strip() != "online_target"]
    name = one.config.method
    for wanted in (name, *(f"{strategy}+{name}" for strategy in STRATEGIES)):
        try:
            method = change_method(methods.find(wanted), tuple(changes))
        except UserError:
            continue
        if method.online_target is not None and method.parts == one.method.parts:
            return wanted, changes
    return name, changes
