"""The rollback guard: a seed that stays below what it was worth before the handover returns to its offline policy.

What it decides is a function of the rows in `metrics.jsonl`, so that a resumed run needs nothing else to go on with.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.learning import learner as learning
from ovmse.learning.parallel import SeedBatches, padded_seeds, split
from ovmse.learning.phases import SeedState
from ovmse.methods.method import Method

Row = dict[str, Any]
ROUNDING = 1e-9  # a score that is the margin below is not yet more than the margin below


def check(config: Config, method: Method) -> None:
    """Raise `UserError` where a guard is asked for and the method has no offline team that could learn on."""
    if config.guard_margin is None:
        return
    why = None
    if method.online_target is None:
        why = "plays nothing online, so there is nothing to guard"
    elif method.offline_loss is None:
        why = "has no offline phase, and so no policy to return to"
    elif method.reinitialise_online:
        why = "learns new networks online, which can't go on from the offline team's"
    if why:
        raise UserError(f"the method {config.method!r} {why}: leave --guard-margin out.")


def score(row: Row) -> float:
    """What a seed is judged by: its win rate, or its return where the environment can't be won."""
    return row["return"] if row["win_rate"] is None else row["win_rate"]


def is_below(before: Row, now: Row, margin: float) -> bool:
    """Whether a score is more than the margin below the one before the handover.

    margin: points of win rate as a share (0.1 is 10 points); without wins a share of the return before, |return|.
    """
    allowed = margin * (abs(before["return"]) if before["win_rate"] is None else 1.0)
    return score(before) - score(now) > allowed + ROUNDING


def returns_now(rows: Sequence[Row], margin: float, patience: int) -> bool:
    """Whether a seed is to return to its offline policy after the last of its online rows.

    rows: one seed's, in order; the first, at 0 environment steps, has its score before the handover. True where the
    last `patience` of them are all below that by more than the margin, counted anew after each return.
    """
    recent = rows[1:][-patience:]
    fresh = not any(row["rolled_back"] for row in recent)
    return len(recent) == patience and fresh and all(is_below(rows[0], row, margin) for row in recent)


def online_rows(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The online rows of each seed, in order."""
    seeds = sorted({row["seed"] for row in rows})
    return {seed: [row for row in rows if row["seed"] == seed and row["phase"] == "online"] for seed in seeds}


def check_rollback(config: Config, past: Sequence[Row], rows: Sequence[Row], over: bool) -> list[Row]:
    """Set `rolled_back` in the rows of one online evaluation, a row per seed; the result are those where it is true.

    past: all rows before. over: the budget is spent, so that nobody returns: there is nothing left to learn.
    """
    assert config.guard_margin is not None
    before = online_rows(past)
    for row in rows:
        row["rolled_back"] = False
        mine = [*before.get(row["seed"], []), row]
        row["rolled_back"] = not over and returns_now(mine, config.guard_margin, config.guard_patience)
    return [row for row in rows if row["rolled_back"]]


def flags(config: Config, rows: Sequence[Row]) -> SeedBatches:
    """A flag per seed, in batches: whether it is among these rows."""
    going = np.zeros(padded_seeds(config.seeds), bool)
    going[[row["seed"] - config.seed for row in rows]] = True
    return split(going, config.seeds)


def send_back(config: Config, state: SeedState, back: Bool[Array, ""]) -> SeedState:
    """One seed's state, from the offline team on where `back` is set.

    Team and target network become the frozen ones, the optimiser and the priorities of the dataset start afresh. The
    replay stays: what was played is true whoever played it, and what is remembered beside its steps is the same frozen
    team's. Exploration goes on by its schedule, and so do the counts and the random numbers.
    """
    assert state.offline_team is not None
    fresh = learning.restart(config.learner, state.offline_team)._replace(updates=state.learner.updates)
    learner = jax.tree.map(lambda new, old: jnp.where(back, new, old), fresh, state.learner)
    priority = None if state.priority is None else jnp.where(back, 1.0, state.priority)
    return state._replace(learner=learner, priority=priority)


def events(config: Config, rows: Sequence[Row]) -> dict[str, Any]:
    """What `guard.json` holds: the settings, and each seed's returns so far."""
    seeds = []
    for seed, mine in online_rows(rows).items():
        told = [
            {"env_steps": row["env_steps"], "updates": row["updates"], "score": score(row)}
            for row in mine
            if row["rolled_back"]
        ]
        seeds.append({"seed": seed, "before": score(mine[0]), "rollbacks": told})
    by = "return" if rows[-1]["win_rate"] is None else "win_rate"
    return {"score": by, "margin": config.guard_margin, "patience": config.guard_patience, "seeds": seeds}


def verdicts(config: Config, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each seed whether the last team is below the offline one by the margin, at the last evaluation."""
    assert config.guard_margin is not None
    return [
        {
            "seed": seed,
            "before": score(mine[0]),
            "last": score(mine[-1]),
            "below": is_below(mine[0], mine[-1], config.guard_margin),
        }
        for seed, mine in online_rows(rows).items()
    ]
