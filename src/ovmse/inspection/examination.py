"""One pass over a dataset: every step checked, every sum taken; then the profile that the sums make.

Episodes with a fault are reported and left out of the sums, so that one NaN does not hide everything else.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple, cast

import numpy as np
from rich.console import Console

from ovmse.core.types import Flat
from ovmse.data import dataset, profile
from ovmse.data.findings import Finding
from ovmse.data.schema import places
from ovmse.data.stream import Block, DatasetScan, blocks
from ovmse.data.validation import examine, faulty
from ovmse.inspection import clone, coverage, mixture, tally
from ovmse.system.progress import track


class Gathered(NamedTuple):
    """All that one pass over the blocks keeps: 8 bytes a step at most, a few dozen an episode, and the sample."""

    episodes: tally.Episodes
    sums: tally.Sums
    seen: coverage.Seen
    sample: clone.CloneSample | None


def gather(
    found: DatasetScan, seed: int, with_clone: bool, console: Console | None
) -> tuple[tuple[Finding, ...], Gathered | None]:
    """Read everything once: the faults of values, and the rest, which is None where no episode is sound."""
    spec = found.spec
    n_features = spec.obs_size + spec.n_actions + spec.n_agents
    picked = clone.chosen(found.length, found.sound, spec.n_agents, n_features, seed) & with_clone
    findings: list[Finding] = []
    measured, samples = [], []
    seen = coverage.nothing_seen(spec.n_agents)
    steps = int(found.length[found.sound].sum())
    for block in track(blocks(found), "reading", steps, lambda b: len(b.flat["reward"]), console):
        faults = examine(block.flat, spec.episode_limit, block.first)
        findings.extend(faults)
        for part in _faultless(block, spec.episode_limit) if faults else [block]:
            hashes = coverage.hashes(part)
            seen = coverage.see(seen, part, hashes)
            measured.append(tally.measure(part, hashes))
            samples.append(clone.take(part, picked))
    if not measured:
        return tuple(findings), None
    episodes, sums = zip(*measured, strict=True)
    sample = tally.join(samples) if with_clone else None
    return tuple(findings), Gathered(tally.join(episodes), reduce(tally.add, sums), seen, sample)


def _faultless(block: Block, episode_limit: int) -> Iterator[Block]:
    good = ~faulty(block.flat, episode_limit)
    for first, end in np.flatnonzero(np.diff(good, prepend=False, append=False)).reshape(-1, 2).tolist():
        part, arrays = places(block.flat["length"], first, end), cast("dict[str, np.ndarray]", block.flat)
        yield Block(block.first + first, cast("Flat", {name: arrays[name][part[name]] for name in arrays}))


def profile_of(found: DatasetScan, gathered: Gathered, seed: int) -> dict[str, Any]:
    """The whole profile, as JSON values.

    Beside what `about` and `numbers.numbers` tell: ``examined``, the episodes without a fault, which all figures are
    about; ``features``, the range of obs and state and their constant features; ``coverage``; ``return_components`` and
    ``return_drift`` (`mixture`); ``clone`` and ``mixture``, null without a fit; ``held_out``, its episodes.
    """
    episodes, sums = gathered.episodes, gathered.sums
    steps = int(episodes.length.sum())
    basics = profile.Basics(episodes.returns, episodes.length, episodes.won, episodes.ended, sums.taken, sums.legal)
    return {
        **about(found),
        **profile.numbers(found.spec, basics),
        "examined": len(episodes.number),
        "features": {"obs": _ranges(sums.obs_low, sums.obs_high), "state": _ranges(sums.state_low, sums.state_high)},
        "coverage": coverage.coverage(gathered.seen, steps, found.spec.n_actions),
        "return_components": mixture.components(episodes.returns, episodes.won),
        "return_drift": mixture.drift(episodes.returns),
        **_play(found, gathered, seed),
    }


def about(found: DatasetScan) -> dict[str, Any]:
    """Where the dataset comes from, by its metadata."""
    nbytes = int(found.step_bytes * (found.held + 1).sum())
    return profile.about(found.path, found.spec, found.metadata, found.held, nbytes)


def _ranges(low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """The extremes of obs or state, and the features that never change (of any agent)."""
    constant = (low == high).reshape(-1, low.shape[-1]).all(axis=0)
    return {"min": float(low.min()), "max": float(high.max()), "constant": np.flatnonzero(constant).tolist()}


def _play(found: DatasetScan, gathered: Gathered, seed: int) -> dict[str, Any]:
    sample = gathered.sample
    if sample is None or (fitted := clone.fit(sample, seed)) is None:
        return {"clone": None, "mixture": None, "held_out": None}
    judged = mixture.episode_likelihood(fitted, gathered.episodes.number, gathered.episodes.returns)
    sampled = len(sample.action) / int(gathered.sums.choices.sum())
    return {
        "clone": {**clone.figures(fitted, found.spec.n_agents), "sampled": sampled},
        "mixture": mixture.figures(fitted, judged),
        "held_out": {name: values.tolist() for name, values in judged._asdict().items()},
    }


def contradictions(found: DatasetScan, gathered: Gathered) -> Iterator[Finding]:
    """Figures of the metadata that are not those of the data, where all of it could be examined."""
    meta, returns = found.metadata, gathered.episodes.returns
    if meta is None or len(returns) != len(found.length):
        return
    for text in dataset.contradictions(meta, returns, gathered.episodes.won, found.arrays):
        yield Finding("metadata contradicts the data", 1, text, "zarr.json")
