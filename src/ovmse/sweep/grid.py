"""A grid file, and the runs that it stands for. Nothing here looks at a dataset or starts anything."""

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ovmse.config import PRESETS, Config, LearnerConfig, PresetName
from ovmse.core.errors import UserError, check_known, did_you_mean
from ovmse.core.literals import MixerName
from ovmse.core.settings import flatten
from ovmse.methods.method import Method
from ovmse.system.files import as_type

Settings = dict[str, Any]
"""Options of `ovmse train` by their names, with underscores; ``preset`` may be among them."""
LEARNER: Settings = get_type_hints(LearnerConfig)
OPTIONS: Settings = {**get_type_hints(Config), **LEARNER, "preset": PresetName}
for _name in ("out", "learner"):
    del OPTIONS[_name]
"""The type of every option that a grid may set."""
CHOICES = {name: get_args(kind) for name, kind in (("mixer", MixerName), ("preset", PresetName))}
"""Options that are one of a few words."""
LISTS = tuple(name for name, kind in OPTIONS.items() if kind == tuple[str, ...])
"""Options that add up, over the settings and all axes."""
PARTS = tuple(field.name for field in fields(Method))
"""What a path to a setting of the method begins with."""
SEED = "seed"
"""The option and axis that means are taken over."""
MOST_CELLS = 10_000
SEE = "See ovmse train --help for all of them."
HELP = {"out": "Where a cell is written is up to the sweep, in its own --out."}


@dataclass(frozen=True)
class Cell:
    """One run of a grid. point: its value on every axis, in words; config: the run, without a directory."""

    point: dict[str, str]
    config: Config

    def __str__(self) -> str:
        return ", ".join(f"{axis} {value}" for axis, value in self.point.items()) or "the only cell"


def read(path: Path) -> dict[str, Any]:
    """What a grid file holds. Raises `UserError` where it can't be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a TOML file with the tables [settings] and [axes]: {error}.") from error


def read_cells(path: Path) -> tuple[Cell, ...]:
    """The cells of a grid file (docs/sweeps.md). Raises `UserError` naming the file and the key that can't be used."""
    found = read(path)
    with naming(path):
        return cells(found)


def cells(grid: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The cells of a grid: the product of its axes, the first one outermost.

    Args:
        grid: what a grid file holds: ``settings``, options of `ovmse train` that all cells have; and ``axes``, each of
            them a list of values of the option that it is named after, or named groups of settings. Beside options
            there are the method's settings by their paths, as in ``--change``: ``"online_target.weight.end" = 0.3``.

    Returns:
        The cells in the grid's order. An axis goes before the settings; lists such as ``change`` add up.

    Raises:
        UserError: for an unknown option, a value of another type, an option that two axes set, an empty axis, or
            settings that no run can have.
    """
    for name in grid:
        check_known("table", name, ("settings", "axes"))
    shared = _settings("settings", grid.get("settings", {}))
    axes = {axis: _axis(axis, values) for axis, values in _table("axes", grid.get("axes", {})).items()}
    for (one, first), (other, second) in itertools.combinations(axes.items(), 2):
        if both := sorted(_options(first) & _options(second) - set(LISTS)):
            raise UserError(f"axes.{one} and axes.{other} both set {both[0]}: leave it out of one of them.")
    if (count := math.prod(map(len, axes.values()))) > MOST_CELLS:
        raise UserError(f"axes: {count:,} cells; expected at most {MOST_CELLS:,}. Make several grids of it.")
    points = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    return tuple(Cell(p, _config(p, [shared, *(axes[axis][value] for axis, value in p.items())])) for p in points)


def _axis(axis: str, values: Any) -> dict[str, Settings]:
    """What each value of an axis sets, by what the value is called."""
    where = f"axes.{axis}"
    if isinstance(values, dict):
        found = {name: _settings(f"{where}.{name!r}", group) for name, group in values.items()}
    elif isinstance(values, list):
        settings = [_settings(where, {axis: value}) for value in values]
        names = values if is_path(axis) else [value for one in settings for value in one.values()]
        found = dict(zip(map(_words, names), settings, strict=True))
        if len(found) < len(values):
            raise UserError(f"{where}: a value comes twice.")
    else:
        raise UserError(f"{where}: expected a list of values or a table of named groups, got {values!r}.")
    if axis == SEED and any(set(one) != {SEED} for one in found.values()):
        raise UserError(f"{where}: expected seeds alone, since means are taken over them. Call the axis otherwise.")
    if not found:
        raise UserError(f"{where}: no values. Give it some, or leave the axis out.")
    return found


def _settings(where: str, given: Any) -> Settings:
    """Settings with underscores in their names, each in its type."""
    found: Settings = {}
    changes: list[str] = []
    for key, value in flatten(_table(where, given)).items():
        name = key.replace("-", "_")
        place = where if where.endswith(f".{key}") else f"{where}.{key}"  # of an axis, which is called like its option
        if is_path(key):
            changes.append(f"{key}={_words(as_type(value, str | int | float | bool, place))}")
            continue
        if name not in OPTIONS:
            raise UserError(f"{where}: unknown option {key!r}.{did_you_mean(name, OPTIONS)} {HELP.get(name, SEE)}")
        if name in found:
            raise UserError(f"{where}: {name} comes twice.")
        if name in LISTS and isinstance(value, str):
            value = [value]
        if name in CHOICES and isinstance(value, str):
            with naming(place):
                check_known(name, value, CHOICES[name])
        found[name] = as_type(value, OPTIONS[name], place)
    return found | ({"change": (*found.get("change", ()), *changes)} if changes else {})


def is_path(name: str) -> bool:
    """Whether a name is the path of a setting of the method, such as ``online_target.weight.end``."""
    return name.partition(".")[0] in PARTS


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a table, got {value!r}.")
    return value


def _options(axis: Mapping[str, Settings]) -> set[str]:
    return {name for settings in axis.values() for name in settings}


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _config(point: dict[str, str], given: list[Settings]) -> Config:
    """The run that these settings make, the later ones on top. Raises `UserError` naming the cell."""
    merged: Settings = {}
    for settings in given:
        merged |= {name: merged.get(name, ()) + x if name in LISTS else x for name, x in settings.items()}
    with naming(str(Cell(point, Config()))):
        learner = LearnerConfig(**{name: merged.pop(name) for name in LEARNER if name in merged})
        preset = PRESETS.get(merged.pop("preset", None), {})
        return Config(**{**preset, **merged, "learner": learner})


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Have every `UserError` within say what it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
