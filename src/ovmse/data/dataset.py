"""Datasets on disk: a directory in the Zarr v3 format, steps stored flat, read whole and checked whole.

Axes: E episodes, M steps of all episodes, R = M + E rows (every episode keeps the row after its last step),
N agents, A actions, O observation features, S state features. `docs/datasets.md` describes the files.
"""

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from ovmse.core.errors import UserError, check_known
from ovmse.core.types import EnvSpec, Episode, Flat
from ovmse.data.folder import find
from ovmse.data.schema import (
    KINDS,
    ROWS,
    SCHEMA_VERSION,
    SIZES,
    STEPS,
    Metadata,
    Names,
    check_names,
    places,
    shapes,
    starts,
)
from ovmse.data.validation import conform
from ovmse.data.zarr_files import digest, in_memory, read_array, read_metadata, write_whole
from ovmse.system import bounds
from ovmse.system.files import check_free


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in memory: NumPy arrays that cannot be written to, with the axes of `Flat`.

    obs, state and reward are float32 whatever the dtype on disk; action is uint8, uint16 or int32 by the
    number of actions; length is int32.
    """

    path: Path
    metadata: Metadata
    obs: np.ndarray
    state: np.ndarray
    avail: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    length: np.ndarray
    won: np.ndarray

    @property
    def spec(self) -> EnvSpec:
        """The environment that the play was collected in."""
        return self.metadata.env

    @cached_property
    def row_start(self) -> np.ndarray:
        """The first row of every episode, shape (E,)."""
        return starts(self.length + 1)

    @cached_property
    def step_start(self) -> np.ndarray:
        """The first step of every episode, shape (E,)."""
        return starts(self.length)

    @property
    def flat(self) -> Flat:
        """The arrays alone."""
        return cast("Flat", {field: getattr(self, field) for field in KINDS})

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, field).nbytes for field in KINDS)

    def returns(self) -> np.ndarray:
        """The undiscounted sum of rewards of every episode, float64, shape (E,)."""
        return episode_returns(self.reward, self.length)

    def episode(self, index: int) -> Episode:
        """Episode `index` (0 to E - 1), not padded: T is its length. Action is int32."""
        if not 0 <= index < len(self.length):
            raise UserError(f"{self.path}: no episode {index}; expected 0 to {len(self.length) - 1}.")
        part = places(self.length, index, index + 1, int(self.step_start[index]))
        arrays: Any = {field: getattr(self, field)[part[field]] for field in (*ROWS, *STEPS)}
        arrays |= {"action": arrays["action"].astype(np.int32), "valid": np.ones(self.length[index], bool)}
        return Episode(**arrays)

    def check_env(self, spec: EnvSpec, allow_version_mismatch: bool = False) -> None:
        """Raise `UserError` unless the environment is the one the play was collected in.

        Sizes and then the name must agree; `allow_version_mismatch` accepts another version and settings.
        """
        own = self.spec
        sizes = ((name, getattr(own, name), getattr(spec, name)) for name in SIZES if name in EnvSpec._fields)
        if wrong := [f"{name}: expected {want}, got {have}" for name, want, have in sizes if want != have]:
            raise UserError(
                f"{self.path}: {spec.name!r} has other sizes than {own.name!r}, where the play comes from: "
                f"{'; '.join(wrong)}. Use that environment, or another dataset."
            )
        if own.name != spec.name:
            raise UserError(
                f"{self.path}: expected the environment {own.name!r}, which the play was collected in, "
                f"got {spec.name!r}. Use that environment, or another dataset."
            )
        for what, expected, got in (
            ("version", own.version, spec.version),
            ("settings", own.settings, plain_settings(spec.settings)),
        ):
            if expected != got and not allow_version_mismatch:
                raise UserError(
                    f"{self.path}: {own.name!r}: expected the {what} it was collected with, {expected!r}, "
                    f"got {got!r}: the game may differ. Use the same, or pass --allow-version-mismatch."
                )

    @classmethod
    def open(cls, path_or_name: str | os.PathLike[str]) -> "Dataset":
        """Read a dataset and check all of it: a directory, or the name of a dataset shipped with the package.

        Raises `UserError` where nothing is found, where files are missing, damaged or contradict one another,
        and where values cannot be used (see `ovmse.data.validation`).
        """
        path = find(path_or_name)
        metadata = read_metadata(path)
        expected = shapes(metadata.env, metadata.episodes, metadata.steps)
        needed = sum(4 * math.prod(shape) for shape in expected.values())
        bounds.check_whole(path, needed, sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
        stored = {field: read_array(path, field, expected[field]) for field in KINDS}
        flat = conform(str(path), metadata.env, cast("Flat", stored))
        returns = episode_returns(flat["reward"], flat["length"])
        for text in contradictions(metadata, returns, flat["won"], stored):
            raise UserError(f"{path}: {text}. Fetch or write the dataset again.")
        return cls(path, metadata, **_read_only(flat))

    @classmethod
    def write(
        cls,
        path: str | os.PathLike[str],
        *,
        spec: EnvSpec,
        obs: np.ndarray,
        state: np.ndarray,
        avail: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminal: np.ndarray,
        length: np.ndarray,
        won: np.ndarray,
        behaviour: str,
        quality: str = "",
        seed: int | None = None,
        git_revision: str = "",
        command: str = "",
        created: str | None = None,
        float_dtype: str = "float32",
        source: str = "",
        assumptions: Sequence[str] = (),
        recipe: dict[str, Any] | None = None,
        names: Names = Names(),  # noqa: B008
    ) -> "Dataset":
        """Write a dataset to a directory that does not exist or is empty, and return it.

        The arrays have the axes of `Flat` (`flat.pack` makes them from padded episodes). `float_dtype`, float32 or
        float16, is for obs and state on disk. `created` is a date, today (UTC) if not given; for `source`,
        `assumptions`, `recipe` and `names` see `Metadata`. The directory appears only when it is whole. Raises
        `UserError` where it is in use, or the arrays disagree with `spec`, with each other, or hold unusable values.
        """
        path = Path(path).resolve()
        check_free(path)
        check_known("float_dtype", float_dtype, ("float32", "float16"))
        spec = spec._replace(settings=plain_settings(spec.settings))
        flat = conform(str(path), spec, Flat(obs=obs, state=state, avail=avail, action=action, reward=reward,
                                             terminal=terminal, length=length, won=won))  # fmt: skip
        if float_dtype == "float16":
            flat["obs"] = _halved(path, "obs", flat["obs"])
            flat["state"] = _halved(path, "state", flat["state"])
        metadata = describe(
            spec,
            flat["length"],
            flat["won"],
            episode_returns(flat["reward"], flat["length"]),
            behaviour=behaviour,
            quality=quality,
            seed=None if seed is None else int(seed),
            git_revision=git_revision,
            command=command,
            created=created or today(),
            source=source,
            assumptions=list(assumptions),
            recipe=None if recipe is None else plain_settings(recipe),
            **names._asdict(),
        )
        metadata = write_whole(path, metadata, in_memory(flat))
        flat["obs"] = flat["obs"].astype(np.float32, copy=False)
        flat["state"] = flat["state"].astype(np.float32, copy=False)
        return cls(path, metadata, **_read_only(flat))


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back (tuples become lists), so that both compare equal."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"settings: expected JSON values only, got {settings!r} ({error}).") from error


def _halved(path: Path, field: str, values: np.ndarray) -> np.ndarray:
    limit = float(np.finfo(np.float16).max)
    largest = float(max(values.max(), -values.min()))
    if largest > limit:
        raise UserError(
            f"{path}: {field} reaches {largest:g}, float16 holds up to {limit:g}. Use float_dtype='float32'."
        )
    return values.astype(np.float16)


def today() -> str:
    """The date (UTC), YYYY-MM-DD."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def episode_returns(reward: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The undiscounted sum of rewards (M,) of every episode, float64, shape (E,)."""
    return np.add.reduceat(reward.astype(np.float64), starts(length))


