"""Datasets made of other datasets' episodes: sub-sampled, filtered by return, mixed by shares, shuffled.

An episode is taken whole and as it is, and never twice. Everything follows from the parts, the shares and the seed.
"""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import zarr

from ovmse.core.errors import UserError, check_positive, check_seed, number_of
from ovmse.core.types import Flat
from ovmse.data.dataset import Dataset
from ovmse.data.schema import KINDS, ROWS, Names
from ovmse.system import provenance
from ovmse.system.files import check_free

SUM_TOLERANCE = Fraction(1, 100)
"""How far from 1 the shares' sum may be, so that three times 0.333 will do; they are scaled to 1."""

Range = tuple[float, float]


class MixPart(NamedTuple):
    """A dataset of a mix and the episodes that may be taken from it (their numbers, rising)."""

    name: str
    share: Fraction
    dataset: Dataset
    eligible: np.ndarray


def mix(
    parts: Sequence[str],
    out: str | os.PathLike[str],
    *,
    episodes: int | None = None,
    return_range: Range | None = None,
    seed: int = 0,
    allow_version_mismatch: bool = False,
) -> Dataset:
    """Write a dataset of the parts' episodes, drawn without replacement and shuffled by `seed`, and return it.

    parts: ``DATASET:SHARE`` (a directory or a shipped dataset's name; 0.5 or 1/3), or ``DATASET`` for equal shares.
    Shares are shares of the result's episodes and add up to 1; what rounding leaves goes to the largest remainders.
    episodes: of the result; None is the most that the shares allow. return_range: only episodes whose undiscounted
    return lies in it, ends included (`parse_range` reads one). One part alone is a sub-sample of it.

    Raises `UserError` where a part or a share cannot be used, environments differ (another version or settings only
    with `allow_version_mismatch`), there are too few episodes, or `out` is in use.
    """
    out = Path(out)
    check_free(out.resolve())
    if episodes is not None:
        check_positive("--episodes", episodes)
    check_seed("--seed", seed)
    found = [
        MixPart(name, share, dataset := Dataset.open(name), eligible(dataset, return_range))
        for name, share in parse_shares(parts)
    ]
    check_parts(found, allow_version_mismatch)
    taken = counts(found, episodes)
    chosen = draw([part.eligible for part in found], taken, seed)
    flat = gather([part.dataset.flat for part in found], chosen, order(sum(taken), len(found), seed))
    halved = (zarr.open_array(part.dataset.path / "obs", mode="r", zarr_format=3).dtype == np.float16 for part in found)
    first = found[0].dataset.metadata.names
    alone = found[0].dataset.metadata if len(found) == 1 and return_range is None else None
    filtered = "" if return_range is None else f", of those with a return in {range_text(return_range)}"
    return Dataset.write(
        out,
        spec=found[0].dataset.spec,
        **flat,
        behaviour="; ".join(
            f"{number_of(count, 'episode')} of {title(part)}{filtered} ({part.dataset.metadata.behaviour})"
            for part, count in zip(found, taken, strict=True)
        ),
        quality=alone.quality if alone else "mixed",
        seed=seed,
        git_revision=provenance.git_revision(),
        command=provenance.command_line(),
        float_dtype="float16" if all(halved) else "float32",
        recipe={  # the parts are known by their checksums, wherever they lie
            "made_by": "mix",
            "parts": [
                {"name": title(part), "checksum": part.dataset.metadata.checksum, "share": str(part.share)}
                for part in found
            ],
            "episodes": episodes,
            "return_range": None if return_range is None else range_text(return_range),
            "seed": seed,
            "allow_version_mismatch": allow_version_mismatch,
            "versions": provenance.dataset_versions(),
        },
        names=first if all(part.dataset.metadata.names == first for part in found) else Names(),
        source="; ".join(dict.fromkeys(s for part in found if (s := part.dataset.metadata.source))),
        assumptions=[f"{title(part)}: {text}" for part in found for text in part.dataset.metadata.assumptions],
    )


def parse_shares(parts: Sequence[str]) -> list[tuple[str, Fraction]]:
    """The datasets and their shares, scaled to a sum of 1; without any share all are equal."""
    if not parts:
        raise UserError("name at least one dataset, such as smax-3m-medium or smax-3m-medium:0.5 my-data:0.5.")
    split = [part.rpartition(":") for part in parts]
    shares = [_fraction(text) if separator else None for _, separator, text in split]
    names = [part if share is None else head for part, (head, _, _), share in zip(parts, split, shares, strict=True)]
    known = [share for share in shares if share is not None]
    if not known:
        return [(name, Fraction(1, len(parts))) for name in names]
    if len(known) < len(parts):
        raise UserError(f"give every dataset a share, such as A:0.5 B:0.5, or none of them; got {' '.join(parts)}.")
    total = sum(known, Fraction())
    if any(share <= 0 for share in known) or abs(total - 1) > SUM_TOLERANCE:
        raise UserError(
            f"shares must be greater than 0 and add up to 1; got {' + '.join(map(str, known))} = {float(total):g}."
        )
    return [(name, share / total) for name, share in zip(names, known, strict=True)]


