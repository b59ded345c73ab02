"""What a team thinks: the scores that it acts by, its utilities, and Q_tot of what it would do, in NumPy alone."""

from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.padding import present
from ovmse.policy import explore
from ovmse.policy.act import Policy, TeamMemory
from ovmse.policy.contract import FROZEN


class TeamValues(NamedTuple):
    """What a team thinks of one row, as arrays in the order of its agents.

    scores: what the best action is the largest of, [..., N, A]. utilities: Q_i(τ_i, ·), the same but where it acts by a
    policy's logits; None where it learned a policy alone. q_tot: Q_tot of the best joint action, [...]; None without a
    state.
    """

    scores: np.ndarray
    utilities: np.ndarray | None
    q_tot: np.ndarray | np.float32 | None


class ActingTeam(Policy):
    """A `Policy` that also tells what it thinks, and explores."""

    def values(
        self,
        observations: Any,
        available: Any = None,
        memory: TeamMemory | None = None,
        last_action: Any = None,
        state: Any = None,
        action: Any = None,
    ) -> TeamValues:
        """What the team thinks of what it sees, before it acts; the arguments are those of `act`.

        Args:
            observations, available, memory, last_action: see `act`.
            state: the global state, [..., S]: then Q_tot is told, too.
            action: the joint action that Q_tot is told of, [..., N]; by default the best one.

        Raises:
            UserError: where Q_tot is asked of a team that has none.
            ValueError: as `act`.
        """
        obs, legal, memory = self.given(observations, available, memory, last_action)
        _, scores, utilities = self.step(obs, memory)
        learns = self.contract["learns"]
        if state is None:
            return TeamValues(scores, None if learns == "policy" else utilities, None)
        frozen = any(about["prefix"].startswith(FROZEN) for about in self.contract["networks"])
        if learns != "q_tot" or frozen or self.alone is not None:
            why = "some of its agents play by another network than its mixer's"
            why = why if frozen else f"its losses trained its {learns} alone"
            why = "one agent alone has no Q_tot" if self.alone is not None else why
            raise UserError(f"state: this team tells no Q_tot, since {why}. Leave the state out.")
        state, expected = np.asarray(state, np.float32), (*obs.shape[:-2], self.sizes["state"])
        if state.shape != expected:
            raise UserError(f"state: expected the shape {expected}; got {state.shape}.")
        best = np.where(legal, scores, -np.inf).argmax(-1)
        joint = best if action is None else self.array("action", action, observations, None, np.int64)
        taken = np.take_along_axis(utilities, joint[..., None], -1)[..., 0]
        taken = np.where(present(obs, legal), taken, 0)  # an agent that is out of play has no weight in the mixer
        return TeamValues(scores, utilities, q_tot(self.contract["mixer"], self.weights, taken, state))

    def explore(self, *what: Any, **how: Any) -> tuple[Any, TeamMemory, Any]:
        """Explore one agent at a time: see `ovmse.policy.explore.explore`, whose first argument is this team."""
        return explore.explore(self, *what, **how)


def q_tot(mixer: str, weights: dict[str, np.ndarray], q: np.ndarray, state: np.ndarray) -> np.ndarray | np.float32:
    """Q_tot of chosen utilities [..., N] at states [..., S], as `ovmse.core.mixers` has it."""

    def affine(name: str, x: np.ndarray) -> np.ndarray:
        return x @ weights[f"mixer.{name}.weight"].T + weights[f"mixer.{name}.bias"]

    def hyper(name: str) -> np.ndarray:
        return affine(f"{name}.1", np.maximum(affine(f"{name}.0", state), 0))

    if mixer == "vdn":
        return q.sum(-1)
    if mixer == "linear":
        return (q * np.abs(hyper("w"))).sum(-1) + hyper("b")[..., 0]
    w1 = np.abs(hyper("w1")).reshape(*q.shape, -1)
    mixed = (q[..., None] * w1).sum(-2) + affine("b1", state)
    units = np.where(mixed > 0, mixed, np.expm1(np.minimum(mixed, 0)))  # elu
    return (units * np.abs(hyper("w2"))).sum(-1) + hyper("b2")[..., 0]
