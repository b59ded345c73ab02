"""What a selection leaves: ``selection.json``, ``selection.md``, the chosen team, and the command that goes on."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ovmse.config import NO_ENV, Config, LearnerConfig
from ovmse.core.errors import number_of, typed_command
from ovmse.core.settings import changed_flags, describe
from ovmse.methods.going_online import online_of
from ovmse.ope.candidates import restore
from ovmse.ope.results import Agreed, Row, Selected, unsettled
from ovmse.ope.settings import Selecting
from ovmse.render import format as fmt
from ovmse.runs.metrics_file import checked_rows
from ovmse.runs.saved_config import read_described, read_spec
from ovmse.system import files, pytree_files

COLUMNS: dict[str, Callable[[Row], str]] = {
    "rank": lambda row: str(row.rank),
    "team": lambda row: row.candidate.name + ("" if row.covered else " *"),
    "FQE": lambda row: fmt.number(row.fqe),
    "95 %": lambda row: f"{fmt.number(row.fqe_low)}, {fmt.number(row.fqe_high)}",
    "joint": lambda row: fmt.score(row.agreement.coverage, "win_rate"),
    "agents": lambda row: fmt.score(row.agreement.agent_coverage, "win_rate"),
    "match": lambda row: fmt.plain(row.matching.value),
    "n": lambda row: str(row.matching.episodes),
    "own": lambda row: fmt.plain(row.own_value),
}
"""The table of teams, on the console and on the page: headings, and what stands below them."""
TRUE_COLUMNS: dict[str, Callable[[Agreed], str]] = {
    "column": lambda one: one.score,
    "against": lambda one: one.truth,
    "teams": lambda one: str(one.candidates),
    "Spearman": lambda one: fmt.score(one.spearman, "chance"),
    "Kendall": lambda one: fmt.score(one.kendall, "chance"),
    "regret@1": lambda one: f"{100 * one.regret:.1f} points" if one.truth == "win_rate" else f"{one.regret:.2f}",
}
"""The table of how columns agree with what was recorded."""
COPIED = ("dataset.json", "versions.json")
"""What of its run the first team keeps as it is: an export has the names of agents and actions from there."""
NOT_CARRIED_ON = (
    "method", "change", "out", "pretrained", "seed", "seeds", "data", "learner", "offline_updates", "keep_teams",
    "round",
)  # fmt: skip


def write(selecting: Selecting, selected: Selected) -> None:
    """Write all files into the selection's directory."""
    keep_chosen(selected)
    record = {
        "settings": describe(selecting),
        "logged_return": selected.logged,
        "teams": [
            row.record() | ({"recorded": row.candidate.recorded} if selecting.truth else {}) for row in selected.rows
        ],
        "truth": [dataclasses.asdict(one) for one in selected.truth],
        "next": next_command(selecting, selected),
    }
    files.write_json(selected.out / "selection.json", record)
    files.write_text(selected.out / "selection.md", markdown(selecting, selected))


def cells(columns: Mapping[str, Callable[[Any], str]], one: Row | Agreed) -> list[str]:
    """One row of text below the headings of a table."""
    return [cell(one) for cell in columns.values()]


def markdown(selecting: Selecting, selected: Selected) -> str:
    """The page of a selection."""
    uncovered = sum(not row.covered for row in selected.rows)
    text = [
        "# Selection",
        f"{number_of(len(selected.rows), 'team')}, judged by the log `{selecting.data}` alone, ranked by "
        f"`{selecting.score}`. FQE: fitted Q "
        f"evaluation, {selected.updates:,} updates, {selecting.fits} fit(s), γ = "
        f"{selecting.gamma}; the interval is over the log's first rows and the fits, and knows nothing of the fit's "
        f"bias. The log's own mean discounted return: {fmt.number(selected.logged)}.",
        fmt.markdown(COLUMNS, (cells(COLUMNS, row) for row in selected.rows)),
        "joint, agents: share of the log's joint choices, and of the agents' choices, that are the policy's; match: "
        "mean discounted return of the n episodes that follow it; own: what the team's own Q_tot says.",
    ]
    if uncovered:
        text.append(
            f"\\* Not covered ({uncovered}): less than {fmt.score(selecting.least_coverage, 'win_rate')} of the log's "
            "joint choices are the policy's, so that its estimate is extrapolated; ranked behind the others."
        )
    if said := unsettled(selected):
        text.append(said)
    if all(row.matching.value is None for row in selected.rows):
        text.append(
            f"No matching return: for no team do {selecting.least_matches} episodes follow it at "
            f"{fmt.score(selecting.match, 'win_rate')} of their joint choices."
        )
    if selected.truth:
        text += [
            "## Compared with what the runs recorded",
            "Greedy scores of the runs' own evaluations. No part of the choice: it measures what the choice is worth.",
            fmt.markdown(TRUE_COLUMNS, (cells(TRUE_COLUMNS, one) for one in selected.truth)),
        ]
    text += ["## Next", f"```\n{next_command(selecting, selected)}\n```"]
    return "\n\n".join(text) + "\n"


def keep_chosen(selected: Selected) -> None:
    """Write the first team as the offline phase of a run of one seed, which `ovmse train --pretrained` takes over."""
    one, out = selected.rows[0].candidate, selected.out / "chosen"
    if one.phase != "offline":
        return
    out.mkdir()
    config, spec = read_described(one.run) or {}, read_spec(one.run)
    assert spec is not None  # `check_fits` has compared it
    config |= {"seeds": 1, "seed": one.seed, "pretrained": None, "pretrained_seed": None, "out": None}
    files.write_json(out / "config.json", config | {"chosen_from": str(one.file)})
    for name in COPIED:
        if (one.run / name).is_file():
            shutil.copyfile(one.run / name, out / name)
    rows = [
        row
        for row in checked_rows(one.run / "metrics.jsonl")
        if row["phase"] == "offline" and row["seed"] == one.seed and row["updates"] <= one.place
    ]
    files.write_json_lines(out / "metrics.jsonl", rows)
    team: Any = jax.tree.map(lambda x: np.asarray(x)[[one.index]], restore(one, spec))
    pytree_files.save(out / "offline.safetensors", team)


def next_command(selecting: Selecting, selected: Selected) -> str:
    """The command that trains the first team on, online; or plays it, where it has been online; or exports it, where
    nothing can be played."""
    one = selected.rows[0].candidate
    if one.config.env == NO_ENV:
        chosen = (selected.out / "chosen",) if one.phase == "offline" else (one.run, "--teams", "last")
        return typed_command("export", *chosen, "--to", selected.out / "team")
    if one.phase != "offline":
        return typed_command("evaluate", one.run)
    method, changes = online_of(one.config.method, one.config.change, one.method.parts)
    words: list[object] = ["train", "--method", method, "--data", selecting.data]
    words += ["--pretrained", selected.out / "chosen", "--seed", str(one.seed)]
    words += changed_flags(one.config, Config(), NOT_CARRIED_ON)
    words += changed_flags(one.config.learner, LearnerConfig(), ())
    words += [word for change in changes for word in ("--change", change)]
    return typed_command(*words)
