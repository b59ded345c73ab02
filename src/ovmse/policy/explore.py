"""Exploring in the field, in NumPy alone: one agent at a time, by a seed that the team shares, without a message.

An export's explore.py is this file. `explore` takes the `Policy` of policy.py: a team, or one agent of it.
"""

from typing import Any

import numpy as np

MOST_EXPLORED = 0.5
"""The largest ε: beyond it there is more exploring than playing."""


def explore(
    team: Any,
    observations: Any,
    available: Any = None,
    memory: Any = None,
    last_action: Any = None,
    *,
    epsilon: float,
    seed: int,
    episode: Any,
    may_explore: Any = None,
) -> tuple[Any, Any, Any]:
    """As `Policy.act`, but with probability ε one of the N agents, drawn uniformly, acts at random, the others as ever:
    Sequential Exploration (OVMSE, Zhong et al. 2024).

    All derive alike from the seed, the episode's number and `memory.step` whose turn it is, so that agents which act
    alone, on machines of their own, choose what the team as a whole would.

    Args:
        team: who acts.
        observations, available, memory, last_action: as for `Policy.act`.
        epsilon: ε, at most `MOST_EXPLORED`.
        seed: the number that the team shares, 0 or more.
        episode: the episode's number, 0 or more; an array of one for each where several go side by side.
        may_explore: bool [..., N, A], what an agent may try in its turn; where it may try nothing, it does not explore.

    Returns:
        The action, the memory for the next step, and the probability that each agent's action had, float64 [..., N].

    Raises:
        ValueError: for ε out of range, and as `Policy.act`.
    """
    if not 0.0 <= epsilon <= MOST_EXPLORED:
        raise ValueError(f"epsilon must lie between 0 and {MOST_EXPLORED}; got {epsilon}.")
    obs, legal, memory = team.given(observations, available, memory, last_action)
    free = legal
    if may_explore is not None:
        free = legal & team.array("may_explore", may_explore, observations, "actions", np.bool_)
    turn, who, which = shared_draws(seed, episode, memory.step)
    memory, scores, _ = team.step(obs, memory)
    greedy = np.where(legal, scores, -np.inf).argmax(-1)
    n, count = len(team.names), free.sum(-1)
    its_turn = (turn < epsilon)[..., None] & (np.floor(who * n)[..., None] == team.numbers) & (count > 0)
    drawn = (free.cumsum(-1) > np.floor(which[..., None] * count)[..., None]).argmax(-1)
    action = np.where(its_turn, drawn, greedy)
    rate = np.where(count > 0, epsilon / n, 0.0)
    is_free = np.take_along_axis(free, action[..., None], -1)[..., 0]
    probability = (1.0 - rate) * (action == greedy) + rate * is_free / np.maximum(1, count)
    return team.back(action, observations), memory._replace(last_action=action), team.back(probability, observations)


def shared_draws(seed: int, episode: Any, step: Any) -> np.ndarray:
    """Three numbers in [0, 1) for each episode: is it anyone's turn, whose, and for what. Shape [3, ...].

    They are the first three outputs of Philox 4x64-10 (Salmon et al. 2011) with the key (seed, episode) and the counter
    (step, 0, 0, 0), as NumPy has it; of each the highest 53 bits.
    """
    if np.shape(episode) != np.shape(step):
        raise ValueError(f"episode: expected one number for each, shape {np.shape(step)}; got {np.shape(episode)}.")
    places = zip(np.ravel(episode).tolist(), np.ravel(step).tolist(), strict=True)
    raw = [_philox(seed, one, at).random_raw(3) >> np.uint64(11) for one, at in places]
    return (np.array(raw) * 2.0**-53).T.reshape(3, *np.shape(step))


def _philox(seed: int, episode: int, step: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, episode], np.uint64), counter=np.array([step, 0, 0, 0], np.uint64))
