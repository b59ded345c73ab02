"""How many joint actions does exploration reach? Sequential exploration against ε-greedy at equal ε.

    python studies/coverage.py runs/methods-3m/offline

The paper's second experiment: the team as it left the offline phase plays the same number of steps with each, and
nothing is learned. Printed: distinct joint actions, distinct pairs of a coarse state and a joint action, the share of
steps in which none, one, or several agents deviate from the greedy action, and the win rate while exploring.
"""

from collections import Counter
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ovmse import envs
from ovmse.core import action_selection
from ovmse.core.networks import unroll
from ovmse.envs.settings import parse_settings
from ovmse.learning.parallel import CPU_OPTIONS, batched
from ovmse.learning.rollout import Teams, collect
from ovmse.runs.saved_config import read_config
from ovmse.system import jax_setup
from ovmse.training.evaluate_run import restore_teams

EPSILONS = (0.1, 0.3, 1.0)
WAYS = {
    "sequential": action_selection.sequential,
    "independent": action_selection.independent,
    "ε-greedy": action_selection.epsilon_greedy,
}
BLOCK = 32
CELLS = 4  # a coarse state: every state feature in one of so many cells


def main(run: tyro.conf.Positional[Path], steps: int = 20_000, team: int = 0) -> None:
    """Measure.

    Args:
        run: a run whose offline teams explore.
        steps: environment steps of each kind of exploration.
        team: which of the run's teams.
    """
    jax_setup.use()
    config = read_config(run)
    env = envs.make(config.env, **parse_settings(config.env_settings))
    teams = restore_teams(run / "offline.safetensors", config, env.spec)
    chosen = jax.tree.map(lambda x: x[team], teams)
    table = Table(
        "ε",
        "exploration",
        "joint actions",
        "state–action pairs",
        "0 / 1 / several deviate",
        "won",
        title=f"{steps} steps",
    )
    for epsilon in EPSILONS:
        for name, way in WAYS.items():
            table.add_row(str(epsilon), name, *measure(env, chosen, way, epsilon, steps))
    Console().print(table)


def measure(env, team, way, epsilon: float, steps: int) -> list[str]:
    """One row of the table."""

    def play(key):
        def pick(k, inputs):
            return way(k, inputs.q, inputs.avail, jnp.float32(epsilon))

        played = collect(env, Teams(team), pick, jax.random.split(key, BLOCK))
        q = jax.vmap(partial(unroll, team.agent))(played.episodes).q[:, :-1]
        greedy = action_selection.greedy(q, played.episodes.avail[:, :-1])
        return played, (greedy != played.episodes.action).sum(axis=-1)

    program, won, seen = jax.jit(play, compiler_options=None if batched() else CPU_OPTIONS), [], 0
    actions, pairs, deviations = set(), set(), Counter()
    for block in range(steps):
        played, off = jax.tree.map(np.asarray, program(jax.random.key(block)))
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
    shares = " / ".join(f"{100 * deviations[n] / steps:.0f} %" for n in range(3))
    return [str(len(actions)), str(len(pairs)), shares, f"{100 * np.mean(won):.0f} %"]


if __name__ == "__main__":
    tyro.cli(main)
