"""Study 3: how many joint actions does exploration reach, and at what cost? Sequential exploration against the usual.

    python studies/coverage.py runs/claims/offline/*

The paper's second experiment: a team as it left the offline phase plays the same number of steps with each kind of
exploration, and nothing is learned. Measured: distinct joint actions, distinct pairs of a coarse state and a joint
action, the share of steps in which none, one, or several agents deviate from the greedy action, and the win rate while
exploring. Measured teams are kept in studies/results/coverage.jsonl and not measured again.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
import tyro
from cells import finished

from ovmse import envs, methods
from ovmse.core import action_selection
from ovmse.core.networks import unroll
from ovmse.envs.settings import parse_settings
from ovmse.learning.parallel import CPU_OPTIONS, batched
from ovmse.learning.rollout import Teams, collect
from ovmse.runs.saved_config import read_config
from ovmse.system import jax_setup
from ovmse.system.files import append_json_lines
from ovmse.training.evaluate_run import restore_teams

RESULTS = tables.RESULTS / "coverage.jsonl"
EPSILONS = (0.1, 0.3, 1.0)
WAYS = {
    "sequential": action_selection.sequential,
    "independent": action_selection.independent,
    "ε-greedy": action_selection.epsilon_greedy,
}
BLOCK = 32
CELLS = 4  # a coarse state: every state feature in one of so many cells


def main(runs: tyro.conf.Positional[tuple[Path, ...]], steps: int = 10_000, team: int = 0) -> None:
    """Measure.

    Args:
        runs: runs whose offline teams explore.
        steps: environment steps of each kind of exploration.
        team: which of the runs' teams.
    """
    jax_setup.use()
    done = finished(RESULTS, "run", "steps", "team")
    for run in runs:
        if (run.name, steps, team) in done:
            continue
        config = read_config(run)
        env = envs.make(config.env, **parse_settings(config.env_settings))
        parts = methods.find(config.method).parts
        chosen = jax.tree.map(lambda x: x[team], restore_teams(run / "offline.safetensors", config, env.spec, parts))
        about = {"run": run.name, "env": config.env, "agents": env.spec.n_agents, "steps": steps, "team": team}
        play = player(env)
        lines = [
            about | {"epsilon": epsilon, "way": name} | measure(play, chosen, way, epsilon, steps)
            for epsilon in EPSILONS
            for way, name in enumerate(WAYS)
        ]
        append_json_lines(RESULTS, lines)
        print(run.name, flush=True)


def player(env: Any) -> Any:
    """The compiled program (team, way, ε, key) → episodes played so, and how many agents deviated at each step."""

    def play(team: Any, way: Any, epsilon: Any, key: Any) -> tuple[Any, Any]:
        def pick(k: Any, inputs: Any) -> Any:
            return jax.lax.switch(way, list(WAYS.values()), k, inputs.q, inputs.avail, epsilon)

        played = collect(env, Teams(team), pick, jax.random.split(key, BLOCK))
        q = jax.vmap(partial(unroll, team.agent))(played.episodes).q[:, :-1]
        greedy = action_selection.greedy(q, played.episodes.avail[:, :-1])
        return played, (greedy != played.episodes.action).sum(axis=-1)

    return jax.jit(play, compiler_options=None if batched() else CPU_OPTIONS)


def measure(play: Any, team: Any, way: int, epsilon: float, steps: int) -> dict[str, Any]:
    """What one kind of exploration reaches, and what it costs."""
    won, seen = [], 0
    actions, pairs, deviations = set(), set(), Counter()
    for block in range(steps):
        played, off = jax.tree.map(np.asarray, play(team, jnp.int32(way), jnp.float32(epsilon), jax.random.key(block)))
        valid = played.episodes.valid
        joint = played.episodes.action[valid]
        cells = (played.episodes.state[:, :-1][valid] * CELLS).astype(np.int8)
        left = steps - seen
        for u, s in zip(joint[:left], cells[:left], strict=True):
            actions.add(u.tobytes())
            pairs.add(s.tobytes() + u.tobytes())
        deviations.update(np.minimum(off[valid][:left], 2).tolist())
        won.append(played.won.mean())
        seen += len(joint)
        if seen >= steps:
            break
    return {
        "joint_actions": len(actions),
        "pairs": len(pairs),
        "deviating": [round(deviations[n] / steps, 4) for n in range(3)],
        "win_rate": round(float(np.mean(won)), 4),
    }


if __name__ == "__main__":
    tyro.cli(main)
