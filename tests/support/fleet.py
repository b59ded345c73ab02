"""Logs of a small fleet of robots as they come from the field: one clean log, and each quirk on its own.

``python tests/support/fleet.py FOLDER`` writes all of them.
"""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

Row = dict[str, object]
ROBOTS = ("crane", "truck")
ACTIONS = ("brake", "drive", "lift")
LENGTHS = (4, 6, 5)
START = datetime(2024, 5, 1, 8, tzinfo=UTC)


def clean() -> list[Row]:
    """Three shifts of two robots: a row per step and robot, and one for what each saw after the last step."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for shift, steps in enumerate(LENGTHS):
        for t in range(steps + 1):
            reward = round(float(rng.normal()), 2)
            for i in range(len(ROBOTS)):
                seen = np.round(rng.normal(size=3), 2).tolist()
                row: Row = {"episode": shift, "step": t, "agent": i, **{f"obs_{j}": x for j, x in enumerate(seen)}}
                act = (shift + t + i) % len(ACTIONS)
                done = int(t == steps - 1 and shift != 1)
                rows.append(row | ({"action": act, "reward": reward, "done": done} if t < steps else AFTER))
    return rows


AFTER: Row = {"action": "", "reward": "", "done": ""}


def csv(rows: Iterable[Row], separator: str = ",") -> str:
    """The rows as text, the columns of the first of them on top."""
    rows = list(rows)
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(separator.join(line) + "\n" for line in lines)


def changed(change: Callable[[Row], Row]) -> list[Row]:
    """The clean log with every row changed; a row that becomes empty is left out."""
    return [row | new if (new := change(dict(row))) is not None else row for row in clean()]


def acting(row: Row) -> bool:
    """Whether it is no row after the last step."""
    return row["action"] != ""


def string_names() -> str:
    return csv(changed(lambda row: {"agent": ROBOTS[row["agent"]]}))


def string_actions() -> str:
    return csv(changed(lambda row: {"action": ACTIONS[row["action"]] if acting(row) else ""}))


def unlike_columns() -> str:
    """The truck has no third sensor, and never lifts."""
    return csv(changed(lambda row: {"obs_2": "", "action": without_lift(row)} if row["agent"] == 1 else {}))


def without_lift(row: Row) -> object:
    return min(row["action"], 1) if acting(row) else ""


def death() -> str:
    """The truck breaks down in the second shift, after two steps."""
    return csv(row for row in clean() if not (row["episode"] == 1 and row["agent"] == 1 and row["step"] > 1))


def continuous() -> str:
    return csv(changed(lambda row: {"action": SPEEDS[row["action"]] if acting(row) else ""}))


SPEEDS = (-0.75, 0.1, 0.9)


def timestamps() -> str:
    """Half a second a step; the truck's clock is late by 40 ms."""
    return csv(changed(lambda row: {"step": time_of(row).isoformat(timespec="milliseconds")}))


def time_of(row: Row) -> datetime:
    return START + timedelta(hours=row["episode"], seconds=0.5 * row["step"] + 0.04 * row["agent"])


def unix_milliseconds() -> str:
    return csv(changed(lambda row: {"step": round(1000 * time_of(row).timestamp())}))


def unsorted() -> str:
    """By time of the day: the shifts of a step lie together."""
    return csv(sorted(clean(), key=lambda row: (row["step"], -row["agent"])))


def gap() -> str:
    """Step 2 of the second shift was not logged."""
    return csv(row for row in clean() if (row["episode"], row["step"]) != (1, 2))


def reward_per_robot() -> str:
    def own(row: Row) -> Row:
        return {"reward": round(row["reward"] + (0.5, -0.5)[row["agent"]], 2)} if acting(row) else {}

    return csv(changed(own))


def decimal_comma() -> str:
    return csv(clean(), ";").replace(".", ",")


def empty_cell() -> str:
    return csv(changed(lambda row: {"obs_1": ""} if (row["episode"], row["step"], row["agent"]) == (1, 3, 0) else {}))


def missing_last_observation() -> str:
    return csv(row for row in clean() if acting(row))


def bom() -> str:
    return "\ufeff" + csv(clean())


class Quirk(NamedTuple):
    """A log, and the options that the import of it asks for; none where it is read as it is."""

    text: Callable[[], str]
    options: tuple[str, ...] = ()


QUIRKS = {
    "string_names": Quirk(string_names),
    "string_actions": Quirk(string_actions),
    "unlike_columns": Quirk(unlike_columns, ("--unlike-agents pad",)),
    "death": Quirk(death, ("--missing-agents idle",)),
    "continuous": Quirk(continuous, ("--bins action=5",)),
    "timestamps": Quirk(timestamps, ("--time-step 0.5",)),
    "unsorted": Quirk(unsorted, ("--unsorted sort",)),
    "gap": Quirk(gap, ("--gaps split",)),
    "reward_per_robot": Quirk(reward_per_robot, ("--rewards mean",)),
    "decimal_comma": Quirk(decimal_comma, ("--decimal ,",)),
    "empty_cell": Quirk(empty_cell, ("--broken skip",)),
    "missing_last_observation": Quirk(missing_last_observation),
    "bom": Quirk(bom),
}


def write(folder: Path) -> None:
    """Write the clean log and all quirky ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"clean": csv(clean()), **{name: quirk.text() for name, quirk in QUIRKS.items()}}.items():
        (folder / f"{name}.csv").write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
