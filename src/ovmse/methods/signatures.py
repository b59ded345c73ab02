"""What the parts of a method are given and what each may ask for: the protocols of losses, targets and exploration.

A part is any function of the right signature; the usual ones are frozen dataclasses, so that they print into
`config.json` and `--change` reaches their settings. Axes: T steps of an episode, N agents, A actions of an agent.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.core.mixers import MixWeights
from ovmse.core.networks import Heads, Team
from ovmse.core.types import Episode
from ovmse.core.values import Scalar, Values

PerStep = Float[Array, " T"]


class LossInputs(NamedTuple):
    """All that is known of one episode while its loss is computed; what a loss leaves unused costs nothing.

    Losses that work step by step may be given several episodes laid end to end (see `LaidEndToEnd` and `Episode`).

    values: one pass of the online and of the target network.
    td_target: what Q_tot regresses onto.
    offline_value: what is remembered beside each step.
    episode: the episode itself.
    from_data: whether a step is the dataset's (always, in the offline phase).
    bootstrap: the method's targets with other next values, by γ and λ of the run: (value after each step, 0 where
        terminal) → returns.
    gamma: the discount factor γ.
    progress: the spent share of the online budget, in [0, 1].
    key: for what is random.
    offline_share: the share of episodes in a batch that are the dataset's, on average.
    error_scale: what squared errors of Q_tot are divided by: 1, or where values are normalised the mean of y².
    drawn: how often each step's episode was to be drawn by its priority, relative to the mean (1 for those played).
    """

    values: Values
    td_target: PerStep
    offline_value: PerStep
    episode: Episode
    from_data: Bool[Array, " T"]
    bootstrap: Callable[[PerStep], PerStep]
    gamma: Scalar
    progress: Float[Array, ""]
    key: PRNGKeyArray
    offline_share: Scalar = 1.0
    error_scale: Scalar = 1.0
    drawn: PerStep | float = 1.0


class PolicyOutput(NamedTuple):
    """What one team says at one row: its agents' heads, and its mixer's weights at the row's state."""

    heads: Heads
    weights: MixWeights


class ActionInputs(NamedTuple):
    """What a choice of actions at one row may depend on while the team trains.

    q: utilities (or a policy's logits) of the team as it plays.
    avail: the legal actions.
    t: the row, from 0.
    progress: the spent share of the online budget, in [0, 1].
    online: what the learning team says.
    offline: what the team says that left the offline phase; None where the method does not ask for it.
    typical_length: the steps of the online episodes so far, on average; the most that an episode may have before any.
    """

    q: Float[Array, "N A"]
    avail: Bool[Array, "N A"]
    t: Int[Array, ""]
    progress: Float[Array, ""]
    online: PolicyOutput
    offline: PolicyOutput | None
    typical_length: Float[Array, ""]


Loss = Callable[[LossInputs], PerStep]
"""The loss of each step. It may also be a `NeedsHeads` and a `LearnsInstead`."""
NextValue = Callable[[Values, Episode, PRNGKeyArray], PerStep]
"""What the TD target bootstraps from: the value after each step."""
Target = Callable[[PerStep, PerStep, Float[Array, ""]], PerStep]
"""(TD target, offline value, progress) → what Q_tot regresses onto online."""
Explore = Callable[[PRNGKeyArray, ActionInputs], Int[Array, " N"]]
"""(the step's key, what is known) → a joint action. It may also be a `UsesOfflineTeam` and a `ComparesQTot`."""
ActingUtilities = Callable[[ActionInputs], Float[Array, "N A"]]
"""The utilities by which the team plays, in training and in evaluation. It may also be a `UsesOfflineTeam`."""
Memory = Callable[[Team, Episode], PerStep]
"""(the team as it left the offline phase, an episode) → what to remember beside each of its steps, computed once."""
Priority = Callable[[LossInputs], Float[Array, ""]]
"""How often an episode of the dataset is to be drawn from now on, relative to 1 at first."""


@runtime_checkable
class NeedsHeads(Protocol):
    """A loss that needs networks with more than utilities: the fields of `Parts` that must be set."""

    needs: tuple[Literal["policy", "value", "ratio", "behaviour"], ...]


@runtime_checkable
class LearnsInstead(Protocol):
    """A loss that regresses no Q_tot: it learns a policy and no values, or each agent's utilities on their own."""

    learns: Literal["policy", "utilities"]


@runtime_checkable
class LaidEndToEnd(Protocol):
    """A loss, target or next value of your own that may be given several episodes laid end to end, which is faster.

    It works step by step: whatever it gives at a valid step depends on that step and the row after it alone, or on
    steps of the same episode, which ends at the next step that is not valid. All that the library has do.
    """

    laid_end_to_end: Literal[True]


@runtime_checkable
class UsesOfflineTeam(Protocol):
    """A part for which the team as it left the offline phase acts beside the learning one (`ActionInputs.offline`)."""

    uses_offline_team: Literal[True]


@runtime_checkable
class ComparesQTot(Protocol):
    """An exploration that compares joint actions by Q_tot, so that the online loss must learn it."""

    compares_q_tot: Literal[True]


@runtime_checkable
class ActsWithinReturn(Protocol):
    """A target that may be applied at each step of the λ-return's recursion, before the step before sees it."""

    within_return: bool
