"""What is odd about a dataset that can be used: warnings and notes, from sums over all of it.

Thresholds are our own choices unless a source is named.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import number_of
from ovmse.core.types import EnvSpec
from ovmse.data.findings import Finding
from ovmse.data.schema import Names
from ovmse.inspection.tally import LARGE, Episodes, Sums

LARGE_SHARE = 0.01  # of rows, to call a feature unscaled
LARGE_RETURN, USUAL_RETURN, SMALL_RETURN = 40.0, 20.0, 0.05
FEW_REWARDS = 0.02  # of steps, to call rewards sparse
MANY_CONSTANT = 0.1  # of features


class Whole(NamedTuple):
    """All that the checks look at: the environment, the sums, what the importer had to assume, and the log's names."""

    spec: EnvSpec
    episodes: Episodes
    sums: Sums
    assumptions: tuple[str, ...]
    names: Names = Names()


def warnings(whole: Whole) -> tuple[Finding, ...]:
    """All warnings and notes."""
    checks = (final_rows, ends, duplicates, scale, choices, constant_features, supplied)
    return tuple(itertools.chain.from_iterable(check(whole) for check in checks))


def _listed(items: Sequence[Any], names: Sequence[str] | None = None, most: int = 8) -> str:
    """The first of the items, by their names where these are known."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(names[item] if names else str(item) for item in items[:most]) + rest


def _first(whole: Whole, bad: np.ndarray) -> tuple[int, int]:
    """The number and the steps of the first episode in a mask."""
    index = int(bad.argmax())
    return int(whole.episodes.number[index]), int(whole.episodes.length[index])


def final_rows(whole: Whole) -> Iterator[Finding]:
    """Final rows that stand for nothing where an episode was cut: zeros, or the row before once more.

    A repeated row is odd in a game whose rows otherwise change with nearly every step.
    """
    episodes, sums = whole.episodes, whole.sums
    cut = ~episodes.ended
    zeros, others = cut & episodes.zero_final, cut & ~episodes.zero_final
    repeated, usual = others & episodes.repeated_final, sums.repeats / max(1, sums.inner)
    if zeros.any():
        episode, step = _first(whole, zeros)
        text = "obs and state after the last action are all zeros, and the episode was cut"
        text = f"episode {episode}, step {step}: {text}"
        yield Finding("final row is all zeros", int(zeros.sum()), text, "obs", episode, step)
    if repeated.any() and repeated.sum() / others.sum() > 2 * usual + 0.01:
        episode, step = _first(whole, repeated)
        text = f"equals the row before, and the episode was cut; so do {usual:.1%} of others"
        text = f"episode {episode}, step {step}: {text}"
        yield Finding("final row repeats the one before", int(repeated.sum()), text, "obs", episode, step)


def ends(whole: Whole) -> Iterator[Finding]:
    """Time limits that look like an end of the task, and episodes of less than the full length that nothing ended."""
    limit, length, ended = whole.spec.episode_limit, whole.episodes.length, whole.episodes.ended
    full = length >= limit
    if full.sum() >= 5 and not full.all() and full.mean() >= 0.01 and ended[full].all():
        episode, steps = _first(whole, full)
        text = f"episode {episode}: terminal at step {steps - 1}, the last the limit of {limit} allows, as are all such"
        yield Finding("time limit recorded as an end", int(full.sum()), text, "terminal", episode, steps - 1)
    if (bad := ~full & ~ended).any():
        episode, steps = _first(whole, bad)
        text = f"episode {episode}: {steps} of up to {limit} steps, and the last is not terminal"
        yield Finding("early end that is not terminal", int(bad.sum()), text, "terminal", episode, steps - 1)


def duplicates(whole: Whole) -> Iterator[Finding]:
    """Episodes with the same contents, by a 64-bit hash of all rows, actions, rewards and ends."""
    number = whole.episodes.number
    _, first, group, count = np.unique(
        whole.episodes.digest, return_index=True, return_inverse=True, return_counts=True
    )
    copy = np.flatnonzero(first[group] != np.arange(len(group)))
    if len(copy):
        text = f"episodes {_listed([f'{number[i]} = {number[first[group[i]]]}' for i in copy[:9]])}"
        if len(copy) > 8:
            text += f"; {len(copy)} copies of {number_of(int((count > 1).sum()), 'episode')}"
        yield Finding("duplicate episodes", len(copy), text, "", int(number[copy[0]]))


def scale(whole: Whole) -> Iterator[Finding]:
    """Features well above 1 in a share of rows (of any agent); the scale of returns; few steps with a reward."""
    sums, steps = whole.sums, int(whole.episodes.length.sum())
    names = whole.names
    for kind, what, count, low, high, named in (
        ("unscaled observations", "obs", sums.large_obs, sums.obs_low, sums.obs_high, names.features),
        ("unscaled state", "state", sums.large_state, sums.state_low, sums.state_high, names.state_features),
    ):
        large = np.flatnonzero(count / (steps + len(whole.episodes.length)) > LARGE_SHARE)
        if len(large):
            which = f"features {_listed(large.tolist(), named)} exceed {LARGE:g} in more than {LARGE_SHARE:.0%} of rows"
            yield Finding(kind, len(large), f"{what}: {which} (up to {max(-low.min(), high.max()):.4g})", what)
    size = float(np.quantile(np.abs(whole.episodes.returns), 0.95))
    span = f"the 95 % quantile of |return| is {size:.4g}"
    if sums.rewarded == 0:
        text = f"{number_of(steps, 'step')}, none with a reward other than 0"
        yield Finding("rewards are all zero", steps, text, "reward")
    elif size > LARGE_RETURN:
        yield Finding("large returns", 1, f"{span}; up to about {USUAL_RETURN:g} is usual", "reward")
    elif size < SMALL_RETURN:
        text = f"{span}; from about {SMALL_RETURN:g} to {USUAL_RETURN:g} is usual"
        yield Finding("small returns", 1, text, "reward")
    if 0 < sums.rewarded < FEW_REWARDS * steps:
        text = f"{sums.rewarded} of {steps} steps ({sums.rewarded / steps:.2%}) have a reward other than 0"
        yield Finding("sparse rewards", steps - sums.rewarded, text, "reward")


def choices(whole: Whole) -> Iterator[Finding]:
    """Agents that never had more than one legal action; choices after an agent's last real one in an episode."""
    agents = np.flatnonzero(whole.sums.choices == 0)
    if len(agents):
        text = f"agent {_listed(agents.tolist(), whole.names.agents)}: one legal action at every step"
        yield Finding("agent without choices", len(agents), text, "avail", agent=int(agents[0]))
    forced = whole.episodes.forced[:, whole.sums.choices > 0]
    share = forced.sum() / (whole.episodes.length.sum() * max(1, forced.shape[1]))
    if share > 0.05:
        text = f"{share:.0%} of choices come after their agent's last step with two or more legal actions"
        yield Finding("agents out of play", int(forced.sum()), text, "avail")


def constant_features(whole: Whole) -> Iterator[Finding]:
    """Many features that never change, of any agent."""
    sums, spec = whole.sums, whole.spec
    obs, state = (sums.obs_low == sums.obs_high).all(axis=0), sums.state_low == sums.state_high
    for kind, file, same, size, whose, named in (
        ("constant observation features", "obs", obs, spec.obs_size, " of every agent", whole.names.features),
        ("constant state features", "state", state, spec.state_size, "", whole.names.state_features),
    ):
        constant = np.flatnonzero(same)
        if len(constant) >= MANY_CONSTANT * size:
            text = f"{len(constant)} of {size} features{whose}: {_listed(constant.tolist(), named)}"
            yield Finding(kind, len(constant), text, file)


def supplied(whole: Whole) -> Iterator[Finding]:
    """What an importer took for granted."""
    if whole.assumptions:
        yield Finding("supplied by the import", len(whole.assumptions), "; ".join(whole.assumptions), "zarr.json")
