"""The least work that an update or a step of play can do, counted from the shapes.

Only matrix products count as operations, 2·m·n·k for ``[m, k] x [k, n]``; what else is computed (gates, one-hot
columns, softmaxes, the optimiser) would come on top. Letters: N agents, A actions, O observation features, S state
features, H, M, E as in `ovmse.config.LearnerConfig`; a row is one moment of an episode, and an episode of L steps
has L + 1 of them.
"""

from typing import NamedTuple

from ovmse.config import LearnerConfig
from ovmse.core.types import EnvSpec
from ovmse.learning.replay import row_bytes

FLOAT = 4  # bytes of a float32


class Sizes(NamedTuple):
    """The letters in one place. inputs: features that the agent's encoder multiplies.

    The encoder also takes the agent's index and last action, but those are one-hot: their product is a row of the
    weights, looked up.
    """

    n: int
    a: int
    inputs: int
    s: int
    h: int
    m: int
    e: int
    mixes: bool


def sizes(spec: EnvSpec, learner: LearnerConfig) -> Sizes:
    """The sizes of a learner's networks in an environment."""
    return Sizes(
        n=spec.n_agents,
        a=spec.n_actions,
        inputs=spec.obs_size,
        s=spec.state_size,
        h=learner.hidden,
        m=learner.embedding,
        e=learner.hyper,
        mixes=learner.mixer in (None, "qmix"),
    )


class Layers(NamedTuple):
    """Operations of one forward pass. fed: by layers whose input is data; inner: by all others."""

    fed: int
    inner: int

    @property
    def forward(self) -> int:
        """Operations of the values."""
        return self.fed + self.inner

    @property
    def backward(self) -> int:
        """Operations of the gradient: of the weights everywhere, of the inputs only where they are not data."""
        return self.fed + 2 * self.inner


def agent_layers(z: Sizes) -> Layers:
    """Of one row, all agents: encoder, the GRU's two products, head."""
    inner = 2 * z.h * 3 * z.h + 2 * z.h * 3 * z.h + 2 * z.h * z.a
    return Layers(fed=z.n * 2 * z.inputs * z.h, inner=z.n * inner)


def mixer_layers(z: Sizes) -> Layers:
    """Of one row: hypernetworks w1 S→E→N·M, b1 S→M, w2 S→E→M, b2 S→M→1, then q·W1 and ·w2; nothing for VDN."""
    if not z.mixes:
        return Layers(0, 0)
    fed = 2 * z.s * (z.e + z.m + z.e + z.m)
    inner = 2 * (z.e * z.n * z.m + z.e * z.m + z.m)
    return Layers(fed=fed, inner=inner + mixing(z))


def mixing(z: Sizes) -> int:
    """Operations of one Q_tot from utilities once the mixer's weights are there: q[N]·W1[N, M] and ·w2[M]."""
    return 2 * z.n * z.m + 2 * z.m if z.mixes else 0


def regulariser_layers(z: Sizes, form: str | None, samples: int) -> Layers:
    """Of one step, what CQL adds: nothing per agent; one more Q_tot per sample; for the counterfactual form a
    rank-one change of the mixing layer and its product with w2 for each of N·A replaced actions."""
    if form == "joint":
        return Layers(0, samples * mixing(z))
    if form == "counterfactual" and z.mixes:
        return Layers(0, z.n * z.a * 2 * (2 * z.m))
    return Layers(0, 0)


def update_products(z: Sizes, steps: float, episodes: float, form: str | None = None, samples: int = 10) -> float:
    """Operations of one gradient update on so many episodes with so many steps in all.

    Both networks run over all rows, since the action that is greedy at the last row is asked for; the gradient
    reaches the steps alone. The mixers run once per step each, the slow one a row later.
    """
    rows = steps + episodes
    agent, mixer, extra = agent_layers(z), mixer_layers(z), regulariser_layers(z, form, samples)
    online = rows * agent.forward + steps * (agent.backward + mixer.forward + mixer.backward)
    slow = rows * agent.forward + steps * mixer.forward
    return online + slow + steps * (extra.forward + extra.backward)


def parameters(z: Sizes) -> int:
    """Numbers in the networks of one team; the encoder's one-hot columns included."""
    agent = (z.inputs + z.n + z.a + 1) * z.h + 2 * 3 * z.h * z.h + 4 * z.h + (z.h + 1) * z.a
    if not z.mixes:
        return agent
    first = 2 * (z.s + 1) * (z.e + z.m)
    return agent + first + (z.e + 1) * z.n * z.m + (z.e + 1) * z.m + z.m + 1


def update_bytes(z: Sizes, row: int, steps: float, episodes: float) -> float:
    """Bytes that an update must move at least once.

    Both networks read; Adam's two moments and the online network read and written; every row of the episodes, of
    `row` bytes, read once.
    """
    return FLOAT * parameters(z) * 7 + row * (steps + episodes)


def acting_products(z: Sizes) -> int:
    """Operations of the agents' network for one environment step of one episode."""
    return agent_layers(z).forward


def stored_bytes(spec: EnvSpec, steps: float) -> float:
    """Bytes of so many real steps in a dataset or replay, final rows and padding left out."""
    return row_bytes(spec) * steps


class Ceiling(NamedTuple):
    """What the machine can do at best. flops: multiplications and additions per second; bytes: moved per second."""

    flops: float
    bytes: float


class Floor(NamedTuple):
    """The least that a piece of work takes. products: operations; moved: bytes."""

    products: float
    moved: float = 0.0

    def seconds(self, ceiling: Ceiling) -> float:
        """Seconds at the machine's best: of the operations or of the bytes, whichever takes longer."""
        return max(self.products / ceiling.flops, self.moved / ceiling.bytes)


def update_floor(
    spec: EnvSpec, learner: LearnerConfig, steps: float, episodes: float, form: str | None = None, samples: int = 10
) -> Floor:
    """The floor of one update on so many episodes with so many steps in all."""
    z = sizes(spec, learner)
    return Floor(update_products(z, steps, episodes, form, samples), update_bytes(z, row_bytes(spec), steps, episodes))
