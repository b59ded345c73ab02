"""The objectives' published equations in plain NumPy, one step, agent and action at a time, for the tests.

`now` is what the networks say where a term learns, `held` the same where a term takes it as given, and `slow` what the
target networks say; so a derivative along `now` alone is the gradient that each term should have.
"""

from typing import Any, NamedTuple

import numpy as np


class Said(NamedTuple):
    """Heads at rows 0 … T (critics [T+1, N, K, A], logits [T+1, N, A], value [T+1, N], behaviour [T+1, N, A]); the
    mixer's weights there."""

    critics: Any
    logits: Any
    value: Any
    behaviour: Any
    weights: Any


def mixed(weights, t, q):
    """Q_tot of one utility per agent at row t."""
    if weights is None:
        return sum(q)
    if hasattr(weights, "w"):
        return sum(weights.w[t, i] * q[i] for i in range(len(q))) + weights.b[t]
    total = weights.b2[t]
    for m in range(weights.b1.shape[1]):
        x = weights.b1[t, m] + sum(q[i] * weights.w1[t, i, m] for i in range(len(q)))
        total += weights.w2[t, m] * (x if x > 0 else np.exp(x) - 1.0)
    return total


def slope(weights, t, q, i):
    """∂Q_tot/∂Q_i."""
    if weights is None:
        return 1.0
    if hasattr(weights, "w"):
        return weights.w[t, i]
    total = 0.0
    for m in range(weights.b1.shape[1]):
        x = weights.b1[t, m] + sum(q[j] * weights.w1[t, j, m] for j in range(len(q)))
        total += weights.w2[t, m] * (1.0 if x > 0 else np.exp(x)) * weights.w1[t, i, m]
    return total


def utility(said, t, i, a):
    """The mean of the critics."""
    return sum(said.critics[t, i, :, a]) / said.critics.shape[2]


def taken(said, e, t):
    return [utility(said, t, i, e.action[t, i]) for i in range(e.action.shape[1])]


def swapped(said, e, t, i, a):
    """Q_tot with agent i's action replaced by a."""
    q = taken(said, e, t)
    q[i] = utility(said, t, i, a)
    return mixed(said.weights, t, q)


def legal(e, t, i):
    return [a for a in range(e.avail.shape[2]) if e.avail[t, i, a]]


def policy(said, e, t, i):
    """{legal action: probability}."""
    choices = legal(e, t, i)
    total = sum(np.exp(said.logits[t, i, a]) for a in choices)
    return {a: np.exp(said.logits[t, i, a]) / total for a in choices}


def log_taken(said, e, t, i):
    return np.log(policy(said, e, t, i)[e.action[t, i]])


def squared(now, e, t, y):
    """Every critic's squared error."""
    total = 0.0
    for k in range(now.critics.shape[2]):
        q = [now.critics[t, i, k, e.action[t, i]] for i in range(e.action.shape[1])]
        total += (mixed(now.weights, t, q) - y[t]) ** 2
    return total


def lambda_return(e, length, after, gamma, lam):
    """G_t = r_t + γ [(1 − λ) V_{t+1} + λ G_{t+1}], V alone after the last step, nothing after a terminal one."""
    out = [0.0] * length
    for t in reversed(range(length)):
        ahead = after[t] if t == length - 1 else (1 - lam) * after[t] + lam * out[t + 1]
        out[t] = e.reward[t] + (0.0 if e.terminal[t] else gamma * ahead)
    return out


def imitate(now, held, slow, e, length, y):
    n = e.action.shape[1]
    return [-sum(log_taken(now, e, t, i) for i in range(n)) for t in range(length)]


def implicit_q(now, held, slow, e, length, y, *, expectile, temperature, largest, gamma, lam):
    """Kostrikov et al.: L_Q + L_V + L_π of every agent, averaged."""
    n, k = e.action.shape[1], now.critics.shape[2]
    out = np.zeros(length)
    for i in range(n):
        returns = lambda_return(e, length, [held.value[t + 1, i] for t in range(length)], gamma, lam)
        for t in range(length):
            u = e.action[t, i]
            critic = sum((now.critics[t, i, j, u] - returns[t]) ** 2 for j in range(k))
            frozen = min(slow.critics[t, i, :, u])
            gap = frozen - now.value[t, i]
            value = (expectile if gap > 0 else 1 - expectile) * gap**2
            weight = min(np.exp((frozen - held.value[t, i]) / temperature), largest)
            out[t] += (critic + value - weight * log_taken(now, e, t, i)) / n
    return out


