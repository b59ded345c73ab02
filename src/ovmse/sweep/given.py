"""The grid that a command is given: a file, words such as ``--grid seed=0,1`` and ``--set env=smax:3m``, or both."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError, unknown
from ovmse.sweep.grid import LISTS, OPTIONS, Cell, cells, is_path, naming, read
from ovmse.system.files import as_type


class Grid(NamedTuple):
    """A grid, as a text of TOML. name: what messages call it; words: what gives it on the command line."""

    name: str
    words: tuple[str | Path, ...]
    text: str

    def cells(self) -> tuple[Cell, ...]:
        """Its cells. Raises `UserError` naming the grid and the key that can't be used."""
        with naming(self.name):
            return cells(tomllib.loads(self.text))


def grid_of(path: Path | None, settings: Sequence[str] = (), axes: Sequence[str] = ()) -> Grid:
    """The grid of a file, with settings and axes put in place by words, or of words alone.

    Args:
        path: a grid file, or None.
        settings: words such as ``env=smax:3m``: settings of all cells, in place of the file's; lists add up.
        axes: words such as ``online_target.weight.end=0,0.3,0.6``: axes in place of the file's of that
            name, or innermost.

    Raises:
        UserError: for a file that can't be read, or a word that names nothing that a grid may set, or no value.
    """
    if path is None and not settings and not axes:
        raise UserError("no grid: name a grid file, or give axes such as --grid seed=0,1 (docs/sweeps.md).")
    found = {} if path is None else read(path)
    if path is not None and not settings and not axes:
        return Grid(str(path), (path,), path.read_text("utf-8"))
    found = as_type(found, dict[str, dict[str, Any]], path)
    for word in settings:
        name, text = _named("--set", word)
        table = found.setdefault("settings", {})
        key = _spelt(table, name)
        table[key] = [*_listed(table.get(key, [])), text] if name in LISTS else _typed("--set", name, text)
    for word in axes:
        name, text = _named("--grid", word)
        table = found.setdefault("axes", {})
        table[_spelt(table, name)] = [_typed("--grid", name, value.strip()) for value in split(text)]
    file: list[str | Path] = [] if path is None else [path]
    words = [("--set", word) for word in settings] + [("--grid", word) for word in axes]
    return Grid(" with ".join(map(str, [*file, "--set and --grid"])), (*file, *chain(*words)), as_toml(found))


def _named(option: str, word: str) -> tuple[str, str]:
    """What a word sets, with underscores where it is an option, and to what."""
    name, separator, text = word.partition("=")
    known = name.strip() if is_path(name.strip()) else name.strip().replace("-", "_")
    if not separator or not text:
        raise UserError(f"{option} {word!r}: expected NAME=VALUE, such as seed=0,1 or online_target.weight.end=0,0.3.")
    if known not in OPTIONS and not is_path(known):
        raise unknown(f"setting in {option}", name, OPTIONS)
    return known, text


def _typed(option: str, name: str, text: str) -> Any:
    """The value that a text stands for, by what it sets."""
    if is_path(name) or name in LISTS:
        return text
    if (value := as_type(text, OPTIONS[name], f"{option} {name}", strict=False)) is None:
        raise UserError(f"{option} {name}: expected a value, got {text!r}: leave it out.")
    return value


def _spelt(table: Mapping[str, Any], name: str) -> str:
    """The name as a table has it, where it does: with dashes or underscores."""
    return next((key for key in table if key.replace("-", "_") == name), name)


def _listed(value: str | list[str]) -> list[str]:
    """The texts of a list in a file, where one may stand alone."""
    return [value] if isinstance(value, str) else value


def split(text: str) -> list[str]:
    """A text at its commas, but not at those within brackets."""
    found, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def as_toml(grid: Mapping[str, Mapping[str, Any]]) -> str:
    """A grid as the text of a grid file."""
    lines = []
    for name, table in grid.items():
        lines += [f"[{_value(name)}]", *(f"{_value(key)} = {_value(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_value(key)} = {_value(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
