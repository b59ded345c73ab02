"""Tables with one row per step and agent: Parquet, CSV or Arrow, in one file or in a directory of them.

Read in constant memory, a block of some 16 MiB at a time; an episode has to fit in memory.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from ovmse.core.errors import UserError, check_known
from ovmse.data.formats.reading import bounded, decoding, settled_actions
from ovmse.data.formats.table import unlike
from ovmse.data.formats.table.actions import Actions, binned, by_masks, named
from ovmse.data.formats.table.cells import Cells, time_advice
from ovmse.data.formats.table.columns import Columns, TableLayout, draft, layout
from ovmse.data.formats.table.files import Table
from ovmse.data.formats.table.grouping import Grouping, Team, team_of
from ovmse.data.formats.table.rules import TableRules, table_rules
from ovmse.data.formats.table.whole import sorted_by_episode, whole_episodes
from ovmse.data.formats.table.writer import METADATA_KEY
from ovmse.data.raw_episode import NO_CHECKSUMS, Source
from ovmse.data.schema import NAMED, Names

T = TypeVar("T")


def read(
    path: Path,
    *,
    n_actions: int | None = None,
    columns: Columns | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
    **options: Any,
) -> Source:
    """Open a table: `path` is a file, or a directory of files of one kind, read in natural order.

    n_actions counts where there are no masks; without either, the actions are read once to find the largest. broken:
    skip hands on an episode with an empty cell or a missing row as one that cannot be used. options: fields of
    `TableRules`, such as ``missing_agents="idle"``.

    Raises `UserError` where columns are missing or of another type; rows are checked as they are read.
    """
    check_known("value of broken", broken, ("refuse", "skip"))
    rules = table_rules(str(path), options)
    table = open_table(path, rules)
    lay = layout(str(path), columns or Columns(), table.kinds, rules.binned())
    _check_steps_are_numbers(table, lay, rules)
    actions, size = _actions(table, lay, rules, n_actions)
    owned = _owned(table, lay, actions) if rules.unlike_agents == "pad" else {}
    decode = functools.partial(_rows, table, lay, rules, actions)
    blocks = _decoded(table, dict(lay.roles()), decode, broken == "skip", unlike.lacking(owned, lay))
    if rules.unsorted == "sort":
        blocks = sorted_by_episode(blocks, table)
    wholes = whole_episodes(blocks, table)
    first = next(wholes, None)  # it says who the agents are
    team = Team({}, 0) if first is None else team_of(first, rules.time_step is not None)
    masks = unlike.legal(owned, team.agents, size) if owned else None
    grouping = Grouping(table, rules, team, size, masks, holes=broken == "skip")
    facts: dict[str, Any] = {"columns": lay.facts(), **_stated(table)}
    return Source(
        name=str(path),
        format=table.format,
        episodes=grouping.episodes(itertools.chain(() if first is None else (first,), wholes)),
        n_actions=size,
        assumed=(
            *actions.assumed,
            *_assumed(table, lay, rules),
            *unlike.said(owned, lay, bool(lay.avail), actions.names),
            NO_CHECKSUMS,  # Parquet's pages may have some, its footer has none
        ),
        facts=bounded(facts),
        names=_with_stated(_names(table, lay, team, actions), facts, size),
        kinds=unlike.kinds(owned, team.agents, bool(lay.avail)) if owned else (),
    )


def open_table(path: Path, rules: TableRules) -> Table:
    """The files of a table, opened by the rules."""
    return Table(path, rules.separator, rules.decimal, union=rules.unlike_agents == "pad")


def columns_draft(path: Path, columns: Columns, rules: TableRules) -> str:
    """The text of a TOML file that names a table's columns as far as they are found, to be edited."""
    return draft(str(path), columns, open_table(path, rules).kinds) + "\n"


def _rows(table: Table, lay: TableLayout, rules: TableRules, actions: Actions, cells: Cells) -> Any:
    return table.file_of(cells.row[0]), cells.rows(lay, actions.read, rules.time_step is not None)


def _decoded(
    table: Table,
    columns: dict[str, str],
    decode: Callable[[Cells], T],
    holes: bool = False,
    absent: Mapping[Any, frozenset[str]] | None = None,
) -> Iterator[T]:
    """What `decode` makes of the batches of the given columns (by name, with their roles); see `Cells`."""
    widths: dict[str, int] = {}
    for first, data in table.batches(columns):
        with decoding(f"{table.path}: damaged, or no {table.format} file"):
            row = np.arange(first, first + data.num_rows)
            decoded = decode(Cells(data, row, table.place, widths, holes, absent or {}))
        yield decoded


def _check_steps_are_numbers(table: Table, lay: TableLayout, rules: TableRules) -> None:
    """Refuse times as steps unless it is said how long a step is; the message has what the first rows say."""
    if rules.time_step is not None or not table.is_words(lay.step):
        return
    roles = {name: role for name, role in lay.roles() if name in (lay.episode, lay.step, lay.agent)}
    first = next(_decoded(table, roles, lambda cells: _first_readings(cells.without_blanks(lay), lay)), np.zeros(0))
    raise UserError(
        f"{table.place(0)}, column {lay.step!r}: expected a step, a whole number from 0 or 1, got another kind."
        f"{time_advice(first)}"
    )


