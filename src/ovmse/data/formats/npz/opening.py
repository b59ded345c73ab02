"""Opening .npz files: which array has which meaning by its name, and whether the arrays fit each other.

Axes: E episodes, M steps of all of them, R rows, T steps of the longest, N agents, A actions, O, S features.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError
from ovmse.data.formats.npz.members import NpzMember, members
from ovmse.data.formats.reading import DISCRETE_ONLY
from ovmse.data.schema import ROWS

NAMES = {
    "obs": ("obs", "observations", "observation"),
    "action": ("action", "actions"),
    "reward": ("reward", "rewards"),
    "terminal": ("terminal", "terminals", "terminated", "terminations", "done", "dones"),
    "truncated": ("truncated", "truncations", "truncation"),
    "state": ("state", "states"),
    "avail": ("avail", "avail_actions", "legals", "legal_actions", "action_mask", "action_masks"),
    "length": ("length", "lengths", "episode_length", "episode_lengths"),
    "valid": ("valid", "filled"),
    "won": ("won", "wins", "battle_won"),
}
NUMBERS = "fiub"
KINDS = {"action": "fiu", "length": "iu"}


class NpzLog(NamedTuple):
    """An opened file: its arrays by role, whether episodes are padded, N, E, and the names of other arrays."""

    file: Path
    arrays: dict[str, NpzMember]
    padded: bool
    n_agents: int
    episodes: int
    others: tuple[str, ...]

    def per_agent(self, role: str) -> bool:
        """Whether a value of each step is one per agent."""
        lead = 2 if self.padded else 1
        return role in self.arrays and self.n_agents > 1 and self.arrays[role].shape[lead:] == (self.n_agents,)


def open_log(file: Path) -> NpzLog:
    """The arrays of a file, checked against each other."""
    found = members(file)
    arrays: dict[str, NpzMember] = {}
    for role, names in NAMES.items():
        own = [name for name in names if name in found]
        if len(own) > 1:
            raise UserError(f"{file}: {role}: expected one of {' and '.join(own)}. Leave the other out.")
        if own:
            arrays[role] = found[own[0]]
    for role in ("obs", "action", "reward"):
        if role not in arrays:
            called, held = ", ".join(NAMES[role]), ", ".join(sorted(found)[:20]) or "nothing"
            raise UserError(f"{file}: no array for {role}, called one of {called}: the file holds {held}.")
    for role, member in arrays.items():
        if member.dtype.kind not in KINDS.get(role, NUMBERS):
            needed = "whole numbers" if role in KINDS else "numbers"
            hint = f" {DISCRETE_ONLY}" if role == "action" else ""
            raise UserError(f"{member.where}: expected {needed}, got {member.dtype}.{hint}")
        if 0 in member.shape or not member.shape:
            raise UserError(f"{member.where}: expected values, got the shape {member.shape}.")
    obs = arrays["obs"]
    if len(obs.shape) not in (3, 4):
        raise UserError(
            f"{obs.where}: expected the axes (rows, agents, features), or (episodes, rows, agents, features), got the "
            f"shape {obs.shape}."
        )
    padded = len(obs.shape) == 4
    if not padded:
        arrays.pop("valid", None)
    if "length" not in arrays and (not padded or "valid" not in arrays):
        also = " (or valid, ones and zeros of shape (episodes, steps))" if padded else ""
        raise UserError(f"{file}: no array length: expected the steps of every episode, shape (episodes,){also}.")
    used = {member.name for member in arrays.values()}
    others = tuple(name for name in found if name not in used)
    log = NpzLog(file, arrays, padded, obs.shape[-2], obs.shape[0] if padded else arrays["length"].shape[0], others)
    _check_shapes(log)
    return log


def _check_shapes(log: NpzLog) -> None:
    n, episodes, acts = log.n_agents, log.episodes, log.arrays["action"].shape
    each_step, steps = ((), (1,), (n,)), acts[1] if len(acts) > 1 else 0
    ends: dict[str, tuple[tuple[Any, ...], ...]] = {
        "action": ((n,), (n, 1)),
        "valid": each_step[:2],
        **dict.fromkeys(("reward", "terminal", "truncated"), each_step),
        "state": ((None,),),
        **dict.fromkeys(("avail", "obs"), ((n, None),)),
    }
    for role, member in log.arrays.items():
        if role in ("length", "won"):
            patterns, expected = [(episodes,)], f"({episodes},), one value per episode"
        else:
            rows = (steps, steps + 1) if role in ROWS else (steps,)
            heads = [(episodes, row) for row in rows] if log.padded else [(None,)]
            patterns = [(*head, *end) for head in heads for end in ends[role]]
            lead = f"{episodes}, {' or '.join(map(str, rows))}" if log.padded else "rows or steps"
            tails = " or ".join(map(str, ends[role])).replace("None", "any")
            expected = f"({lead}) and then {tails} ({n} agents)"
        if not any(_like(member.shape, pattern) for pattern in patterns):
            raise UserError(f"{member.where}: expected the shape {expected}, got {member.shape}.")


def _like(shape: tuple[int, ...], pattern: tuple[Any, ...]) -> bool:
    return len(shape) == len(pattern) and all(p in (None, s) for s, p in zip(shape, pattern, strict=True))
