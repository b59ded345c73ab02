"""A quick behaviour-cloning fit: how stochastic the logged policy is, and how well each episode fits a single one.

A small network, shared by the agents, predicts an agent's action from its own observation, its own last action and its
index; illegal actions are masked. Only choices among several legal actions count. A bounded sample of episodes is split
into three parts, so that the figures come from episodes that neither the weights nor the stopping point have seen.

Axes: C choices, E episodes of the sample, N agents, A actions, O observation features.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from ovmse.data.schema import starts
from ovmse.data.stream import Block

MOST_CHOICES = 100_000
MOST_BYTES = 2**27  # of the sample's inputs
TRAIN, STOP = 0.6, 0.15  # shares of the sample's episodes: weights, stopping point; the rest is held out
HIDDEN, BATCH, LEARNING_RATE, DECAY = 64, 256, 3e-3, 0.3
PASSES, FEWEST_UPDATES, MOST_PASSES = 16, 1000, 64
FEWEST_EPISODES = 8


class CloneSample(NamedTuple):
    """Choices among several legal actions: features (C, O+A+N), avail (C, A), action (C,), agent (C,), and the episode
    of each by its number in the dataset (C,)."""

    features: np.ndarray
    avail: np.ndarray
    action: np.ndarray
    agent: np.ndarray
    episode: np.ndarray


class Clone(NamedTuple):
    """What the fit says of each held-out choice, and of those it learned from.

    nll: −log π(a|o); entropy: of π(·|o); spread: the variance of the nll under π; legal: legal actions (all
    (C,)). policy: π(·|o) (C, A). train_nll: mean over the choices of the training part.
    """

    sample: CloneSample
    nll: np.ndarray
    entropy: np.ndarray
    spread: np.ndarray
    policy: np.ndarray
    legal: np.ndarray
    train_nll: float
    train_choices: int
    parts: tuple[int, ...]


def chosen(
    length: np.ndarray, sound: np.ndarray, n_agents: int, n_features: int, seed: int, most_choices: int = MOST_CHOICES
) -> np.ndarray:
    """The episodes of the sample, (E,) bool: drawn without replacement until choices or memory run out."""
    order = np.random.default_rng(seed).permutation(len(length))
    cost = np.where(sound, np.maximum(length, 0), 0)[order].cumsum() * n_agents
    most = min(most_choices, MOST_BYTES // (4 * n_features))
    picked = np.zeros(len(length), bool)
    picked[order[(cost <= most) | (np.arange(len(length)) == 0)]] = True
    return picked & sound


def take(block: Block, picked: np.ndarray) -> CloneSample:
    """The choices of a block's picked episodes (`picked` is over all episodes of the dataset)."""
    flat = block.flat
    length, action = flat["length"], flat["action"]
    n_agents, n_actions = flat["avail"].shape[1:]
    index = np.repeat(np.arange(len(length)), length)
    wanted = picked[block.first + index]
    step = np.flatnonzero(wanted)
    row = step + index[step]
    last = np.where(np.isin(step, starts(length))[:, None], -1, action[np.maximum(step - 1, 0)])
    free = flat["avail"][row].sum(axis=-1) > 1
    at, agent = np.nonzero(free)
    one_hot = last[at, agent][:, None] == np.arange(n_actions)
    who = agent[:, None] == np.arange(n_agents)
    return CloneSample(
        np.concatenate([flat["obs"][row[at], agent], one_hot, who], axis=1, dtype=np.float32),
        flat["avail"][row[at], agent],
        action[step[at], agent],
        agent,
        block.first + index[step[at]],
    )


def fit(sample: CloneSample, seed: int = 0) -> Clone | None:
    """Clone the policy; None where there are too few episodes with choices to hold some out."""
    numbers = np.unique(sample.episode)
    if len(numbers) < FEWEST_EPISODES:
        return None
    rng = np.random.default_rng(seed)
    part = rng.permutation(np.searchsorted([TRAIN, TRAIN + STOP], np.arange(len(numbers)) / len(numbers), "right"))
    of_choice = part[np.searchsorted(numbers, sample.episode)]
    train, stop, held = (np.flatnonzero(of_choice == i) for i in range(3))
    mean, std = sample.features[train].mean(axis=0), sample.features[train].std(axis=0)
    std = np.where(std > 1e-6, std, 1.0).astype(np.float32)  # a constant feature stays as it is
    columns = (sample.features - mean) / std, sample.avail, sample.action.astype(np.int32)
    learn, judge, test = (tuple(column[rows] for column in columns) for rows in (train, stop, held))
    net = _train(rng, learn, judge)
    # The divisor of the logits that makes `judge` likeliest: a fit is too sure of itself on what it has not seen.
    heat = min((jnp.float32(1.1**i) for i in range(-3, 10)), key=lambda heat: float(_mean_nll(net, heat, *judge)))
    train_nll = float(np.mean(_choices(net, heat, *learn)[0]))
    mine = CloneSample(*(values[held] for values in sample))
    nll, entropy, spread, policy = map(np.asarray, _choices(net, heat, *test))
    parts = tuple(np.bincount(part, minlength=3).tolist())
    return Clone(mine, nll, entropy, spread, policy, mine.avail.sum(axis=1), train_nll, len(train), parts)


