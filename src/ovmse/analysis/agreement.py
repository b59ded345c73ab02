"""How far a log follows a policy, and what the episodes earned that do: no model of who played is needed.

Axes: M steps of all episodes, R rows (a final one per episode), E episodes, N agents, A actions.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt

from ovmse.core.padding import has_choice
from ovmse.core.types import Flat
from ovmse.data.schema import starts, step_rows
from ovmse.stats.estimates import bootstrap_interval


class LogAgreement(NamedTuple):
    """Where a policy would have done what was logged; only steps with a choice count.

    coverage: share of the joint choices (any agent had more than one legal action) that are the policy's.
    agent_coverage: share of the agents' choices, all agents together; by_agent: each agent's.
    followed: share of each episode's joint choices (1 where it has none).
    Shares are None where nobody ever had a choice.
    """

    coverage: float | None
    agent_coverage: float | None
    by_agent: tuple[float | None, ...]
    followed: Float[np.ndarray, " E"]


class Matching(NamedTuple):
    """The mean discounted return of the episodes that follow a policy, with a 95 % bootstrap interval.

    episodes: how many do; as each of them weighs the same, it is the effective sample size too. reason: why there is
    no return (None where there is one).
    """

    value: float | None
    low: float | None
    high: float | None
    episodes: int
    reason: str | None


def agreement(log: Flat, policy: UInt[np.ndarray, "R N"]) -> LogAgreement:
    """Compare a policy's joint actions at the rows of a log with the logged ones. Rows beyond the log's are ignored."""
    steps, step_start = step_rows(log["length"]), starts(log["length"])
    choice: Bool[np.ndarray, "M N"] = has_choice(log["avail"][steps])
    same: Bool[np.ndarray, "M N"] = np.asarray(policy[steps] == log["action"]) | ~choice
    joint, together = np.any(choice, axis=-1), np.all(same, axis=-1)
    chosen = np.add.reduceat(joint.astype(np.int64), step_start)
    agreed = np.add.reduceat((joint & together).astype(np.int64), step_start)
    return LogAgreement(
        coverage=_share(together, joint),
        agent_coverage=_share(same, choice),
        by_agent=tuple(_share(same[:, i], choice[:, i]) for i in range(choice.shape[1])),
        followed=np.where(chosen > 0, agreed / np.maximum(chosen, 1), 1.0),
    )


def _share(of: Any, among: Any) -> float | None:
    return float(of[among].mean()) if among.any() else None


def discounted_returns(log: Flat, gamma: float) -> Float[np.ndarray, " E"]:
    """Σ_t γ^t r_t of every episode."""
    step_start = starts(log["length"])
    within = np.arange(len(log["reward"])) - np.repeat(step_start, log["length"])
    return np.add.reduceat(log["reward"].astype(np.float64) * gamma**within, step_start)


def matching_return(
    returns: Float[np.ndarray, " E"], followed: Float[np.ndarray, " E"], share: float, least: int, seed: int = 0
) -> Matching:
    """The mean return of the episodes that follow a policy at `share` of their joint choices or more.

    With share 1 it estimates the policy's return where the log's actions were drawn uniformly, or where the episodes
    are equally long and each logged choice was as likely as any other (the replay method, Li et al. 2011); a log that
    prefers some histories biases it. No estimate with fewer than `least` such episodes.
    """
    found = returns[followed >= share]
    if len(found) < least:
        return Matching(None, None, None, len(found), f"{len(found)} episodes follow the policy, {least} are needed")
    value = float(found.mean())
    low, high = bootstrap_interval(found, statistic=np.mean, seed=seed) or (value, value)
    return Matching(value, float(low), float(high), len(found), None)