def advantage_weighted(now, held, slow, e, length, y, *, temperature, largest):
    """Nair et al.: imitation by exp(A / λ), with the advantage of Foerster et al."""
    out = []
    for t in range(length):
        loss = squared(now, e, t, y)
        for i in range(e.action.shape[1]):
            baseline = sum(p * swapped(held, e, t, i, a) for a, p in policy(held, e, t, i).items())
            advantage = swapped(held, e, t, i, e.action[t, i]) - baseline
            loss -= min(np.exp(advantage / temperature), largest) * log_taken(now, e, t, i)
        out.append(loss)
    return out


def implicit_constraint(now, held, slow, e, length, y, *, temperature):
    """Yang et al.: imitation by exp(Q / α) / Z, Z the policy's mean of exp(Q / α) over the actions of the state."""
    out = []
    for t in range(length):
        loss = squared(now, e, t, y)
        for i in range(e.action.shape[1]):
            mean = sum(p * np.exp(swapped(held, e, t, i, a) / temperature) for a, p in policy(held, e, t, i).items())
            weight = np.exp(swapped(held, e, t, i, e.action[t, i]) / temperature) / mean
            loss -= weight * log_taken(now, e, t, i)
        out.append(loss)
    return out


def local_regularisation(now, held, slow, e, length, y, *, alpha, largest):
    """Wang et al.: exp(z) + w V / α for each V_i, and imitation by exp(z); exp goes on as its tangent at `largest`."""
    out = []
    for t in range(length):
        loss = squared(now, e, t, y)
        for i in range(e.action.shape[1]):
            q = utility(slow, t, i, e.action[t, i])
            w = slope(slow.weights, t, taken(slow, e, t), i)
            z = w * (q - now.value[t, i]) / alpha
            curve = np.exp(z) if z < largest else np.exp(largest) * (1 + z - largest)
            weight = np.exp(min(largest, w * (q - held.value[t, i]) / alpha))
            loss += curve + w * now.value[t, i] / alpha - weight * log_taken(now, e, t, i)
        out.append(loss)
    return out


def gap(said, e, t, i, least=-np.inf):
    """log Σ_a exp max(Q_tot(a, u_−i), least) − Q_tot(u)."""
    total = sum(np.exp(max(swapped(said, e, t, i, a), least)) for a in legal(e, t, i))
    return np.log(total) - swapped(said, e, t, i, e.action[t, i])


def counterfactual(now, held, slow, e, length, y, *, alpha, temperature):
    """Shao et al.: gaps by softmax of temperature · KL(μ_i ‖ β_i), μ_i ∝ exp Q_tot(a, u_−i); β_i imitates."""
    n = e.action.shape[1]
    out = []
    for t in range(length):
        far, imitation = [], 0.0
        for i in range(n):
            choices = legal(e, t, i)
            total = sum(np.exp(swapped(held, e, t, i, a)) for a in choices)
            mu = {a: np.exp(swapped(held, e, t, i, a)) / total for a in choices}
            beta = {a: policy(held._replace(logits=held.behaviour), e, t, i)[a] for a in choices}
            far.append(sum(mu[a] * np.log(mu[a] / beta[a]) for a in choices))
            imitation += log_taken(now._replace(logits=now.behaviour), e, t, i) / n
        share = np.exp(temperature * np.array(far))
        share /= share.sum()
        gaps = sum(share[i] * gap(now, e, t, i) for i in range(n))
        out.append(squared(now, e, t, y) + alpha * gaps - imitation)
    return out


def calibrated(now, held, slow, e, length, y, *, alpha, gamma):
    """Nakamoto et al.: no value is pushed below what the log brought from there on; a cut log does not tell."""
    n = e.action.shape[1]
    out = []
    for t in range(length):
        brought = sum(gamma ** (k - t) * e.reward[k] for k in range(t, length)) if e.terminal[length - 1] else -np.inf
        out.append(squared(now, e, t, y) + alpha * sum(gap(now, e, t, i, brought) for i in range(n)) / n)
    return out
