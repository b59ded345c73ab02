"""`--change`: a method with settings put in place by their path, such as ``explore.epsilon.start=0.2``."""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ovmse.core.errors import UserError, did_you_mean
from ovmse.core.literals import parse_value
from ovmse.core.schedules import MAKERS, Schedule
from ovmse.methods import METHODS, PARTS as METHOD_PARTS
from ovmse.methods.method import Method


def change_method(method: Method, changes: tuple[str, ...]) -> Method:
    """The method with each ``path=value`` put in place, such as ``online_target.weight.end=0.2``.

    A value is a number, a word, None, or a part such as ``cosine(1.0, 0.1)`` or ``CQL(0.5)``.
    Raises `UserError` for a path that is not there, with the nearest names, or for a value that can't be read or is
    none of what the setting may be.
    """
    for change in changes:
        path, separator, text = change.partition("=")
        if not separator:
            raise UserError(f"a change reads path=value, such as explore.epsilon.start=0.2; got {change!r}.")
        method = _replace(method, path.strip().split("."), text.strip(), change)
    return method


def _replace(part: Any, path: list[str], text: str, change: str) -> Any:
    known = [f.name for f in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    if path[0] not in known:
        raise UserError(
            f"{change!r}: {type(part).__name__} has no setting {path[0]!r}.{did_you_mean(path[0], known)} "
            f"Known: {', '.join(known) or 'none'}."
        )
    value = _replace(getattr(part, path[0]), path[1:], text, change) if path[1:] else _read(part, path[0], text, change)
    if path == ["start"] and getattr(part, "shape", None) == "constant":
        return dataclasses.replace(part, start=value, end=value)
    try:
        return dataclasses.replace(part, **{path[0]: value})
    except TypeError as error:
        raise UserError(f"{change!r}: {error}.") from error


def _read(part: Any, name: str, text: str, change: str) -> Any:
    """The value of a part's setting. Raises `UserError` that says what the setting may be."""
    try:
        kinds = _kinds(get_type_hints(type(part))[name])
    except NameError:  # a part of the user's own whose types are there for a type checker alone
        kinds = [Any]
    with contextlib.suppress(UserError):
        value = parse_value(text, PARTS)
        if any(_fits(value, kind) for kind in kinds):
            return value
    word, names = text.partition("(")[0], [name for kind in kinds for name in _names(kind)]
    raise UserError(
        f"{change!r}: can't read the value {text[:200]!r}; {type(part).__name__}'s {name}{_about(part, name)} is "
        f"{' or '.join(_words(kind) for kind in kinds)}.{'' if word in names else did_you_mean(word, names)}"
    )


def _about(part: Any, name: str) -> str:
    """What the docstring of a part says of a setting: its unit, or its range."""
    entry = rf"^ +{name}: (.*?)(?=\.$|\n +\w+: |\n\s*\n|\Z)"
    said = re.search(entry, inspect.getdoc(type(part)) or "", re.DOTALL | re.MULTILINE)
    return f" ({' '.join(said[1].replace('`', '').split())})" if said else ""


def _kinds(hint: Any) -> list[Any]:
    """What a setting of an annotated type may be: each type, and each word."""
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType, Literal) else [hint]
    return [kind for kind in kinds if kind is not int or float not in kinds]


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, str):
        return value == kind
    if get_origin(kind) is Callable:
        return callable(value)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (kind is float and isinstance(value, float))
    kind = get_origin(kind) or kind
    plain = kind in PLAIN or kind is tuple or dataclasses.is_dataclass(kind)
    return not plain or isinstance(value, kind)  # a part itself checks whatever else its setting may be


def _names(kind: Any) -> list[str]:
    """What a value of a kind may be written as: a word, or calls of these names."""
    if isinstance(kind, str):
        return [kind]
    if kind is Schedule:
        return list(MAKERS)
    if kind in PLAIN:
        return []
    fields = [name for name, hint in get_type_hints(Method).items() if kind in _kinds(hint)]
    used = {type(getattr(method, name)) for method in METHODS.values() for name in fields}
    return [name for name, part in METHOD_PARTS.items() if part in used]


def _words(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind in PLAIN:
        return PLAIN[kind]
    if kind is Schedule:
        return "a schedule, such as constant(0.1) or linear(1.0, 0.1)"
    names = _names(kind)
    if names:
        return f"a part, such as {', '.join(f'{name}()' for name in names[:3])}"
    return "a function" if get_origin(kind) is Callable else getattr(kind, "__name__", str(kind))


PLAIN = {int: "a whole number", float: "a number", bool: "True or False", NoneType: "None"}
"""What a value that is no part is called."""
PARTS: dict[str, Any] = {
    **MAKERS,
    **METHOD_PARTS,
}
"""What a change's value may be made of."""
