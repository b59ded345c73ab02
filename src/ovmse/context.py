"""What the parts of a method are given: the types of losses, targets, exploration, memory and priorities."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ovmse.mixers import MixWeights
from ovmse.networks import Heads, Team
from ovmse.types import Episode
from ovmse.values import Values

PerStep = Float[Array, " T"]


class Context(NamedTuple):
    """All that is known of one episode while its loss is computed; what a loss leaves unused costs nothing.

    values: one pass of the online and of the slow network. target: what Q_tot regresses onto. memory: what is
    remembered beside each step. from_data: whether the episode is the dataset's (always, in the offline phase).
    bootstrap: the method's targets with other next values: (value after each step, 0 where terminal) → returns, by
    γ and λ of the run. key: for what is random. progress: the spent share of the online budget. drawn: how often an
    episode of the dataset was to be drawn by its priority, relative to their mean (1 for all others).
    """

    values: Values
    target: PerStep
    memory: PerStep
    episode: Episode
    from_data: Bool[Array, ""]
    bootstrap: Callable[[PerStep], PerStep]
    gamma: float
    progress: Float[Array, ""]
    key: PRNGKeyArray
    drawn: Float[Array, ""] | float = 1.0


class Voice(NamedTuple):
    """What one team says at one row: its agents' heads, and its mixer's weights at the row's state."""

    heads: Heads
    weights: MixWeights


class Sight(NamedTuple):
    """What a choice at one row may depend on while the team trains.

    q: utilities (or a policy's logits) of the team as it plays; avail: legal actions; t: the row, from 0;
    episode_limit: the most steps. online: the learning team; offline: the team as it left the offline phase (None where
    the method does not ask for it). progress: the spent share of the online budget.
    """

    q: Float[Array, "N A"]
    avail: Bool[Array, "N A"]
    t: Int[Array, ""]
    progress: Float[Array, ""]
    online: Voice
    offline: Voice | None
    episode_limit: int


Loss = Callable[[Context], PerStep]
"""The loss of each step."""
NextValue = Callable[[Values, Episode, PRNGKeyArray], PerStep]
"""What the TD target bootstraps from: the value after each step."""
Target = Callable[[PerStep, PerStep, Float[Array, ""]], PerStep]
"""(TD target, memory, progress) → what Q_tot regresses onto online."""
Explore = Callable[[PRNGKeyArray, Sight], Int[Array, " N"]]
"""(step's key, what is seen) → a joint action."""
Compose = Callable[[Sight], Float[Array, "N A"]]
"""What is seen → the utilities by which the team plays, in training and in evaluation."""
Memory = Callable[[Team, Episode], PerStep]
"""(the team as it left the offline phase, an episode) → what to remember beside each of its steps, computed once."""
Priority = Callable[[Context], Float[Array, ""]]
"""How often an episode of the dataset is to be drawn from now on, relative to 1 at first."""
