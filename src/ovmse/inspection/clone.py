"""A quick behaviour-cloning fit: how stochastic the logged policy is, and how well each episode fits a single one.

A small network, shared by the agents, predicts an agent's action from its own observation, its own last action and its
index; illegal actions are masked. Only choices among several legal actions count. A bounded sample of episodes is split
into three parts, so that the figures come from episodes that neither the weights nor the stopping point have seen.
In NumPy, gradient and all: importing JAX and compiling for it would take longer than the fit.

Axes: C choices, E episodes of the sample, N agents, A actions, O observation features.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from ovmse.core.padding import has_choice
from ovmse.data.schema import starts
from ovmse.data.stream import Block

MOST_CHOICES = 100_000
MOST_BYTES = 2**27  # of the sample's inputs
TRAIN, STOP = 0.6, 0.15  # shares of the sample's episodes: weights, stopping point; the rest is held out
HIDDEN, BATCH, LEARNING_RATE, DECAY = 64, 256, 3e-3, 0.3
PASSES, FEWEST_UPDATES, MOST_PASSES = 16, 1000, 64
FEWEST_EPISODES = 8
BETA_1, BETA_2 = 0.9, 0.999  # of AdamW's two moments
ILLEGAL = -1e9  # finite, so that 0 · log 0 is 0


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


class Data(NamedTuple):
    """What is learned from: features (C, O+A+N), avail (C, A) and action (C,) of choices."""

    features: np.ndarray
    avail: np.ndarray
    action: np.ndarray


Net = list[tuple[np.ndarray, np.ndarray]]
"""Weight (inputs, outputs) and bias (outputs,) of each layer, as parts of one vector."""


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
    free = has_choice(flat["avail"][row])
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
    learn, judge, test = (Data(*(column[rows] for column in columns)) for rows in (train, stop, held))
    net = _train(rng, learn, judge)
    # The divisor of the logits that makes `judge` likeliest: a fit is too sure of itself on what it has not seen.
    heats, logits = [1.1**i for i in range(-3, 10)], _logits(net, judge.features)
    heat = min(heats, key=lambda heat: _mean_nll(logits / np.float32(heat), judge))
    train_nll = _mean_nll(_logits(net, learn.features) / np.float32(heat), learn)
    mine = CloneSample(*(values[held] for values in sample))
    log = _log_policy(_logits(net, test.features) / np.float32(heat), test.avail)
    nll, policy, surprise = _nll(log, test), np.exp(log), np.where(test.avail, -log, 0)
    entropy = (policy * surprise).sum(axis=1)
    spread = (policy * surprise**2).sum(axis=1) - entropy**2
    parts = tuple(np.bincount(part, minlength=3).tolist())
    return Clone(mine, nll, entropy, spread, policy, mine.avail.sum(axis=1), train_nll, len(train), parts)


def _logits(net: Net, features: Float32[np.ndarray, "C F"]) -> Float32[np.ndarray, "C A"]:
    return _through(net, features)[-1]


def _through(net: Net, features: Float32[np.ndarray, "C F"]) -> list[np.ndarray]:
    """What goes into each layer, and the logits."""
    inputs = [features]
    for weight, bias in net[:-1]:
        inputs.append(np.maximum(inputs[-1] @ weight + bias, 0))
    return [*inputs, inputs[-1] @ net[-1][0] + net[-1][1]]


def _log_policy(logits: Float32[np.ndarray, "C A"], avail: Bool[np.ndarray, "C A"]) -> Float32[np.ndarray, "C A"]:
    """log π over the legal actions; about −10⁹ for the others."""
    legal = np.where(avail, logits, np.float32(ILLEGAL))
    legal -= legal.max(axis=1, keepdims=True)
    return legal - np.log(np.exp(legal).sum(axis=1, keepdims=True))


def _nll(log: Float32[np.ndarray, "C A"], data: Data) -> Float32[np.ndarray, " C"]:
    """−log π of each action taken."""
    return -np.take_along_axis(log, data.action[:, None], axis=1)[:, 0]


def _mean_nll(logits: Float32[np.ndarray, "C A"], data: Data) -> float:
    return float(_nll(_log_policy(logits, data.avail), data).mean())


def gradient(net: Net, data: Data) -> Float32[np.ndarray, " P"]:
    """The gradient of the mean −log π of the actions taken, over all weights and biases in their order."""
    *inputs, logits = _through(net, data.features)
    rise = np.exp(_log_policy(logits, data.avail))  # by the logits: (π − one-hot(action)) / C
    rise[np.arange(len(rise)), data.action] -= 1
    rise /= np.float32(len(rise))
    parts = [rise.sum(axis=0), (inputs[-1].T @ rise).ravel()]
    for (weight, _), above, below in zip(net[:0:-1], inputs[:0:-1], inputs[-2::-1], strict=True):
        rise = (rise @ weight.T) * (above > 0)
        parts += [rise.sum(axis=0), (below.T @ rise).ravel()]
    return np.concatenate(parts[::-1])


def _train(rng: np.random.Generator, learn: Data, judge: Data) -> Net:
    """The weights of the pass after which `judge` is likeliest, by AdamW (Loshchilov & Hutter 2019) at a falling rate.

    They begin as by He et al. 2015: of variance 2 / inputs.
    """
    n = len(learn.action)
    batch = min(n, max(32, min(BATCH, n // 32)))
    per_pass, lowest = n // batch, np.inf
    passes = min(MOST_PASSES, max(PASSES, math.ceil(FEWEST_UPDATES / per_pass)))
    sizes = list(itertools.pairwise((learn.features.shape[1], HIDDEN, HIDDEN, learn.avail.shape[1])))
    drawn = [np.append(rng.normal(size=(i, o)) * np.sqrt(2.0 / i), np.zeros(o)) for i, o in sizes]
    weights = np.concatenate(drawn, dtype=np.float32)
    net, updates = layers(weights, sizes), passes * per_pass
    mean, square, best = np.zeros_like(weights), np.zeros_like(weights), weights.copy()
    for t in range(updates):
        if t % per_pass == 0:
            batches = rng.permutation(n)[: per_pass * batch].reshape(per_pass, batch)
        rows = batches[t % per_pass]
        slope = gradient(net, Data(*(column[rows] for column in learn)))
        mean += (1 - BETA_1) * (slope - mean)
        square += (1 - BETA_2) * (slope**2 - square)
        rate = LEARNING_RATE * (1 + math.cos(math.pi * t / updates)) / 2
        scale = np.sqrt(square / (1 - BETA_2 ** (t + 1))) + 1e-8
        weights -= rate * (mean / (1 - BETA_1 ** (t + 1)) / scale + DECAY * weights)
        if (t + 1) % per_pass == 0 and (score := _mean_nll(_logits(net, judge.features), judge)) < lowest:
            best, lowest = weights.copy(), score
    return layers(best, sizes)


def layers(weights: Float32[np.ndarray, " P"], sizes: Sequence[tuple[int, int]]) -> Net:
    """The weights and biases of layers of (inputs, outputs), as parts of one vector: no copies."""
    ends = list(itertools.accumulate((i + 1) * o for i, o in sizes))
    parts = [part.reshape(-1, o) for part, (_, o) in zip(np.split(weights, ends[:-1]), sizes, strict=True)]
    return [(part[:-1], part[-1]) for part in parts]


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
