"""Settings as JSON, as words of the command line, and what differs between them."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmse.core.errors import option


def describe(value: Any) -> Any:
    """Any part of a configuration as JSON: dataclasses become dictionaries that name their type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **inner}
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__name__)}"
    return value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested JSON object as one level with dotted names; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two JSON objects, in words."""
    old, new = flatten(there), flatten(here)
    keys = [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]
    return [f"{key} {old.get(key, 'not given')!r} there, {new.get(key, 'not given')!r} here" for key in keys]


def changed_flags(value: Any, default: Any, without: Sequence[str]) -> list[str]:
    """The fields of a configuration that are not as by default, as words of the command line.

    without: the names of fields that are left out.
    """
    words = []
    for one in dataclasses.fields(default):
        now, flag = getattr(value, one.name), option(one.name)
        if one.name in without or now == getattr(default, one.name):
            continue
        if isinstance(now, bool):
            words.append(flag if now else f"--no-{flag[2:]}")
        else:
            words += [word for x in (now if isinstance(now, tuple) else (now,)) for word in (flag, str(x))]
    return words
