"""Whether logs are of one plant, where no environment tells: by their sizes, and by what they call things."""

import dataclasses
import shlex
from typing import Any

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.schema import Names

SAME = ("n_agents", "n_actions", "obs_size", "state_size")
"""Sizes that must agree. The longest episode need not be as long."""


def as_play_of(dataset: Dataset, spec: EnvSpec, names: Any = None, whose: Any = "the run") -> Dataset:
    """A dataset as play of a plant that is known by an earlier log alone; the longer of the two horizons is its own.

    spec: the plant, as the earlier log has it; names: what that log calls things, by attributes as `Names` has them.
    Raises `UserError` where sizes differ, or where both logs have names and these do.
    """
    own, called = dataset.spec, dataset.metadata.names
    wrong = [f"{name}: {getattr(spec, name)}, got {getattr(own, name)}" for name in SAME]
    wrong = [text for name, text in zip(SAME, wrong, strict=True) if getattr(spec, name) != getattr(own, name)]
    for kind in Names._fields:
        theirs, ours = getattr(names, kind, None), getattr(called, kind)
        if theirs and ours and tuple(theirs) != tuple(ours):
            wrong.append(f"{kind}: {', '.join(theirs)}, got {', '.join(ours)}")
    if wrong:
        raise UserError(
            f"{dataset.path} is not of the plant of {whose}: expected {'; '.join(wrong)}.{_advice(spec, own, names)}"
        )
    env = spec._replace(episode_limit=max(spec.episode_limit, own.episode_limit), has_win=own.has_win)
    return dataclasses.replace(dataset, metadata=dataclasses.replace(dataset.metadata, env=env))


def _advice(spec: EnvSpec, own: EnvSpec, names: Any) -> str:
    """What to do where the log lacks an action that nobody took, which the import then did not number."""
    if own.n_actions >= spec.n_actions:
        return ""
    told = f"--n-actions {spec.n_actions}"
    if names is not None and names.actions:
        told = f"--action-names {' '.join(map(shlex.quote, names.actions))}"
    return f" If it lacks an action that nobody took, import it again with {told}."
