"""A quick behaviour-cloning fit: how stochastic the logged policy is, and how well each episode fits a single one.

A small network, shared by the agents, predicts an agent's action from its own observation, its own last action and its
index; illegal actions are masked. Only choices among several legal actions count. A bounded sample of episodes is split
into three parts, so that the figures come from episodes that neither the weights nor the stopping point have seen.

Axes: C choices, E episodes of the sample, N agents, A actions, O observation features.
"""

import itertools
from collections.abc import Iterable
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
    parts: tuple[int, int, int]


def chosen(length: np.ndarray, sound: np.ndarray, n_agents: int, n_features: int, seed: int) -> np.ndarray:
    """The episodes of the sample, (E,) bool: drawn without replacement until choices or memory run out."""
    order = np.random.default_rng(seed).permutation(len(length))
    cost = np.where(sound, np.maximum(length, 0), 0)[order].cumsum() * n_agents
    most = min(MOST_CHOICES, MOST_BYTES // (4 * n_features))
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


def join(parts: Iterable[CloneSample]) -> CloneSample:
    """The choices of all blocks."""
    return CloneSample(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def fit(sample: CloneSample, seed: int = 0) -> Clone | None:
    """Clone the policy; None where there are too few episodes with choices to hold some out."""
    numbers = np.unique(sample.episode)
    if len(numbers) < FEWEST_EPISODES:
        return None
    rng = np.random.default_rng(seed)
    part = rng.permutation(np.searchsorted([TRAIN, TRAIN + STOP], np.arange(len(numbers)) / len(numbers), "right"))
    of_choice = part[np.searchsorted(numbers, sample.episode)]
    train, stop, held = (np.flatnonzero(of_choice == i) for i in range(3))
    scale = _scale(sample.features[train])
    columns: Any = ((sample.features - scale[0]) / scale[1], sample.avail, sample.action.astype(np.int32))
    learn, judge, test = (tuple(c[rows] for c in columns) for rows in (train, stop, held))
    net = _train(rng, learn, judge)
    heat = _temperature(net, judge)
    train_nll = float(np.mean(_choices(net, heat, *learn)[0]))
    nll, entropy, spread, policy = (np.asarray(x) for x in _choices(net, heat, *test))
    mine = CloneSample(*(x[held] for x in sample))
    legal = mine.avail.sum(axis=1)
    counts = np.bincount(part, minlength=3)
    return Clone(
        mine,
        nll,
        entropy,
        spread,
        policy,
        legal,
        train_nll,
        len(train),
        (int(counts[0]), int(counts[1]), int(counts[2])),
    )


def _scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature; a constant one stays as it is."""
    std = features.std(axis=0)
    return features.mean(axis=0), np.where(std > 1e-6, std, 1.0).astype(np.float32)


Net = list[tuple[Array, Array]]
Data = tuple[np.ndarray, np.ndarray, np.ndarray]


def _init(rng: np.random.Generator, sizes: tuple[int, ...]) -> Net:
    """Normal weights with the variance 2 / inputs of He et al. 2015, and no biases."""
    return [
        (jnp.asarray(rng.normal(size=(i, o)) * np.sqrt(2.0 / i), jnp.float32), jnp.zeros(o))
        for i, o in itertools.pairwise(sizes)
    ]


def _log_policy(net: Net, features: Float[Array, "C F"], avail: Bool[Array, "C A"], heat: Array) -> Float[Array, "C A"]:
    x = features
    for weight, bias in net[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    logits = (x @ net[-1][0] + net[-1][1]) / heat
    return jax.nn.log_softmax(jnp.where(avail, logits, -1e9))


@jax.jit
def _choices(
    net: Net, heat: Array, features: Float[Array, "C F"], avail: Bool[Array, "C A"], action: Int[Array, " C"]
) -> tuple[Array, Array, Array, Array]:
    """Of each choice: −log π(a), the entropy of π, the variance of −log π under π, and π itself (C, A)."""
    log = _log_policy(net, features, avail, heat)
    p = jnp.exp(log)
    surprise = jnp.where(avail, -log, 0.0)
    entropy = jnp.sum(p * surprise, axis=1)
    spread = jnp.sum(p * surprise**2, axis=1) - entropy**2
    nll = -jnp.take_along_axis(log, action[:, None], axis=1)[:, 0]
    return nll, entropy, spread, p


def _mean_nll(net: Net, heat: Array, features: Array, avail: Array, action: Array) -> Float[Array, ""]:
    log = _log_policy(net, features, avail, heat)
    return -jnp.mean(jnp.take_along_axis(log, action[:, None], axis=1))


_score = jax.jit(_mean_nll)


def _temperature(net: Net, judge: Data) -> Array:
    """The divisor of the logits that makes `judge` likeliest: a fit is too sure of itself on what it has not seen."""
    heats = [jnp.float32(1.1**i) for i in range(-3, 10)]
    return min(heats, key=lambda heat: float(_score(net, heat, *judge)))


def _optimiser(updates: Array) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(LEARNING_RATE, 1)
    return optax.adamw(lambda count: rate(count / updates), weight_decay=DECAY)


@jax.jit
def _one_pass(net: Net, state: Any, learn: Any, order: Int[Array, "updates batch"], updates: Array) -> tuple[Net, Any]:
    """One pass over the training part."""

    def update(inner: Any, rows: Array) -> tuple[Any, None]:
        net, state = inner
        gradient = jax.grad(_mean_nll)(net, jnp.float32(1.0), *(x[rows] for x in learn))
        step, state = _optimiser(updates).update(gradient, state, net)
        return (optax.apply_updates(net, step), state), None

    return jax.lax.scan(update, (net, state), order)[0]


def _train(rng: np.random.Generator, learn: Data, judge: Data) -> Net:
    """The weights of the pass after which `judge` is likeliest."""
    n = len(learn[2])
    batch = min(n, max(32, min(BATCH, n // 32)))
    best = net = _init(rng, (learn[0].shape[1], HIDDEN, HIDDEN, learn[1].shape[1]))
    per_pass, lowest = n // batch, np.inf
    passes = min(MOST_PASSES, max(PASSES, -(-FEWEST_UPDATES // per_pass)))
    updates = jnp.float32(passes * per_pass)
    state, data = _optimiser(updates).init(net), tuple(map(jnp.asarray, learn))
    for _ in range(passes):
        order = rng.permutation(n)[: per_pass * batch].reshape(per_pass, batch)
        net, state = _one_pass(net, state, data, jnp.asarray(order, jnp.int32), updates)
        score = float(_score(net, jnp.float32(1.0), *judge))
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
