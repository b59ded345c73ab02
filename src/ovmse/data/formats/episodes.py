"""Episodes from Python: any iterable of mappings, read as it yields them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, check_known
from ovmse.data.raw_episode import RawEpisode, Source

KEYS = ("obs", "action", "reward", "terminal", "state", "avail", "won")
REQUIRED = KEYS[:4]
MOST_ACTIONS = 2**16


def read(episodes: Iterable[Mapping[str, Any]], *, n_actions: int, name: str = "episodes") -> Source:
    """A source of mappings with the keys obs, action, reward and terminal, and state, avail and won where known.

    The values have the axes of `RawEpisode`, as arrays or nested lists; terminal may be one bool: the task ended with
    the last step. Raises `UserError` that names the episode by its number.
    """
    check_actions(name, n_actions)
    return Source(name=name, format="python", episodes=_logged(episodes, name), n_actions=n_actions)


def _logged(episodes: Iterable[Mapping[str, Any]], name: str) -> Iterator[RawEpisode]:
    for index, episode in enumerate(episodes):
        where = f"{name}: episode {index}"
        if not isinstance(episode, Mapping):
            raise UserError(f"{where}: expected a mapping with {', '.join(REQUIRED)}, got {type(episode).__name__}.")
        for key in episode:
            check_known(f"key: {where} has", str(key), KEYS)
        yield one(where, episode)


def one(where: str, episode: Mapping[str, Any]) -> RawEpisode:
    """An episode of plain values: arrays or nested lists; None is what is not known."""
    if missing := [key for key in REQUIRED if episode.get(key) is None]:
        raise UserError(f"{where}: {missing[0]} is missing: expected {', '.join(REQUIRED)}.")
    arrays = {key: array(where, key, episode[key]) for key in KEYS if episode.get(key) is not None}
    terminal, won = flags(where, "terminal", arrays["terminal"]), arrays.get("won")
    if terminal.ndim == 0:
        steps = len(arrays["action"]) if arrays["action"].ndim else 0
        terminal = (np.arange(steps) == steps - 1) & terminal
    if won is not None and won.size != 1:
        raise UserError(f"{where}: won: expected one bool, got shape {won.shape}.")
    return RawEpisode(
        **{key: arrays.get(key) for key in ("obs", "action", "reward", "state", "avail")},  # type: ignore[arg-type]
        terminal=terminal,
        won=None if won is None else bool(flags(where, "won", won).all()),
        where=where,
    )


def array(where: str, key: str, values: Any) -> np.ndarray:
    """The values as an array of numbers."""
    try:
        found = np.asarray(values)
    except Exception as error:  # lists of unequal lengths, and whatever a foreign array raises
        raise UserError(f"{where}: {key}: expected an array, or lists of equal lengths: {error}.") from error
    if found.dtype.kind not in "fiub":
        raise UserError(f"{where}: {key}: expected numbers, got {found.dtype} ({type(values).__name__}).")
    return found


def flags(where: str, key: str, values: np.ndarray) -> np.ndarray:
    """True and false, also as 1 and 0."""
    bad = np.asarray((values != 0) & (values != 1))
    if bad.any():
        raise UserError(f"{where}: {key}: expected true or false, or 1 or 0, got {values[bad].flat[0]}.")
    return values.astype(bool)


def check_actions(where: str, n_actions: int | None) -> None:
    """Refuse numbers of actions that no masks would fit in memory for: one wrong value in a log is enough for them.

    None, a number that nobody has stated, passes.
    """
    if n_actions is not None and not 0 < n_actions <= MOST_ACTIONS:
        raise UserError(
            f"{where}: expected 1 to {MOST_ACTIONS:,} actions, got {n_actions:,}. Correct the log, or say how many "
            "there are: --n-actions."
        )
