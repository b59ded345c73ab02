"""Rounds that workers play while the learner learns from earlier ones.

The round that a seed learns next is always played by the weights of `rounds_ahead` rounds before, however many workers
there are and however fast each is: what is learned depends on no clock. Of the first rounds, which begin together, each
is another turn of the first weights.
"""

from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.envs import wire
from ovmse.envs.pool import Played
from ovmse.learning.parallel import seeds_per_batch
from ovmse.learning.play import Actor, CollectFn
from ovmse.learning.rollout import Rollout
from ovmse.learning.workers import Round, Workers
from ovmse.system.files import as_type


class Begun(NamedTuple):
    """A round that workers play: what is played, and its episodes to come."""

    round: Round
    episodes: "list[Future[Played]]"


class PlayedAhead:
    """The rounds under way of every seed, the oldest first.

    workers: who play them. seeds: how many there are, so many `together` in a batch.
    """

    def __init__(self, workers: Workers, rounds_ahead: int, seeds: int, together: int):
        self._workers, self._ahead, self._together = workers, rounds_ahead, together
        self._under_way: list[deque[Begun]] = [deque() for _ in range(seeds)]

    def next(self, place: int, actor: Actor) -> Rollout:
        """What the place-th batch of seeds learns from now; `actor` begins the first rounds where none is under way."""
        mine = self._of_batch(place)
        if not mine[0]:
            for turn in range(self._ahead + 1):
                self._begin(place, actor, turn, [True] * len(mine))
        return self._workers.stacked([self._workers.rollout(rounds[0].episodes) for rounds in mine])

    def learned(self, place: int, actor: Actor, which: np.ndarray) -> None:
        """The seeds that `which` marks have learned from their round: each begins a new one, by what it is now."""
        for rounds, done in zip(self._of_batch(place), which, strict=False):
            if done:
                rounds.popleft()
        self._begin(place, actor, self._ahead, which.tolist())

    def _begin(self, place: int, actor: Actor, turn: int, which: list[bool]) -> None:
        new = self._workers.rounds(actor, turn, None, place)
        for rounds, one, wanted in zip(self._of_batch(place), new, which, strict=False):
            if wanted:
                rounds.append(Begun(one, self._workers.submit(one)))

    def _of_batch(self, place: int) -> list[deque[Begun]]:
        return self._under_way[place * self._together : (place + 1) * self._together]

    @property
    def restarts(self) -> int:
        """How many workers were started anew so far, in this process."""
        return self._workers.pool.restarts

    def save(self, folder: Path, first_seed: int) -> None:
        """Write what is under way into a checkpoint, so that the same episodes are played when the run goes on."""
        for i, rounds in enumerate(self._under_way):
            for number, begun in enumerate(rounds):
                content = wire.bundle(begun.round.about, begun.round.arrays)
                (folder / _file(first_seed + i, number)).write_bytes(content)

    def restore(self, folder: Path, first_seed: int) -> None:
        """Begin anew what was under way. Raises `UserError` where a file can't be used."""
        for i, rounds in enumerate(self._under_way):
            number = 0
            while (file := folder / _file(first_seed + i, number)).exists():
                one = _read(file)
                rounds.append(Begun(one, self._workers.submit(one)))
                number += 1


def make(collect_episodes: CollectFn | None, config: Config) -> PlayedAhead | None:
    """The rounds under way of a run that begins; None where it has no workers."""
    if not isinstance(collect_episodes, Workers):
        return None
    return PlayedAhead(collect_episodes, config.rounds_ahead, config.seeds, seeds_per_batch(config.seeds))


def in_words(config: Config) -> list[str]:
    """What workers mean for a run, in sentences; none where it has no workers."""
    if config.workers == 1:
        return []
    ahead, episodes, updates = (
        config.rounds_ahead,
        config.seeds * config.episodes_per_collect,
        config.updates_per_collect,
    )
    said = [
        f"{config.workers} workers play up to {(ahead + 1) * episodes} episodes at a time, by weights that are "
        f"{ahead * updates} updates old ({ahead} rounds). Equal seeds give equal runs, be it 2 workers or more"
    ]
    if config.workers > ahead * episodes:
        enough = -(-config.workers // episodes)
        said.append(f"warning: some workers will wait for the learner; --rounds-ahead {enough} keeps all of them busy")
    return said


class _About(TypedDict):
    """What is read of `Round.about`."""

    contract: dict[str, Any]
    rule: Literal["epsilon_greedy", "sequential", "sample"]
    epsilon: float
    seeds: list[int]
    keys: list[list[int]]


def _file(seed: int, number: int) -> str:
    return f"ahead-{seed}-{number:03d}.bin"


def _read(file: Path) -> Round:
    try:
        about, arrays = wire.unbundle(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is damaged ({error}).") from error
    as_type(about, _About, file)
    return Round(about, arrays)
