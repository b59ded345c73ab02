"""The online experience of a run, kept as one dataset per seed: what the next offline round can learn from."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ovmse.config import Config
from ovmse.core.types import EnvSpec, Episode
from ovmse.data.dataset import Dataset
from ovmse.data.raw_episode import RawEpisode
from ovmse.data.writer import DatasetWriter
from ovmse.learning.rollout import Rollout
from ovmse.system import provenance


def open_writers(out: Path, config: Config, spec: EnvSpec, kept: Sequence[int] | None = None) -> list[DatasetWriter]:
    """One writer per seed, of ``experience/seed-N`` in a run's directory.

    kept: the episodes of each seed that a resumed run goes on from; those after them are forgotten, and a dataset that
    was closed already, since the run had ended or was stopped while it did, is opened again.
    Raises `UserError` where fewer are there.
    """
    writers: list[DatasetWriter] = []
    for i in range(config.seeds):
        seed = config.seed + i
        path = out / "experience" / f"seed-{seed}"
        closed = path.with_name(f".{path.name}.closed")
        if kept is not None and path.exists():
            shutil.rmtree(path.with_name(f".{path.name}.unfinished"), ignore_errors=True)
            path.rename(closed)
        writers.append(
            DatasetWriter(
                path,
                spec=spec,
                resume=kept is not None,
                about={
                    "behaviour": f"the online phase of {config.method!r}, seed {seed}, exploring as it learned",
                    "quality": "experience",
                    "seed": seed,
                    "git_revision": provenance.git_revision(),
                    "command": provenance.command_line(),
                },
            )
        )
        if kept is not None and closed.exists():
            if writers[-1].episodes < kept[i]:
                writers[-1].keep(0)
                whole = Dataset.open(closed)
                writers[-1].add([raw_episode(whole.episode(e), whole.won[e], e) for e in range(len(whole.length))])
                writers[-1].sync()
            shutil.rmtree(closed)
        if kept is not None:
            writers[-1].keep(kept[i])
    return writers


Turn = tuple[int, Any, Any, Any]
"""The number of a round, what its seeds played (axes [seed, episode]), and their environment steps before and after
learning from it."""


def keep(writers: Sequence[DatasetWriter], turns: list[Turn]) -> None:
    """Write what was learned from, and empty `turns`. A seed that waits for the others plays, but its count does not
    move; seeds that only fill up the devices are nobody's."""
    for place, played, before, after in turns:
        played, before, after = jax.tree.map(np.asarray, (played, before, after))
        for i in np.flatnonzero(after > before):
            if (seed := place * len(before) + int(i)) < len(writers):
                writers[seed].add(episodes_of(jax.tree.map(lambda x: x[i], played)))  # noqa: B023
    turns.clear()


def episodes_of(played: Rollout) -> list[RawEpisode]:
    """The episodes of a rollout (leading axis: episode), without their padding."""
    each = (jax.tree.map(lambda x: x[e], played) for e in range(len(played.won)))  # noqa: B023
    return [raw_episode(one.episodes, one.won, e) for e, one in enumerate(each)]


def raw_episode(episode: Episode, won: bool | np.bool_, number: int) -> RawEpisode:
    """An episode as a writer takes it, without its padding."""
    length = int(episode.valid.sum())
    obs, state, avail = (np.asarray(x)[: length + 1] for x in (episode.obs, episode.state, episode.avail))
    action, reward, terminal = (np.asarray(x)[:length] for x in (episode.action, episode.reward, episode.terminal))
    return RawEpisode(obs, action, reward, terminal, state, avail, bool(won), f"online episode {number}")


@contextlib.contextmanager
def kept_on_failure(writers: Sequence[DatasetWriter]) -> Iterator[None]:
    """Close the files where something is raised, so that a resumed run finds them whole and unlocked."""
    try:
        yield
    except BaseException:
        for writer in writers:
            writer.stop()
        raise


def write_all(writers: Sequence[DatasetWriter]) -> list[Path]:
    """Close the writers; the datasets that they leave."""
    for writer in writers:
        writer.close()
    return [writer.path for writer in writers]
