"""The numbers among the settings of a run as arguments of its compiled programs, so that one program serves them all.

ε, λ, α, γ, the learning rate and the budgets change no shape: runs that differ in these alone compile once and find the
programs in the cache. A 0 stays a constant, since it may switch off what need not be computed, and so do the numbers of
parts that are not ovmse's own, whose code may ask what they are.
"""

import copy
import dataclasses
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import Array

from ovmse.core.schedules import is_zero

WHOLE = ("online_env_steps", "schedule_env_steps", "offline_updates", "updates")
"""Whole numbers that change no shape where they are read."""

Settings = TypeVar("Settings")


def numbers_of(settings: Any, path: str = "") -> dict[str, np.ndarray]:
    """The numbers of a dataclass, or of a tuple of them, by their place in it: float32, and int32 of budgets."""
    found: dict[str, np.ndarray] = {}
    arguments = _arguments(type(settings))
    for name, part in _parts(settings).items():
        if dataclasses.is_dataclass(part):
            found |= numbers_of(part, f"{path}{name}.")
        elif name in arguments and not (part is None or isinstance(part, bool) or is_zero(part)):
            found[path + name] = np.asarray(part, np.int32 if name in WHOLE else np.float32)
    return found


def with_numbers(settings: Settings, numbers: Mapping[str, Array | np.ndarray], path: str = "") -> Settings:
    """The same settings with the numbers at their places replaced, as they are in a compiled program."""

    def new(name: str, part: Any) -> Any:
        place = path + name
        return with_numbers(part, numbers, f"{place}.") if dataclasses.is_dataclass(part) else numbers.get(place, part)

    parts = {name: new(name, part) for name, part in _parts(settings).items()}
    if isinstance(settings, tuple):
        return tuple(parts.values())  # type: ignore[return-value]
    changed = copy.copy(settings)
    for name, part in parts.items():
        object.__setattr__(changed, name, part)  # unchecked: what it stands for was checked
    return changed


def _parts(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass, or the members of a tuple, by their names."""
    if isinstance(settings, tuple):
        return {str(i): part for i, part in enumerate(settings)}
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _arguments(kind: type) -> frozenset[str]:
    """The fields of a class of ovmse's own that are numbers of any size, by their types."""
    if kind.__module__.partition(".")[0] != "ovmse":
        return frozenset()
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if name in WHOLE or float in _kinds(hint))


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
