"""How much of what could be seen is in a dataset: distinct things counted by 64-bit hashes in bounded memory.

SACo (Schweighofer et al. 2022, arXiv 2111.04714) is the number of distinct state-action pairs, divided by that of a
reference dataset. Joint-SACo (Formanek et al. 2024, arXiv 2409.12001) takes the pairs of global state and joint action
and divides by the number of steps: that is what is computed here, as no reference is at hand.
"""

from typing import NamedTuple

import numpy as np

from ovmse.core.padding import has_choice
from ovmse.data.schema import step_rows
from ovmse.data.stream import Block

MOST_KEPT = 2**22  # hashes per count, 32 MiB: beyond, every second is kept, then every fourth ...
_ODD = np.uint64(0x9E3779B97F4A7C15)


def mix(x: np.ndarray) -> np.ndarray:
    """A permutation of the 64-bit numbers after which all bits depend on all bits (the finaliser of SplitMix64)."""
    x = np.asarray(x, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_rows(values: np.ndarray) -> np.ndarray:
    """A 64-bit hash over the last axis of float32 or integer values; equal rows have equal hashes.

    A weighted sum of the scrambled 32-bit words: two different rows collide with a chance of about 2^-60.
    """
    narrow = values if values.dtype == np.float32 else values.astype(np.int32)
    words = np.ascontiguousarray(narrow).view(np.uint32) * np.uint32(0x85EBCA6B)
    words ^= words >> np.uint32(15)
    weights = mix(_ODD * np.arange(1, values.shape[-1] + 1, dtype=np.uint64)) | np.uint64(1)
    return mix(words.astype(np.uint64) @ weights)


def pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The hash of two hashes in this order."""
    return mix(a * _ODD + mix(b + _ODD))


class Hashes(NamedTuple):
    """Hashes of a block: obs (R, N), state (R,), joint action (M,), and the row that each step starts from (M,)."""

    obs: np.ndarray
    state: np.ndarray
    action: np.ndarray
    rows: np.ndarray


def hashes(block: Block) -> Hashes:
    """What `Seen` and the search for copies need of a block."""
    obs, state, action = (
        hash_rows(values) for values in (block.flat["obs"], block.flat["state"], block.flat["action"])
    )
    return Hashes(obs, state, action, step_rows(block.flat["length"]))


class Distinct(NamedTuple):
    """A count of distinct hashes: of those kept, and every hash is kept whose `shift` topmost bits are 0.

    new: hashes not yet sorted in; they wait until they are as many as are kept, so that sorting stays cheap.
    """

    kept: np.ndarray = np.zeros(0, np.uint64)
    new: tuple[np.ndarray, ...] = ()
    shift: int = 0
    most_kept: int = MOST_KEPT

    @property
    def total(self) -> int:
        """How many there are: exact as long as `shift` is 0, else estimated to about 1 in a thousand."""
        whole = self.sort_in()
        return len(whole.kept) << whole.shift

    def with_more(self, more: np.ndarray) -> "Distinct":
        """The count with further hashes."""
        grown = self._replace(new=(*self.new, _selected(more, self.shift)))
        return grown.sort_in() if sum(map(len, grown.new)) > max(2**18, len(self.kept)) else grown

    def sort_in(self) -> "Distinct":
        """The same count with nothing waiting."""
        kept, shift = np.unique(np.concatenate([self.kept, *self.new])), self.shift
        while len(kept) > self.most_kept:
            shift += 1
            kept = _selected(kept, shift)
        return Distinct(kept, (), shift, self.most_kept)


def _selected(hashes: np.ndarray, shift: int) -> np.ndarray:
    return hashes[hashes <= np.uint64((2**64 - 1) >> shift)]


class Seen(NamedTuple):
    """Distinct things so far: pairs of state and joint action, states, joint actions, and of every agent the pairs of
    its observation and its action where it had a choice; `choices` counts those, (N,)."""

    joint: Distinct
    states: Distinct
    joint_actions: Distinct
    own: tuple[Distinct, ...]
    choices: np.ndarray


def nothing_seen(n_agents: int) -> Seen:
    """Before the first block."""
    return Seen(Distinct(), Distinct(), Distinct(), (Distinct(),) * n_agents, np.zeros(n_agents, np.int64))


def see(seen: Seen, block: Block, found: Hashes) -> Seen:
    """What has been seen after one more block."""
    state, action = found.state[found.rows], block.flat["action"].astype(np.uint64)
    free = has_choice(block.flat["avail"][found.rows])
    own = pair(found.obs[found.rows], action)
    return Seen(
        seen.joint.with_more(pair(state, found.action)),
        seen.states.with_more(state),
        seen.joint_actions.with_more(found.action),
        tuple(before.with_more(own[free[:, agent], agent]) for agent, before in enumerate(seen.own)),
        seen.choices + free.sum(axis=0),
    )


def coverage(seen: Seen, steps: int, n_actions: int) -> dict[str, object]:
    """The shares as JSON values.

    joint_saco: distinct pairs of state and joint action per step. distinct_states: distinct states that were acted in,
    per step. actions_per_state: distinct joint actions per distinct state, on average; 1 where no state came twice
    with another action. agents: of each agent, distinct pairs of own observation and own action per choice among
    several legal actions (null without any). joint_actions: distinct joint actions, and joint_action_space: A^N.
    """
    return {
        "joint_saco": seen.joint.total / steps,
        "state_action_pairs": seen.joint.total,
        "distinct_states": seen.states.total / steps,
        "actions_per_state": seen.joint.total / max(1, seen.states.total),
        "agents": [own.total / int(n) if n else None for own, n in zip(seen.own, seen.choices, strict=True)],
        "joint_actions": seen.joint_actions.total,
        "joint_action_space": float(n_actions) ** len(seen.own),
        "exact": all(d.sort_in().shift == 0 for d in (seen.joint, seen.states, seen.joint_actions, *seen.own)),
    }
