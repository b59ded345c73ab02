"""The columns of a table with one row per step and agent: which one holds what.

Column kinds: "int", "float", "bool", "text", "time", "list" (of numbers), "other", or "cell" where a text file does not
tell.
"""

import contextlib
import dataclasses
import fnmatch
import json
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError, check_known


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table; those that are not named are looked for under their usual names."""

    episode: str | None = None
    """the episode of a row, a number or a name; its rows follow each other (episode, episode_id, ep)"""
    step: str | None = None
    """the step within the episode, from 0 or from 1, or its time (step, timestep, time_step, t, time, timestamp)"""
    agent: str | None = None
    """the agent, a number or a name (agent, agent_id)"""
    obs: tuple[str, ...] = ()
    """what the agent sees before it acts: columns in this order, patterns such as obs_*, or one column of lists"""
    state: tuple[str, ...] = ()
    """the global state, named like obs; the same in the rows of all agents of a step"""
    action: str | None = None
    """what the agent did, by number from 0 on or by name; empty after the last step (action, actions, act)"""
    reward: str | None = None
    """the reward of the step, of the team or of this agent; empty after the last step (reward, rewards)"""
    done: str | None = None
    """the task ended with this step, for all agents that have a row there (terminal, terminated, done, dones)"""
    truncated: str | None = None
    """the episode was cut off after this step; then it is no end of the task, whatever done says (truncated)"""
    avail: tuple[str, ...] = ()
    """the legal actions as 0 and 1, in the order of the actions, named like obs (avail_*, action_mask)"""
    won: str | None = None
    """the episode was won, in any of its rows (won, win, battle_won)"""


class TableLayout(NamedTuple):
    """The columns that were found; None and () are what the table lacks."""

    episode: str
    step: str
    agent: str
    obs: tuple[str, ...]
    action: tuple[str, ...]
    reward: str
    state: tuple[str, ...]
    avail: tuple[str, ...]
    done: str | None
    truncated: str | None
    won: str | None

    def roles(self) -> list[tuple[str, str]]:
        """The columns' names, each with a role that it has."""
        groups = {role: (value,) if isinstance(value, str) else value or () for role, value in self._asdict().items()}
        return [(name, role) for role, names in groups.items() for name in names]

    def facts(self) -> dict[str, str]:
        """The columns of each role in words."""
        return {role: _few(value) for role, value in self._asdict().items() if value}


USUAL = {
    "episode": ("episode", "episode_id", "ep"),
    "step": ("step", "timestep", "time_step", "t", "time", "timestamp"),
    "agent": ("agent", "agent_id"),
    "action": ("action", "actions", "act"),
    "reward": ("reward", "rewards"),
    "done": ("terminal", "terminated", "terminals", "terminations", "done", "dones"),
    "truncated": ("truncated", "truncations", "truncation"),
    "won": ("won", "win", "battle_won"),
    "obs": ("obs", "observation", "observations"),
    "state": ("state", "states"),
    "avail": ("avail", "avail_actions", "action_mask", "legal", "legals"),
}
GROUPS = ("obs", "state", "avail")
REQUIRED = ("episode", "step", "agent", "obs", "action", "reward")
NUMBERS = ("int", "float", "bool", "cell")
ALLOWED = {
    "episode": ("int", "float", "text", "cell"),
    "step": ("int", "float", "text", "time", "cell"),
    "agent": ("int", "float", "text", "cell"),
    "action": (*NUMBERS, "text"),
    **dict.fromkeys(("reward", "done", "truncated", "won"), NUMBERS),
    **dict.fromkeys(GROUPS, (*NUMBERS, "list")),
}


def load_columns(path: Path) -> Columns:
    """The columns that a JSON or TOML file names, such as ``{"episode": "run", "obs": ["x", "y"]}``.

    Raises `UserError` for files that cannot be read, keys that are not fields of `Columns`, and other types.
    """
    try:
        text = path.read_text("utf-8")
        named: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON or TOML file that names columns: {error}.") from error
    if not isinstance(named, dict):
        raise UserError(f"{path}: expected an object with the fields of the columns, got {type(named).__name__}.")
    known = [field.name for field in dataclasses.fields(Columns)]
    for role, value in named.items():
        check_known(f"field in {path}:", role, known)
        names = tuple(value) if role in GROUPS and isinstance(value, list) else (value,)
        if not all(isinstance(name, str) for name in names):
            kind = "a name or a list of names" if role in GROUPS else "a name"
            raise UserError(f"{path}: {role}: expected {kind}, got {value!r}.")
        named[role] = names if role in GROUPS else value
    return Columns(**named)


