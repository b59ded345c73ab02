"""What a run writes down: one row per evaluation and seed, and the handover check."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float

from ovmse.config import Config
from ovmse.learning.evaluation import Scores
from ovmse.learning.phases import MetricSums
from ovmse.methods.exploration import HasEpsilon
from ovmse.methods.method import Method, learns_q_tot
from ovmse.runs.measure_columns import MEASURE
from ovmse.training.monitor import MonitorReading


@runtime_checkable
class HasMemoryWeight(Protocol):
    """A target whose weight λ of the memory is a schedule of progress, which metrics show."""

    @property
    def weight(self) -> Callable[[float], Float[Array, ""]]: ...


def score_row(scores: Scores | None, seed: int, has_win: bool) -> dict[str, float | None]:
    """Means over the greedy episodes of one seed; nulls where nothing was played."""
    if scores is None:
        return dict.fromkeys(("win_rate", "return", "episode_length"))
    return {
        "win_rate": float(scores.won[seed].mean()) if has_win else None,
        "return": float(scores.returns[seed].mean()),
        "episode_length": float(scores.length[seed].mean()),
        **{MEASURE + name: _mean_of_told(values[seed]) for name, values in scores.measures.items()},
    }


def _mean_of_told(values: np.ndarray) -> float | None:
    """The mean over the episodes that tell a measure; None where none does, or where it is not finite."""
    told = values[~np.isnan(values)]
    return float(told.mean()) if len(told) and np.isfinite(told).all() else None


def sums_row(sums: MetricSums, seed: int, remembers: bool) -> dict[str, float | None]:
    """Means over the updates since the last row; nulls where there was none."""
    updates = int(sums.updates[seed])

    def mean(total: Any) -> float | None:
        return float(total[seed]) / updates if updates else None

    losses = sums.total.losses
    return {
        "loss": mean(losses.loss),
        "td_error": mean(losses.td_error),
        "cql": mean(losses.regulariser),
        "q_tot": mean(losses.q_tot),
        "target": mean(losses.target),
        "grad_norm": mean(sums.total.grad_norm),
        "memory_active_share": mean(losses.memory_active_share) if remembers else None,
    }


def schedule_row(method: Method, progress: float, online: bool) -> dict[str, float | None]:
    """ε and λ at this progress, where the method has them."""
    epsilon = method.explore.epsilon if isinstance(method.explore, HasEpsilon) else None
    weight = method.online_target.weight if isinstance(method.online_target, HasMemoryWeight) else None

    def now(setting: Any) -> float | None:
        if not online or setting is None:
            return None
        return float(setting(progress) if callable(setting) else setting)

    return {"epsilon": now(epsilon), "lambda": now(weight)}


def monitor_row(reading: MonitorReading | None, seed: int, method: Method, online: bool) -> dict[str, float | None]:
    """What the monitor sees of one seed (`reading` has all seeds on a leading axis; None: there is no dataset).

    Nulls: Q_tot where the phase's loss learns none, drift where either phase's does not, and what compares with the
    frozen team where there is none.
    """
    loss = method.online_loss if online else method.offline_loss
    compares = online and method.offline_loss is not None
    learned = loss is not None and learns_q_tot(loss)
    frozen = compares and method.offline_loss is not None and learns_q_tot(method.offline_loss)

    def number(name: str, known: bool) -> float | None:
        if reading is None or not known:
            return None
        value = float(getattr(reading, name)[seed])
        return value if np.isfinite(value) else None

    return {
        "monitor_q_tot": number("q_tot", learned),
        "monitor_offline_value": number("frozen", frozen),
        "monitor_drift": number("drift", learned and frozen),
        "monitor_relative_drift": number("relative_drift", learned and frozen),
        "monitor_agreement": number("agreement", compares),
    }


def handover_report(
    before: Scores, after: Scores, config: Config, has_win: bool, repeatable: bool = True
) -> dict[str, Any]:
    """The handover check: greedy scores of the same episodes just before and just after the switch, by seed.

    repeatable: whether there are the same episodes, in this environment; else agreement can't be told (null).
    """
    seeds = []
    for i in range(config.seeds):
        same = all(np.array_equal(getattr(before, x)[i], getattr(after, x)[i]) for x in ("returns", "won", "length"))
        was, now = score_row(before, i, has_win), score_row(after, i, has_win)
        seeds.append(
            {
                "seed": config.seed + i,
                "win_rate_before": was["win_rate"],
                "win_rate_after": now["win_rate"],
                "return_before": was["return"],
                "return_after": now["return"],
                "agree": same if repeatable else None,
                "max_abs_return_difference": float(np.abs(before.returns[i] - after.returns[i]).max()),
            }
        )
    return {"episodes": config.evaluate_episodes, "seeds": seeds}
