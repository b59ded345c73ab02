"""Evaluation by held-out episodes of a log, without play: losses, agreement, coverage, fitted Q evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from ovmse.analysis.agreement import agreement, discounted_returns
from ovmse.config import Config
from ovmse.core.types import EnvSpec, Flat
from ovmse.learning.fqe import fit_settings, joint_actions
from ovmse.learning.learner import Losses
from ovmse.learning.log_losses import log_losses
from ovmse.learning.parallel import SeedBatches, join, over_seeds, shared
from ovmse.learning.phases import Phase, SeedState, offline_objective, remember_data
from ovmse.learning.replay import Replay, from_flat
from ovmse.learning.rounds import round_objective
from ovmse.methods.method import Method, learns_q_tot
from ovmse.stats import ranking
from ovmse.training.fitting import Advance, Fitter, fitter

FIELDS = (
    "held_out_loss", "held_out_td_error", "agreement", "coverage", "fqe", "fqe_low", "fqe_high", "behaviour_return",
)  # fmt: skip
"""What a row of metrics says of held-out episodes (docs/metrics.md); nulls without any."""


class LogEvaluation(NamedTuple):
    """What evaluates teams on held-out episodes.

    log: these episodes; data: the same, for all seeds. look: batches of states and `data` → what each team would do at
    every row, and the losses of its learner, but where it plays. fit: fitted Q evaluation. behaviour: the mean
    discounted return of the episodes themselves. updates: of all fits of one evaluation. learns_values: whether losses
    have a TD error.
    """

    log: Flat
    data: Replay
    look: Callable[..., SeedBatches]
    fit: Fitter
    behaviour: float
    updates: int
    learns_values: bool


def make(config: Config, method: Method, spec: EnvSpec, log: Flat) -> LogEvaluation:
    """What evaluates the teams of a run on these episodes, each with one fit that learns from them alone."""
    data, longest = from_flat(log, spec), int(log["length"].max())

    def look(config: Config, method: Method, state: SeedState, data: Replay) -> tuple[Array, Losses | None]:
        policy = joint_actions(state.learner.team, data, longest)
        if state.phase is Phase.ONLINE:
            return policy, None
        objective = offline_objective(method)
        if state.phase is Phase.ROUND:
            objective = round_objective(config, method, state)
            if method.memory is not None and state.offline_team is not None:
                data = data._replace(offline_value=remember_data(method, spec, state.offline_team, data))
        return policy, log_losses(config.learner, objective, state.learner, data, longest)

    online = config.round is not None and config.round.loss == "online"
    loss = method.online_loss if online else method.offline_loss
    settings = fit_settings(config.learner, config.batch_episodes, config.fqe_updates, seed=config.seed)
    return LogEvaluation(
        log=log,
        data=shared(data, config.seeds),
        look=over_seeds(look, config.seeds, keep=True, settings=(config, method)),
        fit=fitter(settings, spec, data, config.seeds),
        behaviour=float(discounted_returns(log, config.learner.gamma).mean()),
        updates=config.seeds * settings.updates,
        learns_values=loss is not None and learns_q_tot(loss),
    )


def rows(evaluation: LogEvaluation, config: Config, states: SeedBatches, advance: Advance) -> list[dict[str, Any]]:
    """The `FIELDS` of every seed's team."""
    policies, losses = join(evaluation.look(states, evaluation.data))
    policies, seeds = policies[: config.seeds], range(config.seeds)
    fitted = evaluation.fit(policies, advance)
    low, high = ranking.interval(ranking.bootstrap_means(fitted.start, seed=config.seed))
    found = [agreement(evaluation.log, policies[i]) for i in seeds]
    values: list[tuple[Any, ...]] = [
        (
            None if losses is None else losses.loss[i],
            None if losses is None or not evaluation.learns_values else losses.td_error[i],
            found[i].agent_coverage,
            found[i].coverage,
            fitted.start[i].mean(),
            low[i],
            high[i],
            evaluation.behaviour,
        )
        for i in seeds
    ]
    return [dict(zip(FIELDS, map(_number, each), strict=True)) for each in values]


def _number(value: Any) -> float | None:
    """A number as JSON has it: null where there is none, or it is not finite."""
    return None if value is None or not np.isfinite(value) else float(value)