def natural(name: str) -> list[tuple[int, int, str]]:
    """The key that sorts obs_2 before obs_10."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def is_number(text: str) -> bool:
    """Whether the text is a number."""
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


def layout(where: str, columns: Columns, kinds: Mapping[str, str], binned: Collection[str] = ()) -> TableLayout:
    """The columns of a table whose columns have `kinds`, in their order. binned: those that are the action in bins.

    Raises `UserError` where a named column is missing, a needed one has none of the usual names, one column would
    have two roles, or a column does not hold what its role needs.
    """
    found = _found(where, columns, kinds, binned)
    if missing := [role for role in REQUIRED if not found[role]]:
        looked = (f"{', '.join(USUAL[role])}{' and numbered ones' if role in GROUPS else ''}" for role in missing)
        alike = "".join(_alike(role, kinds) for role in missing)
        options = " ".join(f"--columns.{role} NAME" for role in missing)
        raise UserError(
            f"{where}: no column for {', '.join(missing)}: looked for {'; '.join(looked)}; the columns are "
            f"{_few(tuple(kinds))}. {alike}Name what is missing: {options}. Or save these lines as columns.toml "
            "(--draft columns.toml does that), correct them, and add --mapping columns.toml:\n"
            f"{_draft(found, kinds)}"
        )
    result = TableLayout(**found)
    _check_kinds(where, result, kinds)
    uses = Counter(name for name, _ in result.roles())
    if twice := [name for name, times in uses.items() if times > 1]:
        raise UserError(f"{where}: column {twice[0]!r} has more than one role. Name another one for each role.")
    return result


def draft(where: str, columns: Columns, kinds: Mapping[str, str]) -> str:
    """The text of a TOML file that names the columns as far as they were found, to be edited."""
    return _draft(_found(where, columns, kinds, ()), kinds)


def _draft(found: Mapping[str, Any], kinds: Mapping[str, str]) -> str:
    used = {name for value in found.values() for name in ((value,) if isinstance(value, str) else value or ())}
    free = ", ".join(name for name in kinds if name not in used)
    lines = [f"# Columns without a role: {free or 'none'}."]
    for role in (*REQUIRED, *(role for role in USUAL if role not in REQUIRED)):
        value = found[role][0] if role == "action" and found[role] else found[role]
        blank = ["?"] if role in GROUPS else "?"
        text = json.dumps(value or blank, ensure_ascii=False)
        mark = "# " if not value and role not in REQUIRED else ""
        lines.append(f"{mark}{role} = {text}" + ("" if value else "  # needed" if role in REQUIRED else "  # optional"))
    return "\n".join(lines)


def _found(where: str, columns: Columns, kinds: Mapping[str, str], binned: Collection[str]) -> dict[str, Any]:
    """The columns of every role, nothing where there are none."""
    found: dict[str, Any] = {}
    for role, usual in USUAL.items():
        named = getattr(columns, role)
        if role in GROUPS:
            found[role] = _named_group(where, role, named, kinds) if named else _usual_group(role, usual, kinds)
        elif named is not None:
            check_known(f"column in {where}:", named, kinds)
            found[role] = named
        else:
            found[role] = next((n for n in usual if kinds.get(n) in ALLOWED[role]), None)
    for name in binned:
        check_known(f"column in {where}:", name, kinds)
    found["action"] = tuple(binned) or ((found["action"],) if found["action"] else ())
    return found


def _alike(role: str, kinds: Mapping[str, str]) -> str:
    """The question whether columns are meant whose names differ from the usual ones in case and blanks only."""
    usable = {name.strip().lower(): name for name, kind in kinds.items() if kind in ALLOWED[role]}
    found = _usual_group(role, USUAL[role], {name: kinds[shown] for name, shown in usable.items()})
    if role not in GROUPS:
        found = tuple(name for name in USUAL[role] if name in usable)[:1]
    names = dict.fromkeys(re.sub(r"[0-9]+\]?$", "*", usable[n]) if len(found) > 1 else usable[n] for n in found)
    return f"Did you mean --columns.{role} {shlex.join(names)}? " if names else ""


def _named_group(where: str, role: str, named: Iterable[str], kinds: Mapping[str, str]) -> tuple[str, ...]:
    names: list[str] = []
    for name in named:
        if name in kinds or "*" not in name:
            check_known(f"column in {where}:", name, kinds)
            names.append(name)
            continue
        matches = sorted(fnmatch.filter(kinds, name), key=natural)
        if not matches:
            raise UserError(f"{where}: {role}: no column matches {name!r}; the columns are {_few(tuple(kinds))}.")
        names += matches
    return tuple(names)


def _usual_group(role: str, usual: Iterable[str], kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Numbered columns such as obs_0, obs_1, or one column, of a usual name."""
    for base in usual:
        pattern = re.compile(re.escape(base) + r"[_.\-\[]?[0-9]+\]?")
        numbered = [name for name, kind in kinds.items() if kind in NUMBERS and pattern.fullmatch(name)]
        if numbered:
            return tuple(sorted(numbered, key=natural))
        if kinds.get(base) in ALLOWED[role]:
            return (base,)
    return ()


def _check_kinds(where: str, found: TableLayout, kinds: Mapping[str, str]) -> None:
    for name, role in found.roles():
        if kinds[name] not in ALLOWED[role]:
            needed = "whole numbers or text" if role in ("episode", "agent", "step", "action") else "numbers"
            raise UserError(f"{where}: {role}: column {name!r}: expected {needed}, got {kinds[name]} values.")
    for role in GROUPS:
        names = getattr(found, role)
        if len(names) > 1 and (lists := [name for name in names if kinds[name] == "list"]):
            raise UserError(f"{where}: {role}: column {lists[0]!r} holds lists: expected it alone, or plain columns.")
    numbers = [re.findall(r"[0-9]+", name)[-1:] for name in found.avail]
    if len(numbers) > 1 and all(numbers):
        places = [int(n[0]) for n in numbers]
        if places != list(range(places[0], places[0] + len(places))):
            raise UserError(
                f"{where}: avail: expected one column per action, numbered without gaps, got {_few(found.avail)}."
            )


def _few(names: str | tuple[str, ...]) -> str:
    if isinstance(names, str):
        return names
    if len(names) <= 12:
        return ", ".join(names)
    return f"{', '.join(names[:3])} ... {names[-1]} ({len(names)} columns)"
