"""The numbers among the settings of a run as arguments of its compiled programs, so that one program serves them all.

ε, λ, α, γ, the learning rate and the budgets change no shape: runs that differ in these alone compile once and find the
programs in the cache. A 0 stays a constant, since it may switch off what need not be computed, and so do the numbers of
parts that are not ovmse's own, whose code may ask what they are.
"""

import copy
import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import Array

from ovmse.core.schedules import is_zero

BUDGETS = ("online_env_steps", "schedule_env_steps", "offline_updates")
"""Whole numbers that change no shape where they are read."""

Settings = TypeVar("Settings")


def numbers_of(settings: Any, path: str = "") -> dict[str, np.ndarray]:
    """The numbers of a tuple of dataclasses, by their place in it: float32, and int32 of budgets."""
    if isinstance(settings, tuple):
        parts: dict[str, Any] = {str(i): part for i, part in enumerate(settings) if dataclasses.is_dataclass(part)}
    else:
        parts = {name: getattr(settings, name) for name in (field.name for field in dataclasses.fields(settings))}
    found: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if dataclasses.is_dataclass(part):
            found |= numbers_of(part, f"{path}{name}.")
        elif not isinstance(settings, tuple) and name in _arguments(type(settings)) and not _stays(part):
            found[path + name] = np.asarray(part, np.int32 if name in BUDGETS else np.float32)
    return found


def with_numbers(settings: Settings, numbers: Mapping[str, Array | np.ndarray], path: str = "") -> Settings:
    """The same settings with the numbers at their places replaced, as they are in a compiled program."""
    if isinstance(settings, tuple):
        parts = [with_numbers(part, numbers, f"{path}{i}.") for i, part in enumerate(settings)]
        return tuple(parts)  # type: ignore[return-value]
    if not dataclasses.is_dataclass(settings):
        return settings
    changed = copy.copy(settings)
    for name in (field.name for field in dataclasses.fields(settings)):
        part = getattr(settings, name)
        if dataclasses.is_dataclass(part):
            part = with_numbers(part, numbers, f"{path}{name}.")
        else:
            part = numbers.get(path + name, part)
        object.__setattr__(changed, name, part)  # unchecked: what it stands for was checked
    return changed


def _stays(number: Any) -> bool:
    """Whether a number stays a constant."""
    return number is None or isinstance(number, bool) or is_zero(number)


@functools.cache
def _arguments(kind: type) -> frozenset[str]:
    """The fields of a class of ovmse's own that are numbers of any size, by their types."""
    if kind.__module__.partition(".")[0] != "ovmse":
        return frozenset()
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if name in BUDGETS or float in _kinds(hint))


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
