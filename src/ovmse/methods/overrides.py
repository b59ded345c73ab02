"""`--change`: a method with settings put in place by their path, such as ``explore.epsilon.start=0.2``."""

import dataclasses
import difflib
from typing import Any

from ovmse.core.errors import UserError
from ovmse.core.literals import parse_value
from ovmse.core.schedules import MAKERS
from ovmse.methods import PARTS as METHOD_PARTS
from ovmse.methods.method import Method


def change_method(method: Method, changes: tuple[str, ...]) -> Method:
    """The method with each ``path=value`` put in place, such as ``online_target.weight.end=0.2``.

    A value is a number, a word, None, or a part such as ``cosine(1.0, 0.1)`` or ``CQL(0.5)``.
    Raises `UserError` for a path that is not there, with the nearest names, or for a value that can't be read.
    """
    for change in changes:
        path, separator, text = change.partition("=")
        if not separator:
            raise UserError(f"a change reads path=value, such as explore.epsilon.start=0.2; got {change!r}.")
        method = _replace(method, path.strip().split("."), parse_value(text.strip(), PARTS), change)
    return method


def _replace(part: Any, path: list[str], value: Any, change: str) -> Any:
    known = [f.name for f in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    if path[0] not in known:
        near = difflib.get_close_matches(path[0], known, n=1, cutoff=0.4)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"{change!r}: {type(part).__name__} has no setting {path[0]!r}.{guess} Known: {', '.join(known) or 'none'}."
        )
    inner = value if len(path) == 1 else _replace(getattr(part, path[0]), path[1:], value, change)
    if path == ["start"] and getattr(part, "shape", None) == "constant":
        return dataclasses.replace(part, start=value, end=value)
    try:
        return dataclasses.replace(part, **{path[0]: inner})
    except TypeError as error:
        raise UserError(f"{change!r}: {error}.") from error


PARTS: dict[str, Any] = {
    **MAKERS,
    **METHOD_PARTS,
}
"""What a change's value may be made of."""
