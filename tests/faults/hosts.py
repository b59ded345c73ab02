"""Host environments that fail in every way: the cause is named, the episode discarded, the environment restarted."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.learning.rollout import Acting, Rollout, collect_host

SPEC = EnvSpec("faults:host", "1", {}, 2, 3, 2, 1, 5, False)
SECONDS = 0.05
LATER = 3  # calls that go well before


class Host:
    """Two agents for three to five steps; what they see tells the episode's seed and the step."""

    spec = SPEC

    def reset_host(self, seed: int) -> Observation:
        self.seed, self.t, self.length = seed, 0, 3 + seed % 3
        return self.view()

    def view(self) -> Observation:
        obs = np.array([[self.seed % 1000, self.t]] * 2, np.float32)
        return Observation(obs, np.array([self.t], np.float32), np.ones((2, 3), bool))

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        self.t += 1
        over = self.t == self.length
        none = np.bool_(False)
        return self.view(), StepResult(np.float32(self.t), np.bool_(over), none, none)


class Failing(Host):
    """A `Host` that fails once, in one of the ways of `IN_RESET` or `IN_STEP`, and counts how often it was made."""

    def __init__(self, kind: str, left: list[int]):
        self.kind, self.left = kind, left  # calls until it fails, and failures

    def fails_now(self, where: dict[str, Any]) -> bool:
        if self.kind not in where:
            return False
        self.left[0] -= 1
        if self.left[0] >= 0 or not self.left[1]:
            return False
        self.left[1] -= 1
        return True

    def reset_host(self, seed: int) -> Observation:
        view = super().reset_host(seed)
        return IN_RESET[self.kind](view) if self.fails_now(IN_RESET) else view

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        view, outcome = super().step_host(action)
        return IN_STEP[self.kind](view, outcome) if self.fails_now(IN_STEP) else (view, outcome)


def wrong(error: BaseException) -> Callable[..., Any]:
    """A call that raises."""

    def call(*given: Any) -> Any:
        raise error

    return call


def hangs(*given: Any) -> Any:
    """A call that does not return for a long time."""
    time.sleep(5)


BAD = Observation(np.zeros((2, 2), np.float32), np.zeros(1, np.float32), np.ones((2, 3), bool))
IN_RESET: dict[str, Callable[[Observation], Any]] = {
    "reset raises": wrong(RuntimeError("lost")),
    "reset returns nothing": lambda view: None,
    "reset hangs": hangs,
    "reset: obs too short": lambda view: view._replace(obs=view.obs[:1]),
    "reset: obs not finite": lambda view: view._replace(obs=view.obs * np.nan),
    "reset: no legal action": lambda view: view._replace(avail=np.zeros((2, 3), bool)),
    "reset returns a dictionary": lambda view: view._asdict(),
}
IN_STEP: dict[str, Callable[[Observation, StepResult], Any]] = {
    "step raises": wrong(ConnectionResetError("gone")),
    "step ends the process": wrong(SystemExit(3)),
    "step returns nothing": lambda view, outcome: None,
    "step returns too much": lambda view, outcome: (view, outcome, {}),
    "step hangs": hangs,
    "obs too wide": lambda view, outcome: (view._replace(obs=np.zeros((2, 9))), outcome),
    "state too long": lambda view, outcome: (view._replace(state=np.zeros(4)), outcome),
    "obs infinite": lambda view, outcome: (view._replace(obs=view.obs + np.inf), outcome),
    "obs of objects": lambda view, outcome: (view._replace(obs=np.array([[None, 1], [2, 3]], object)), outcome),
    "obs ragged": lambda view, outcome: (view._replace(obs=[[1.0], [1.0, 2.0]]), outcome),
    "state not finite": lambda view, outcome: (view._replace(state=view.state * np.nan), outcome),
    "avail of numbers": lambda view, outcome: (view._replace(avail=np.ones((2, 3))), outcome),
    "an agent without a legal action": lambda view, outcome: (
        view._replace(avail=np.array([[True] * 3, [False] * 3])),
        outcome,
    ),
    "reward not a number": lambda view, outcome: (view, outcome._replace(reward=np.float32("nan"))),
    "reward infinite": lambda view, outcome: (view, outcome._replace(reward=np.float32("inf"))),
    "reward per agent": lambda view, outcome: (view, outcome._replace(reward=np.zeros(2, np.float32))),
    "reward a word": lambda view, outcome: (view, outcome._replace(reward="ten")),
    "done that disagrees": lambda view, outcome: (
        view,
        outcome._replace(terminal=np.bool_(True), truncated=np.bool_(True)),
    ),
    "outcome a number": lambda view, outcome: (view, 1.0),
}
KINDS = (*IN_RESET, *IN_STEP)


def play(kind: str, failures: int, restarts: int, episodes: int = 6) -> tuple[Rollout, list[str]]:
    """Play with one environment of three failing; the causes that were told."""
    left, told = [LATER, failures], []
    envs = [GuardedEnv(lambda i=i: Failing(kind, left) if i == 1 else Host(), SECONDS) for i in range(3)]

    def mend(i: int, fault: EnvFault) -> None:
        told.append(str(fault))
        if len(told) > restarts:
            raise UserError(f"{fault}: too often") from fault
        envs[i].restart()

    nothing = Acting([], np.zeros((3, 2, 3), np.float32))
    parts = [
        collect_host(
            envs, lambda t, acting, view: (acting, np.zeros((3, 2), np.int32)), nothing, [n, n + 1, n + 2], mend
        )
        for n in range(0, 3 * episodes, 3)
    ]
    episodes_, won, _ = zip(*parts, strict=True)
    return Rollout(type(episodes_[0])(*map(np.concatenate, zip(*episodes_, strict=True))), np.concatenate(won)), told


def trial(kind: str) -> Counter[str]:
    """One kind of failure, once and then for ever."""
    played, told = play(kind, failures=1, restarts=1)
    word = kind.split(":")[0].split()[0]
    assert len(told) == 1 and (word in told[0] or told[0].startswith("step")), (kind, told)
    check_whole(played)
    try:
        play(kind, failures=10**9, restarts=4)
    except UserError as error:
        assert "too often" in str(error)
    else:
        raise AssertionError(f"{kind}: no limit on restarts")
    return Counter({"host environments: failures survived": 1, "host environments: given up at the limit": 1})


def check_whole(played: Rollout) -> None:
    """Every episode is one environment's, from its first row to its last, and nothing of a broken one is there."""
    episodes = played.episodes
    for e, valid in enumerate(episodes.valid):
        seed, length = int(episodes.obs[e, 0, 0, 0]), int(valid.sum())
        assert length == 3 + seed % 3 or seed >= 100, (seed, length)
        assert valid[:length].all() and not valid[length:].any()
        np.testing.assert_array_equal(episodes.obs[e, :, 0, 0], seed)
        np.testing.assert_array_equal(episodes.obs[e, : length + 1, 0, 1], np.arange(length + 1))
        np.testing.assert_array_equal(episodes.reward[e], np.where(valid, np.arange(5) + 1, 0))
        assert episodes.terminal[e].sum() == 1 and episodes.terminal[e, length - 1]


if __name__ == "__main__":
    for name in KINDS:
        print(trial(name), name)
        sys.stdout.flush()
