"""How a table is read whose rows are not as expected: what the user says of it, one option for each quirk."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ovmse.core.errors import UserError, check_known, option

MissingAgents = Literal["refuse", "idle"]
UnlikeAgents = Literal["refuse", "pad"]
Unsorted = Literal["refuse", "sort"]
Gaps = Literal["refuse", "split", "repeat"]


@dataclass(frozen=True)
class TableRules:
    """How the rows of a table are read, where they are not as expected."""

    missing_agents: MissingAgents = "refuse"
    """an agent without a row at a step is refused, or idle (out of play)"""
    unlike_agents: UnlikeAgents = "refuse"
    """features that an agent never has are refused, or padded with 0, and so are actions, with some never legal"""
    unsorted: Unsorted = "refuse"
    """rows of an episode that lie apart are refused, or sorted in memory; an id is the same episode in all files"""
    gaps: Gaps = "refuse"
    """a missing step is refused, splits its episode, or stands as a repetition of the one before, with reward 0"""
    time_step: float | None = None
    """the seconds of a step, where the column of steps holds times (ISO 8601, or unix in s, ms, µs, ns)"""
    bins: tuple[str, ...] = ()
    """continuous columns that are the action, each with its number of bins of equal frequency, such as speed=5"""
    action_names: tuple[str, ...] = ()
    """the actions by name, in the order of their numbers; by default names are numbered in natural order"""
    separator: str | None = None
    """between the cells of a CSV file, where its first line does not tell"""
    decimal: str = "."
    """the decimal sign in a CSV file, a point or a comma"""

    def __post_init__(self) -> None:
        for name, kind in (("missing_agents", MissingAgents), ("unlike_agents", UnlikeAgents),
                           ("unsorted", Unsorted), ("gaps", Gaps)):  # fmt: skip
            check_known(f"value of {option(name)}", getattr(self, name), get_args(kind))
        check_known("decimal sign", self.decimal, (".", ","))
        if self.time_step is not None and not 0 < self.time_step < float("inf"):
            raise UserError(f"--time-step: expected seconds above 0, got {self.time_step}.")
        if twice := [name for name in self.action_names if self.action_names.count(name) > 1]:
            raise UserError(f"--action-names: {twice[0]!r} comes twice. Give every action a name of its own.")
        if self.bins and self.action_names:
            raise UserError("--action-names: the bins of --bins have names already. Leave one of the two out.")
        self.binned()

    def binned(self) -> dict[str, int]:
        """The columns to bin, with their numbers of bins."""
        found: dict[str, int] = {}
        for text in self.bins:
            name, _, count = text.rpartition("=")
            if not (name and count.isascii() and count.isdigit() and int(count) > 1):
                raise UserError(f"--bins: expected COLUMN=NUMBER with 2 bins or more, such as speed=5, got {text!r}.")
            if name in found:
                raise UserError(f"--bins: column {name!r} comes twice. Say once how many bins it has.")
            found[name] = int(count)
        return found


def table_rules(where: str, options: Mapping[str, Any]) -> TableRules:
    """The rules that the options are. Raises `UserError` for options that a table does not have."""
    if strange := set(options) - {field.name for field in fields(TableRules)}:
        raise UserError(f"{where}: the format table has no use for {', '.join(sorted(strange))}.")
    return TableRules(**options)
