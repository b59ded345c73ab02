"""Games small enough to know the answer: two agents, payoff tables, the best return by backward induction."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ovmse.core.errors import UserError, check_known
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.naming import check_settings


class Game(NamedTuple):
    """Payoff tables of a game in stages; the axes are stage, action of agent 0, action of agent 1.

    payoff: the shared reward. following: the next stage, always a later one; the number of stages is the end.
    """

    payoff: np.ndarray
    following: np.ndarray


class MatrixState(NamedTuple):
    """stage: where the game stands (the number of stages: over); collected: the rewards so far."""

    stage: Int[Array, ""]
    collected: Float[Array, ""]


def climbing() -> Game:
    """The climbing game: 11 at (0, 0), surrounded by losses of 30 (Claus and Boutilier, 1998)."""
    return _one_stage([[11, -30, 0], [-30, 7, 6], [0, 0, 5]])


def penalty(penalty: float = -100.0) -> Game:
    """The penalty game: 10 at (0, 0) and (2, 2), `penalty` where just one does so, 2 at (1, 1).

    Claus and Boutilier (1998). Raises `UserError` where `penalty` is not a finite number of at most 0.
    """
    if not -np.inf < penalty <= 0:
        raise UserError(f"setting 'penalty' of matrix:penalty must be at most 0 and finite; got {penalty}.")
    return _one_stage([[10, 0, penalty], [0, 2, 0], [penalty, 0, 10]])


def two_step(delay: int = 0) -> Game:
    """QMIX's two-step game: agent 0's first action chooses 2A (all 7) or 2B (0 and 1, but 8 at (1, 1)).

    Rashid et al. (2018), section 5, table 1. A mixer without the state's help settles for 7. delay: steps of waiting
    between the choice and 2A or 2B, through which its worth has to be learned. Raises `UserError` where it is below 0.
    """
    if not 0 <= delay <= 1000:
        raise UserError(f"setting 'delay' of matrix:two_step must be between 0 and 1000; got {delay}.")
    stages = 2 * delay + 3  # after the first, by turns one on the way to 2A and one on the way to 2B
    payoff, following = np.zeros((stages, 2, 2)), np.zeros((stages, 2, 2), int)
    payoff[-2:] = [[[7, 7], [7, 7]], [[0, 1], [1, 8]]]
    following[0] = [[1, 1], [2, 2]]
    following[1:] = np.minimum(np.arange(1, stages) + 2, stages)[:, None, None]
    return Game(payoff, following)


GAMES: dict[str, Callable[..., Game]] = {"climbing": climbing, "penalty": penalty, "two_step": two_step}


class MatrixGame:
    """A game of `GAMES`; every agent observes the stage, one-hot, and all zeros when it is over.

    Episodes always end by themselves. Won: the episode's return is the best there is, `optimal_return`.
    `optimal_values` (stage, action 0, action 1) is what each joint action is worth if the rest is played
    best.

    Raises `UserError` for unknown games and unusable settings.
    """

    spec: EnvSpec

    def __init__(self, game: str, **settings: Any) -> None:
        check_known("matrix game", game, GAMES)
        resolved = check_settings(f"matrix:{game}", GAMES[game], settings)
        tables = GAMES[game](**resolved)
        n_stages, n_actions, _ = tables.payoff.shape
        self.optimal_values, self.optimal_return, n_steps = _solve(tables)
        self._payoff = jnp.asarray(tables.payoff, jnp.float32)
        self._following = jnp.asarray(tables.following, jnp.int32)
        self.spec = EnvSpec(
            name=f"matrix:{game}",
            version="ovmse matrix games 1",
            settings=resolved,
            n_agents=2,
            n_actions=n_actions,
            obs_size=n_stages,
            state_size=n_stages,
            episode_limit=n_steps,
            has_win=True,
        )

    def reset(self, key: PRNGKeyArray) -> tuple[MatrixState, Observation]:
        """The first stage; nothing is random."""
        del key
        state = MatrixState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))
        return state, self._observe(state)

    def step(
        self, key: PRNGKeyArray, state: MatrixState, action: Int[Array, " N"]
    ) -> tuple[MatrixState, Observation, StepResult]:
        """The stage after the joint action, and its payoff."""
        del key
        where = state.stage, action[0], action[1]
        reward = self._payoff[where]
        after = MatrixState(self._following[where], state.collected + reward)
        over = after.stage == len(self._payoff)
        best = after.collected >= self.optimal_return - 1e-3
        return after, self._observe(after), StepResult(reward, over, jnp.zeros((), bool), over & best)

    def _observe(self, state: MatrixState) -> Observation:
        stage = jax.nn.one_hot(state.stage, self.spec.state_size, dtype=jnp.float32)
        everything = jnp.ones((self.spec.n_agents, self.spec.n_actions), bool)
        return Observation(jnp.tile(stage, (self.spec.n_agents, 1)), stage, everything)


def _one_stage(payoff: list[list[Any]]) -> Game:
    return Game(np.array([payoff], float), np.ones((1, len(payoff), len(payoff)), int))


def _solve(game: Game) -> tuple[np.ndarray, float, int]:
    """The value of every joint action, the best return, and the longest episode, from the last stage back."""
    n_stages = len(game.payoff)
    best, steps = np.zeros(n_stages + 1), np.zeros(n_stages + 1, int)
    values = np.zeros_like(game.payoff)
    for stage in reversed(range(n_stages)):
        values[stage] = game.payoff[stage] + best[game.following[stage]]
        best[stage] = values[stage].max()
        steps[stage] = 1 + steps[game.following[stage]].max()
    return values, float(best[0]), int(steps[0])