Net = list[tuple[Array, Array]]
Data = tuple[Any, ...]
"""Features (C, O+A+N), avail (C, A) and action (C,) of choices."""


@jax.jit
def _choices(
    net: Net, heat: Array, features: Float[Array, "C F"], avail: Bool[Array, "C A"], action: Int[Array, " C"]
) -> tuple[Array, Array, Array, Array]:
    """Of each choice: −log π(a), the entropy of π, the variance of −log π under π, and π itself (C, A)."""
    x = features
    for weight, bias in net[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    logits = (x @ net[-1][0] + net[-1][1]) / heat
    log = jax.nn.log_softmax(jnp.where(avail, logits, -1e9))
    p = jnp.exp(log)
    surprise = jnp.where(avail, -log, 0.0)
    entropy = jnp.sum(p * surprise, axis=1)
    spread = jnp.sum(p * surprise**2, axis=1) - entropy**2
    return -jnp.take_along_axis(log, action[:, None], axis=1)[:, 0], entropy, spread, p


@jax.jit
def _mean_nll(net: Net, heat: Array, features: Array, avail: Array, action: Array) -> Float[Array, ""]:
    return jnp.mean(_choices(net, heat, features, avail, action)[0])


def _optimiser(updates: Array) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(LEARNING_RATE, 1)
    return optax.adamw(lambda count: rate(count / updates), weight_decay=DECAY)


@jax.jit
def _one_pass(net: Net, state: Any, learn: Any, order: Int[Array, "updates batch"], updates: Array) -> tuple[Net, Any]:

    def update(inner: Any, rows: Array) -> tuple[Any, None]:
        net, state = inner
        gradient = jax.grad(_mean_nll)(net, jnp.float32(1.0), *(x[rows] for x in learn))
        step, state = _optimiser(updates).update(gradient, state, net)
        return (optax.apply_updates(net, step), state), None

    return jax.lax.scan(update, (net, state), order)[0]


def _train(rng: np.random.Generator, learn: Data, judge: Data) -> Net:
    """The weights of the pass after which `judge` is likeliest, begun as by He et al. 2015: of variance 2 / inputs."""
    n = len(learn[2])
    batch = min(n, max(32, min(BATCH, n // 32)))
    per_pass, lowest = n // batch, np.inf
    passes = min(MOST_PASSES, max(PASSES, math.ceil(FEWEST_UPDATES / per_pass)))
    sizes = itertools.pairwise((learn[0].shape[1], HIDDEN, HIDDEN, learn[1].shape[1]))
    best = net = [
        (jnp.asarray(rng.normal(size=(i, o)) * np.sqrt(2.0 / i), jnp.float32), jnp.zeros(o)) for i, o in sizes
    ]
    updates = jnp.float32(passes * per_pass)
    state, data = _optimiser(updates).init(net), tuple(map(jnp.asarray, learn))
    for _ in range(passes):
        order = rng.permutation(n)[: per_pass * batch].reshape(per_pass, batch)
        net, state = _one_pass(net, state, data, jnp.asarray(order, jnp.int32), updates)
        score = float(_mean_nll(net, jnp.float32(1.0), *judge))
        if score < lowest:
            best, lowest = net, score
    return best


def figures(clone: Clone, n_agents: int) -> dict[str, Any]:
    """The fit in numbers, over all held-out choices and for each agent.

    entropy: mean, nats. entropy_share: its share of that of uniform play, Σ entropy / Σ log(legal actions).
    accuracy, log_likelihood (mean, nats) of the recorded actions, and those of uniform play among the legal ones.
    gap: how much likelier the training part's choices are, nats. agents: the same figures (null without a choice).
    """
    return {
        **_averages(clone, np.ones(len(clone.nll), bool)),
        "gap": float(clone.nll.mean()) - clone.train_nll,
        "agents": [_averages(clone, m) if (m := clone.sample.agent == i).any() else None for i in range(n_agents)],
        "episodes": dict(zip(("train", "stop", "held_out"), clone.parts, strict=True)),
        "choices": {"train": clone.train_choices, "held_out": len(clone.nll)},
    }


def _averages(clone: Clone, mask: np.ndarray) -> dict[str, float]:
    uniform = np.log(clone.legal[mask])
    return {
        "entropy": float(clone.entropy[mask].mean()),
        "entropy_share": float(clone.entropy[mask].sum() / uniform.sum()),
        "accuracy": float((clone.policy.argmax(axis=1) == clone.sample.action)[mask].mean()),
        "uniform_accuracy": float((1 / clone.legal[mask]).mean()),
        "log_likelihood": float(-clone.nll[mask].mean()),
        "uniform_log_likelihood": float(-uniform.mean()),
    }
