"""What is odd about a dataset that can be used: warnings and notes, from sums over all of it.

Every check is a function of a `Whole` that returns a `Finding` or nothing, listed in `ODDITIES`. Thresholds are our own
choices unless a source is named.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ovmse.core.types import EnvSpec
from ovmse.data.findings import Finding
from ovmse.inspection.tally import LARGE, Episodes, Sums

LARGE_SHARE = 0.01  # of rows, to call a feature unscaled
LARGE_RETURN, USUAL_RETURN, SMALL_RETURN = 40.0, 20.0, 0.05
FEW_REWARDS = 0.02  # of steps, to call rewards sparse
MANY_CONSTANT = 0.1  # of features


class Whole(NamedTuple):
    """All that the checks look at: the environment, the sums, and what the importer had to assume."""

    spec: EnvSpec
    episodes: Episodes
    sums: Sums
    assumptions: tuple[str, ...]


def _listed(items: Sequence[object], most: int = 8) -> str:
    """The first few items, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest


def _first(whole: Whole, bad: np.ndarray) -> tuple[int, int]:
    """The number and the steps of the first episode in a mask."""
    index = int(bad.argmax())
    return int(whole.episodes.number[index]), int(whole.episodes.length[index])


def zero_final(whole: Whole) -> Finding | None:
    """A final row of zeros, which stands for nothing, where an episode was cut."""
    bad = whole.episodes.zero_final & ~whole.episodes.ended
    if not bad.any():
        return None
    episode, step = _first(whole, bad)
    text = f"episode {episode}, step {step}: obs and state after the last action are all zeros, and the episode was cut"
    return Finding("final row is all zeros", int(bad.sum()), text, "obs", episode, step)


def repeated_final(whole: Whole) -> Finding | None:
    """A final row that is the one before, in a game whose rows otherwise change with nearly every step."""
    cut = ~whole.episodes.ended & ~whole.episodes.zero_final
    bad = whole.episodes.repeated_final & cut
    usual = whole.sums.repeats / max(1, whole.sums.inner)
    if not bad.any() or bad.sum() / cut.sum() <= 2 * usual + 0.01:
        return None
    episode, step = _first(whole, bad)
    text = (
        f"episode {episode}, step {step}: equals the row before, and the episode was cut; so do {usual:.1%} of others"
    )
    return Finding("final row repeats the one before", int(bad.sum()), text, "obs", episode, step)


def time_limit(whole: Whole) -> Finding | None:
    """Every episode of the full length is terminal, as if the time limit were an end of the task."""
    limit, length = whole.spec.episode_limit, whole.episodes.length
    full = length >= limit
    if full.sum() < 5 or full.all() or full.mean() < 0.01 or not whole.episodes.ended[full].all():
        return None
    episode, steps = _first(whole, full)
    text = f"episode {episode}: terminal at step {steps - 1}, the last the limit of {limit} allows, as are all such"
    return Finding("time limit recorded as an end", int(full.sum()), text, "terminal", episode, steps - 1)


def early_end(whole: Whole) -> Finding | None:
    """Episodes of less than the full length that nothing ended."""
    bad = (whole.episodes.length < whole.spec.episode_limit) & ~whole.episodes.ended
    if not bad.any():
        return None
    episode, steps = _first(whole, bad)
    text = f"episode {episode}: {steps} of up to {whole.spec.episode_limit} steps, and the last is not terminal"
    return Finding("early end that is not terminal", int(bad.sum()), text, "terminal", episode, steps - 1)


def duplicates(whole: Whole) -> Finding | None:
    """Episodes with the same contents, by a 64-bit hash of all rows, actions, rewards and ends."""
    _, first, group, count = np.unique(
        whole.episodes.digest, return_index=True, return_inverse=True, return_counts=True
    )
    copy = np.flatnonzero(first[group] != np.arange(len(group)))
    if not len(copy):
        return None
    number = whole.episodes.number
    pairs = [f"{number[i]} = {number[first[group[i]]]}" for i in copy[:9]]
    text = f"episodes {_listed(pairs)}" + (
        f"; {len(copy)} copies of {int((count > 1).sum())} episodes" * (len(copy) > 8)
    )
    return Finding("duplicate episodes", len(copy), text, "", int(number[copy[0]]))


def _unscaled(what: str, share: np.ndarray, reach: np.ndarray) -> Finding | None:
    large = np.flatnonzero(share > LARGE_SHARE)
    if not len(large):
        return None
    text = (
        f"{what}: features {_listed(large.tolist())} exceed {LARGE:g} in more than {LARGE_SHARE:.0%} of rows "
        f"(up to {reach.max():.4g})"
    )
    kind = {"obs": "unscaled observations", "state": "unscaled state"}[what]
    return Finding(kind, len(large), text, what)


