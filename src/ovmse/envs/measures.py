"""Measures of an environment's own, such as a waiting time or collisions: numbers that it tells at an episode's end."""

from __future__ import annotations  # unevaluated: an environment's own process does without JAX

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ovmse.core.errors import UserError

KEY = "episode_measures"
"""The attribute of an environment, or the key of its infos, that has them: a mapping of names to numbers."""

KINDS = "biuf"  # of NumPy's types: what counts as a number, whether it is true included


def names_of(setting: str | Sequence[str] | None) -> tuple[str, ...]:
    """The keys of infos that a setting ``measures`` names: a sequence, or words with commas between them."""
    names = setting.split(",") if isinstance(setting, str) else setting or ()
    return tuple(name.strip() for name in names)


def told(infos: Iterable[Mapping[str, Any]], names: Sequence[str] = ()) -> dict[str, float]:
    """The measures of an episode, by the infos of its last step: what stands under `KEY`, and the keys `names`.

    Of several infos, one for each agent, the mean over those that tell a measure. Raises `UserError` for what is no
    number.
    """
    found: dict[str, list[float]] = {}
    for info in infos:
        own = checked(info.get(KEY) or {}) | checked({name: info[name] for name in names if name in info})
        for name, value in own.items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def measures_of(env: Any) -> dict[str, float]:
    """The measures of the episode that an environment has just ended; empty where it tells none.

    Raises `UserError` where they are no mapping of names to numbers.
    """
    return checked(getattr(env, KEY, None) or {})


def checked(measures: Any) -> dict[str, float]:
    """Measures as Python's own numbers; NaN stands for one that an episode has none of."""
    if not isinstance(measures, Mapping):
        raise UserError(f"{KEY} must be a mapping of names to numbers; got {type(measures).__name__}.")
    for name, value in measures.items():
        if not isinstance(name, str) or not name or np.ndim(value) or np.asarray(value).dtype.kind not in KINDS:
            raise UserError(f"{KEY} must be a mapping of names to numbers; got {value!r} for {name!r}.")
    return {name: float(value) for name, value in measures.items()}