def statistics(returns: np.ndarray, won: np.ndarray, spec: EnvSpec) -> dict[str, Any]:
    """What the metadata says of the episodes' undiscounted returns (float64) and wins, both of shape (E,)."""
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "win_rate": float(won.mean()) if spec.has_win else None,
    }


def describe(spec: EnvSpec, length: np.ndarray, won: np.ndarray, returns: np.ndarray, **about: Any) -> Metadata:
    """The metadata of the episodes, all of shape (E,), and what else is known `about` them."""
    steps = int(length.sum(dtype=np.int64))
    found = {"episodes": len(length), "steps": steps} | statistics(returns, won, spec)
    metadata = Metadata(schema_version=SCHEMA_VERSION, env=spec, **found, **about)
    check_names("names", spec, metadata.names)
    return metadata


def contradictions(
    metadata: Metadata, returns: np.ndarray, won: np.ndarray, arrays: Mapping[str, Any]
) -> Iterator[str]:
    """What metadata says that is not so, by the episodes (see `statistics`) and the arrays as stored, in words."""
    for name, value in statistics(returns, won, metadata.env).items():
        stated = getattr(metadata, name)
        if (value is None) != (stated is None) or not np.isclose(value or 0, stated or 0, 1e-4, 1e-6):
            yield f"{name}: the metadata says {stated}, the data {value}"
    if metadata.checksum and metadata.checksum != (checksum := digest(arrays)):
        yield (
            f"checksum: the metadata says {metadata.checksum!r}, the arrays have {checksum!r}: one of them was changed "
            "since the dataset was written"
        )


def _read_only(flat: Flat) -> Flat:
    views = {field: array.view() for field, array in cast("dict[str, np.ndarray]", flat).items()}
    for view in views.values():
        view.flags.writeable = False
    return cast("Flat", views)
