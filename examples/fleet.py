"""A plant that training never sees: three carts fetch what arrives at six places. NumPy is all that it needs.

    python examples/fleet.py rules --episodes 300 --seed 0 --out logs.csv
    python examples/fleet.py TEAM --episodes 200 --seed 1 --out field.csv --epsilon 0.05

The first line plays by the rules in use, the second one lets an exported team act (``ovmse export RUN --to TEAM``).
Every row of the log is one cart at one step: what it saw, what it did, and what the fleet earned.
"""

import argparse
import csv
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

CARTS, PLACES, STEPS = ("north", "middle", "south"), 6, 30
WEST, FETCH, EAST = range(3)
ACTIONS = ("west", "fetch", "east")
ARRIVALS = np.array([0.45, 0.1, 0.1, 0.1, 0.35, 0.4])  # parcels per step at each place
WAITING = 0.02  # what a waiting parcel costs in a step; a fetched one earns 1
FULL = 6  # parcels that a place holds
FEATURES = [f"{what}_{i}" for what in ("here", "parcels", "others") for i in range(PLACES)]


class Plant:
    """One shift of the fleet. place: where each cart is; parcels: how many wait at each place."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.place = rng.integers(0, PLACES, len(CARTS))
        self.parcels = rng.integers(0, 3, PLACES)

    def seen(self) -> np.ndarray:
        """What each cart sees: where it is, how full the places are, where the other carts are; [cart, feature]."""
        here = np.eye(PLACES)[self.place]
        others = here.sum(axis=0) - here
        return np.round(np.concatenate([here, np.tile(self.parcels / FULL, (len(CARTS), 1)), others], axis=1), 3)

    def step(self, action: np.ndarray) -> float:
        """Move or fetch; what the fleet earns. Of the carts that fetch at one place a single one gets a parcel."""
        fetching = np.unique(self.place[action == FETCH])
        got = fetching[self.parcels[fetching] > 0]
        self.parcels[got] -= 1
        self.place = np.clip(self.place + (action == EAST) - (action == WEST), 0, PLACES - 1)
        earned = len(got) - WAITING * self.parcels.sum()
        self.parcels = np.minimum(self.parcels + (self.rng.random(PLACES) < ARRIVALS), FULL)
        return float(earned)


def rules(plant: Plant, noise: float) -> np.ndarray:
    """The rules in use: every cart goes where most parcels wait for the way, and fetches there, whatever the others do.

    noise: how often a cart does something else, since people drive them.
    """
    way = np.abs(np.arange(PLACES) - plant.place[:, None])
    goal = (plant.parcels - way).argmax(axis=1)
    by_rule = np.where(plant.place == goal, FETCH, np.where(plant.place < goal, EAST, WEST))
    return np.where(plant.rng.random(len(CARTS)) < noise, plant.rng.integers(0, 3, len(CARTS)), by_rule)


Decide = Callable[[Plant, int, Any], tuple[np.ndarray, Any]]
"""(plant, the shift's number, memory) → what each cart does, and the memory for the next step."""


def module(path: Path) -> ModuleType:
    """A file of an exported team, by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded  # explore.py imports policy
    spec.loader.exec_module(loaded)
    return loaded


def by_rules(noise: float) -> Decide:
    """The rules in use, as what decides."""
    return lambda plant, episode, memory: (rules(plant, noise), None)


def by_team(folder: Path, epsilon: float, seed: int) -> Decide:
    """An exported team, as what decides. It numbers carts and commands in an order of its own: they go by name."""
    policy, explore = module(folder / "policy.py"), module(folder / "explore.py").explore
    team = policy.Policy.load(folder)
    number = np.array([ACTIONS.index(name) for name in team.actions])

    def decide(plant: Plant, episode: int, memory: Any) -> tuple[np.ndarray, Any]:
        seen = dict(zip(CARTS, plant.seen(), strict=True))
        action, memory, _ = explore(team, seen, memory=memory, epsilon=epsilon, seed=seed, episode=episode)
        return number[[action[cart] for cart in CARTS]], memory

    return decide


def play(who: str, episodes: int, seed: int, noise: float, epsilon: float, log: Any) -> np.ndarray:
    """Play shifts and write their rows; what each shift earned."""
    rng, returns = np.random.default_rng(seed), []
    decide = by_rules(noise) if who == "rules" else by_team(Path(who), epsilon, seed)
    log.writerow(["shift", "step", "cart", *FEATURES, "command", "earned"])
    for episode in range(episodes):
        plant, memory, total = Plant(rng), None, 0.0
        for step in range(STEPS):
            seen = plant.seen()
            action, memory = decide(plant, episode, memory)
            earned = plant.step(action)
            total += earned
            for i, cart in enumerate(CARTS):
                log.writerow([episode, step, cart, *seen[i], ACTIONS[action[i]], round(earned, 3)])
        for cart, seen in zip(CARTS, plant.seen(), strict=True):
            log.writerow([episode, STEPS, cart, *seen, "", ""])  # what was seen after the last step
        returns.append(total)
    return np.array(returns)


def main() -> None:
    """Read the words, play, and say what a shift earned."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("who", help="'rules', or the directory of an exported team")
    words.add_argument("--episodes", type=int, default=200)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--noise", type=float, default=0.2, help="how often a cart does not follow the rules")
    words.add_argument("--epsilon", type=float, default=0.0, help="how often one cart of the team tries something")
    words.add_argument("--out", type=Path, required=True, help="the log to write")
    told = words.parse_args()
    with told.out.open("w", newline="") as file:
        returns = play(told.who, told.episodes, told.seed, told.noise, told.epsilon, csv.writer(file))
    error = 1.96 * returns.std(ddof=1) / len(returns) ** 0.5
    print(f"{told.who}: {len(returns)} shifts, {returns.mean():.2f} ± {error:.2f} each; written: {told.out}")


if __name__ == "__main__":
    main()