def unscaled_obs(whole: Whole) -> Finding | None:
    """Observation features well above 1 in a share of rows (of any agent)."""
    sums = whole.sums
    rows = int(whole.episodes.length.sum()) + len(whole.episodes.length)
    return _unscaled("obs", sums.large_obs / rows, np.maximum(-sums.obs_low, sums.obs_high))


def unscaled_state(whole: Whole) -> Finding | None:
    """State features well above 1 in a share of rows."""
    sums = whole.sums
    rows = int(whole.episodes.length.sum()) + len(whole.episodes.length)
    return _unscaled("state", sums.large_state / rows, np.maximum(-sums.state_low, sums.state_high))


def rewards(whole: Whole) -> Finding | None:
    """The scale of returns, and how many steps are rewarded at all."""
    returns, steps = whole.episodes.returns, int(whole.episodes.length.sum())
    size = float(np.quantile(np.abs(returns), 0.95))
    if whole.sums.rewarded == 0:
        return Finding("rewards are all zero", steps, f"{steps} steps, none with a reward other than 0", "reward")
    span = f"the 95 % quantile of |return| is {size:.4g}"
    if size > LARGE_RETURN:
        return Finding("large returns", 1, f"{span}; up to about {USUAL_RETURN:g} is usual", "reward")
    if size < SMALL_RETURN:
        return Finding(
            "small returns", 1, f"{span}; from about {SMALL_RETURN:g} to {USUAL_RETURN:g} is usual", "reward"
        )
    return None


def sparse(whole: Whole) -> Finding | None:
    """Few steps with a reward."""
    steps, rewarded = int(whole.episodes.length.sum()), whole.sums.rewarded
    if not 0 < rewarded < FEW_REWARDS * steps:
        return None
    text = f"{rewarded} of {steps} steps ({rewarded / steps:.2%}) have a reward other than 0"
    return Finding("sparse rewards", steps - rewarded, text, "reward")


def no_choices(whole: Whole) -> Finding | None:
    """Agents that never had more than one legal action."""
    agents = np.flatnonzero(whole.sums.choices == 0)
    if not len(agents):
        return None
    text = f"agent {_listed(agents.tolist())}: one legal action at every step"
    return Finding("agent without choices", len(agents), text, "avail", agent=int(agents[0]))


def out_of_play(whole: Whole) -> Finding | None:
    """Choices in the part of an episode from which on an agent has one legal action only."""
    forced = whole.episodes.forced[:, whole.sums.choices > 0]
    total = int(whole.episodes.length.sum()) * max(1, forced.shape[1])
    if forced.sum() <= 0.05 * total:
        return None
    text = f"{forced.sum() / total:.0%} of choices come after their agent's last step with two or more legal actions"
    return Finding("agents out of play", int(forced.sum()), text, "avail")


def constant_obs(whole: Whole) -> Finding | None:
    """Observation features that never change, of any agent."""
    constant = np.flatnonzero((whole.sums.obs_low == whole.sums.obs_high).all(axis=0))
    if len(constant) < MANY_CONSTANT * whole.spec.obs_size:
        return None
    text = f"{len(constant)} of {whole.spec.obs_size} features of every agent: {_listed(constant.tolist())}"
    return Finding("constant observation features", len(constant), text, "obs")


def constant_state(whole: Whole) -> Finding | None:
    """State features that never change."""
    constant = np.flatnonzero(whole.sums.state_low == whole.sums.state_high)
    if len(constant) < MANY_CONSTANT * whole.spec.state_size:
        return None
    text = f"{len(constant)} of {whole.spec.state_size} features: {_listed(constant.tolist())}"
    return Finding("constant state features", len(constant), text, "state")


def supplied(whole: Whole) -> Finding | None:
    """What an importer took for granted."""
    if not whole.assumptions:
        return None
    return Finding("supplied by the import", len(whole.assumptions), "; ".join(whole.assumptions), "zarr.json")


ODDITIES: tuple[Callable[[Whole], Finding | None], ...] = (
    zero_final,
    repeated_final,
    time_limit,
    early_end,
    duplicates,
    unscaled_obs,
    unscaled_state,
    rewards,
    no_choices,
    sparse,
    out_of_play,
    constant_obs,
    constant_state,
    supplied,
)


def warnings(whole: Whole) -> tuple[Finding, ...]:
    """All warnings and notes."""
    return tuple(found for check in ODDITIES if (found := check(whole)) is not None)
