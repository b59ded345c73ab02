"""Fitted Q evaluation in matrix games, where every value is known.

    python studies/selection_games.py

The log holds every joint plan once. Every policy that does the same at all later stages is evaluated.
Printed: the mean and the largest error, and Spearman's correlation with the true values.
"""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ovmse import DatasetWriter, envs
from ovmse.data.dataset import Dataset
from ovmse.learning.replay import from_flat
from ovmse.ope.settings import Selecting
from ovmse.stats import ranking
from ovmse.system import jax_setup
from ovmse.training.fitting import fitter


def main(updates: int = 1_500, gamma: float = 0.99) -> None:
    """Measure.

    Args:
        updates: gradient updates of every fit.
        gamma: discount factor per step.
    """
    jax_setup.use()
    table = Table("game", "policies", "mean error", "largest", "Spearman")
    for game in ("two_step", "climbing"):
        with TemporaryDirectory() as folder:
            dataset = write(Path(folder) / "log", game)
        data = from_flat(dataset.flat, dataset.spec)
        stage = np.asarray(data.rows.state).argmax(axis=-1)
        joint = list(itertools.product(range(dataset.spec.n_actions), repeat=2))
        stages = dataset.spec.state_size
        policies = [(first, *[then] * (stages - 1)) for first in joint for then in (joint if stages > 1 else [()])]
        true = np.array([value(game, at, gamma) for at in policies])
        actions = np.stack([np.asarray(at, np.uint8)[stage] for at in policies])
        selecting = Selecting(runs=(Path(),), data=game, gamma=gamma, learning_rate=3e-3)
        fit = fitter(selecting.fit(updates), dataset.spec, data, len(actions))
        found = fit(actions, lambda done, clock: None).start.mean(axis=(1, 2))
        error, rank = np.abs(found - true), ranking.spearman(found, true)
        table.add_row(game, str(len(true)), f"{error.mean():.2f}", f"{error.max():.2f}", f"{rank:.2f}")
    Console().print(table)


def write(path: Path, game: str) -> Dataset:
    """A log with every joint plan of a game once."""
    spec = envs.make(f"matrix:{game}").spec
    joint = list(itertools.product(range(spec.n_actions), repeat=2))
    with DatasetWriter(path, spec=spec) as writer:
        for plan in itertools.product(joint, repeat=spec.episode_limit):
            observations, results = play(game, lambda t, stage: plan[t])  # noqa: B023
            rows = {
                name: np.stack([np.asarray(getattr(observation, name)) for observation in observations])
                for name in observations[0]._fields
            }
            reward = np.array([float(result.reward) for result in results])
            won = bool(results[-1].won)
            writer.add_episode(action=np.array(plan), reward=reward, terminal=True, won=won, **rows)
    return Dataset.open(path)


def play(game: str, pick) -> tuple[list, list]:
    """An episode's observations and results; pick: (step, stage) → joint action."""
    env, key = envs.make(f"matrix:{game}"), jax.random.key(0)
    state, observation = env.reset(key)
    observations, results = [observation], []
    while not (results and bool(results[-1].terminal)):
        action = pick(len(results), int(np.asarray(observation.state).argmax()))
        state, observation, result = env.step(key, state, jnp.asarray(action))
        observations.append(observation)
        results.append(result)
    return observations, results


def value(game: str, at: tuple, gamma: float) -> float:
    """The discounted return of a policy that has a joint action for each stage."""
    _, results = play(game, lambda t, stage: at[stage])
    return sum(gamma**t * float(result.reward) for t, result in enumerate(results))


if __name__ == "__main__":
    tyro.cli(main)