def _fraction(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None  # a colon of the name's own


def parse_range(text: str) -> Range:
    """``LOW:HIGH`` as two numbers; an end left out is open. Raises `UserError` for anything else."""
    low, separator, high = text.partition(":")
    try:
        ends = float(low or "-inf"), float(high or "inf")
    except ValueError:
        ends = (np.nan, np.nan)
    if not separator or not ends[0] <= ends[1]:
        raise UserError(f"a range of returns reads LOW:HIGH, such as 10:20, 10: or :5; got {text!r}.")
    return ends


def range_text(ends: Range) -> str:
    """The range as `parse_range` reads it."""
    return ":".join("" if np.isinf(end) else f"{end:g}" for end in ends)


def eligible(dataset: Dataset, return_range: Range | None) -> np.ndarray:
    """The numbers of the episodes whose return lies in the range, ends included."""
    returns = dataset.returns()
    low, high = return_range or (-np.inf, np.inf)
    return np.flatnonzero((returns >= low) & (returns <= high))


def check_parts(parts: Sequence[MixPart], allow_version_mismatch: bool = False) -> None:
    """Raise `UserError` where two parts are the same data or come from environments that differ."""
    for i, part in enumerate(parts):
        for other in parts[:i]:
            same = other.dataset.metadata.checksum == part.dataset.metadata.checksum != ""
            if same or other.dataset.path.resolve() == part.dataset.path.resolve():
                raise UserError(f"{other.name} and {part.name} are the same data: no episode may come twice.")
        try:
            parts[0].dataset.check_env(part.dataset.spec, allow_version_mismatch)
        except UserError as error:
            raise UserError(f"{part.name} can't be mixed with {parts[0].name}: {error}") from error


def counts(parts: Sequence[MixPart], episodes: int | None) -> list[int]:
    """How many episodes each part gives; None asks for the most that the shares allow.

    Raises `UserError` where a part has too few, with the largest number that can be had.
    """
    shares, available = [part.share for part in parts], [len(part.eligible) for part in parts]
    most = largest(shares, available)
    if not most:
        raise UserError(f"no mix of these shares can be made: there are {_listed(parts, available)}.")
    taken = apportion(shares, most if episodes is None else episodes)
    if any(need > have for need, have in zip(taken, available, strict=True)):
        raise UserError(
            f"{episodes} episodes need {_listed(parts, taken)}; there are {_listed(parts, available)} "
            f"to take. At these shares at most {most} can be had."
        )
    return taken


def _listed(parts: Sequence[MixPart], numbers: Sequence[int]) -> str:
    return ", ".join(f"{number} of {part.name}" for part, number in zip(parts, numbers, strict=True))


def apportion(shares: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers with the given sum, each share's quota rounded by the largest remainders (the first of equals)."""
    quotas = [share * total for share in shares]
    whole = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: whole[i] - quotas[i])  # stable: the first of equals
    extra = set(by_remainder[: total - sum(whole)])
    return [number + (i in extra) for i, number in enumerate(whole)]


def largest(shares: Sequence[Fraction], available: Sequence[int]) -> int:
    """The largest total whose `apportion` asks no part for more than it has."""

    def fits(total: int) -> bool:
        return all(n <= have for n, have in zip(apportion(shares, total), available, strict=True))

    # a quota is never rounded down by one or more, so that nothing fits beyond this bound
    bound = min(sum(available), *(int((have + 1) / share) for share, have in zip(shares, available, strict=True)))
    return next(total for total in range(bound, -1, -1) if fits(total))


def draw(eligible: Sequence[np.ndarray], taken: Sequence[int], seed: int) -> list[np.ndarray]:
    """The numbers of the episodes taken from each part, without replacement."""
    return [
        np.random.default_rng([seed, i]).permutation(numbers)[:count]
        for i, (numbers, count) in enumerate(zip(eligible, taken, strict=True))
    ]


def order(total: int, n_parts: int, seed: int) -> np.ndarray:
    """The place in the result of each taken episode, in the order of the parts, shape (E,)."""
    return np.random.default_rng([seed, n_parts]).permutation(total)


def gather(flats: Sequence[Flat], chosen: Sequence[np.ndarray], place: np.ndarray) -> Flat:
    """The arrays of the chosen episodes, the k-th of them (counted over all parts) as episode `place[k]`."""
    taken = [(part, number) for part, numbers in enumerate(chosen) for number in numbers]
    in_order = [taken[i] for i in np.argsort(place)]

    def episodes_of(flat: Flat, field: str) -> list[np.ndarray]:
        each = np.ones_like(flat["length"]) if field in ("length", "won") else flat["length"] + (field in ROWS)
        return np.split(flat[field], np.cumsum(each)[:-1])  # type: ignore[literal-required]

    def gathered(field: str) -> np.ndarray:
        episodes = [episodes_of(flat, field) for flat in flats]
        return np.concatenate([episodes[part][number] for part, number in in_order])

    return cast("Flat", {field: gathered(field) for field in KINDS})


def title(part: MixPart) -> str:
    """The part's name without the folders that it lies in."""
    return part.dataset.path.resolve().name
