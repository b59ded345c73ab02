"""A small team of two agents for three actions, as `ovmse.policy.act.Policy` takes it."""

import numpy as np

N, A, H, FEATURES = 2, 3, 8, 3
SIZES = {"agents": N, "actions": A, "features": FEATURES, "hidden": H}
CONTRACT = {
    "agents": ["a", "b"],
    "actions": ["0", "1", "2"],
    "sizes": SIZES,
    "networks": [{"prefix": "", "agents": [0, 1], "policy": False, "normalise": False}],
}


def weights(seed=0):
    """The arrays of a small team of two, drawn."""
    rng, inputs = np.random.default_rng(seed), FEATURES + N + A
    shapes = {
        "encoder.weight": (H, inputs), "encoder.bias": (H,), "cell.weight_ih": (3 * H, H), "cell.weight_hh": (3 * H, H),
        "cell.bias": (3 * H,), "cell.bias_n": (H,), "head.weight": (A, H), "head.bias": (A,),
    }  # fmt: skip
    return {f"agent.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def about(**changed):
    """What a `Player` is told of an episode; greedy."""
    return {"contract": CONTRACT, "seed": 5, "key": [1, 2], "rule": "epsilon_greedy", "epsilon": 0.0} | changed
