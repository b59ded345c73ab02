"""Does this policy act as the team that was exported? It plays the recorded steps of check.npz again: python check.py

Exit code 1 where an action is another than JAX took, ties excepted, or a score is far from JAX's. Where the directory
holds a policy.onnx, and onnxruntime is installed, that is checked, too.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from policy import Policy

FOLDER = Path(__file__).resolve().parent
TIE, FAR = 1e-5, 1e-4
"""The largest difference of two actions' scores that is a tie, and the largest of a score from JAX's; both are of a
score's size where that is above 1."""

Step = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any, float]]
"""(observations, legal actions, last actions, memory; None at first) → (actions, scores, memory, seconds)."""


def in_numpy() -> Step:
    """A step of policy.py."""
    team = Policy.load(FOLDER)

    def step(obs: Any, legal: Any, last: Any, memory: Any) -> tuple[Any, Any, Any, float]:
        began = time.perf_counter()
        action, after = team.act(obs, legal, memory, last)
        seconds = time.perf_counter() - began
        obs, _, memory = team.given(obs, legal, memory, last)
        return action, team.step(obs, memory)[1], after, seconds

    return step


def in_onnx() -> Step:
    """A step of policy.onnx."""
    import onnxruntime  # here, since it need not be installed

    session = onnxruntime.InferenceSession(FOLDER / "policy.onnx")
    units = session.get_inputs()[3].shape[-1]

    def step(obs: Any, legal: Any, last: Any, hidden: Any) -> tuple[Any, Any, Any, float]:
        began = time.perf_counter()
        hidden = np.zeros((1, len(obs), units), np.float32) if hidden is None else hidden
        given = obs[None], legal[None], last[None].astype(np.int64), hidden
        named = dict(zip(("observations", "available", "last_action", "hidden"), given, strict=True))
        action, scores, hidden = session.run(["action", "scores", "next_hidden"], named)
        return action[0], scores[0], hidden, time.perf_counter() - began

    return step


def check(name: str, step: Step, recorded: dict[str, np.ndarray]) -> bool:
    """Play all recorded steps, and say how many actions are as JAX took them. Whether all are, ties excepted."""
    expected, truth, memory = recorded["action"], recorded["scores"], None
    action, scores, seconds = np.empty_like(expected), np.empty_like(truth), np.empty(len(expected))
    for t, first in enumerate(recorded["first"]):
        legal, last = recorded["available"][t], recorded["last_action"][t]
        memory = None if first else memory
        action[t], scores[t], memory, seconds[t] = step(recorded["observations"][t], legal, last, memory)
    size = np.maximum(1.0, np.abs(truth).max(-1))
    both = [np.take_along_axis(truth, chosen[..., None].astype(int), -1)[..., 0] for chosen in (expected, action)]
    other = action != expected
    tie = other & (np.abs(both[0] - both[1]) <= TIE * size)
    apart = np.abs(scores - truth)
    fine = not (other & ~tie).any() and bool((apart <= FAR * size[..., None]).all())
    print(
        f"{name}: {len(expected):,} steps of {recorded['first'].sum():,} episodes, {expected.size:,} actions: "
        f"{(~other).sum():,} as in JAX, {tie.sum():,} ties, {(other & ~tie).sum():,} others; largest difference of "
        f"scores {apart.max():.1e}; {1e3 * np.median(seconds):.3f} ms a step: {'fine' if fine else 'NOT THE SAME'}"
    )
    return fine


def main() -> int:
    """Check all that is here."""
    with np.load(FOLDER / "check.npz") as file:
        recorded = dict(file)
    fine = check("policy.py", in_numpy(), recorded)
    if (FOLDER / "policy.onnx").exists():
        try:
            fine &= check("policy.onnx", in_onnx(), recorded)
        except ImportError:
            print("policy.onnx: not checked, since onnxruntime is not installed")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