def _first_readings(cells: Cells, lay: TableLayout) -> np.ndarray:
    """The times of the first agent in the first episode of a block, (n,)."""
    episode, agent = cells.ids(lay.episode), cells.ids(lay.agent)
    return cells.times(lay.step)[(episode == episode[0]) & (agent == agent[0])] if len(agent) else np.zeros(0)


def _actions(table: Table, lay: TableLayout, rules: TableRules, n_actions: int | None) -> tuple[Actions, int]:
    """How actions are read, and A."""
    where, columns = str(table.path), dict.fromkeys(lay.action, "action")
    scan = functools.partial(_decoded, table, columns)
    actions = Actions(lay.action, rules.action_names or None)
    if rules.bins:
        actions = binned(where, rules.binned(), scan)
    elif table.is_words(lay.action[0]):
        actions = named(where, lay.action[0], scan, rules.action_names)
        actions = actions if rules.action_names else by_masks(where, lay.avail, actions)
    if lay.avail and table.kinds[lay.avail[0]] == "list":
        masks = next(_decoded(table, {lay.avail[0]: "avail"}, lambda cells: cells.lists(lay.avail[0])[1]), None)
        if masks is None:
            raise UserError(f"{table.path}: the table has no rows.")
    else:
        masks = len(lay.avail) or None
    if actions.names is None:
        size = settled_actions(table.path, masks, "avail", n_actions, lambda: _largest_action(table, lay))
        told = masks is not None or n_actions is not None
        note = () if told else (f"the largest action in the table is {size - 1}: {size} actions",)
        return actions._replace(assumed=note), size
    stated = len(actions.names) if n_actions is None else n_actions
    size = settled_actions(table.path, masks, "avail", stated)
    if size != len(actions.names):
        listed = ", ".join(actions.names[:12])
        raise UserError(
            f"{table.path}: expected {size} actions, {'as n_actions says' if n_actions else 'as avail has'}, got "
            f"{len(actions.names)} by name: {listed}. Name all of them, in their order: --action-names NAME NAME ..."
        )
    return actions, size


def _largest_action(table: Table, lay: TableLayout) -> int:
    (column,) = lay.action
    blocks = _decoded(table, {column: "action"}, lambda cells: int(cells.action(column).max()))
    if (largest := max(blocks, default=-1)) < 0:
        raise UserError(f"{table.path}: no row with an action. Write the table again.")
    return largest


def _owned(table: Table, lay: TableLayout, actions: Actions) -> dict[Any, unlike.Own]:
    """The features and actions that each agent has at all."""
    return unlike.together(_decoded(table, dict(lay.roles()), lambda cells: unlike.own(cells, lay, actions)))


def _names(table: Table, lay: TableLayout, team: Team, actions: Actions) -> Names:
    """What the table calls agents, actions and features; agents 0 to N-1 and lists have no names."""
    is_list = {
        role: table.kinds[names[0]] == "list" for role, names in (("obs", lay.obs), ("state", lay.state)) if names
    }
    agents = None if list(team.agents) == list(range(len(team.agents))) else tuple(map(str, team.agents))
    features = None if is_list["obs"] else lay.obs
    if lay.state:
        return Names(agents, actions.names, features, None if is_list["state"] else lay.state)
    each = [f"{name} {feature}" for name in agents or range(len(team.agents)) for feature in features or ()]
    return Names(agents, actions.names, features, tuple(each) or None)


def _with_stated(names: Names, facts: Mapping[str, Any], n_actions: int) -> Names:
    """The names, and where columns have none those that our own export states in its metadata."""
    stated = facts.get("metadata", {})
    sizes = stated.get("env") if isinstance(stated.get("env"), dict) else {}
    if sizes.get("n_actions") != n_actions:  # somebody has changed the table since
        return names
    given = {kind: _texts(stated.get(kind), sizes.get(size)) for kind, size in NAMED.items()}
    return Names(*(own or given[kind] for kind, own in names._asdict().items()))


def _texts(given: Any, size: Any) -> tuple[str, ...] | None:
    """A list of so many different texts; None for anything else."""
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return None
    return tuple(given) if len(given) == len(set(given)) == size else None


def _assumed(table: Table, lay: TableLayout, rules: TableRules) -> Iterator[str]:
    if lay.done is None:
        yield "no done column: every episode counts as cut"
    else:
        yield "a final row that is done ends the task with the step before it"
    if lay.done is not None and lay.truncated is not None:
        yield "a step that is both done and truncated counts as cut"
    if table.format == "CSV":
        yield "numbers in text are read in single precision"
    if rules.time_step is not None:
        yield f"times are counted in steps of {rules.time_step:g} s from each episode's first"
    if rules.unsorted == "sort":
        yield "rows were sorted by episode"
    if rules.missing_agents == "idle":
        masks = "" if lay.avail else "; there are no masks, so all actions of the others are legal"
        yield (
            "agents without a row at a step are out of play: zeros seen, only action 0, and the reward that the others "
            f"agree on throughout the episode, else 0{masks}"
        )
    if table.is_text(lay.agent):
        yield "agents are numbered in the natural order of their names"


def _stated(table: Table) -> dict[str, Any]:
    """What our own export says of the play."""
    try:
        metadata = json.loads(table.metadata.get(METADATA_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return {"metadata": metadata} if metadata and isinstance(metadata, dict) else {}
