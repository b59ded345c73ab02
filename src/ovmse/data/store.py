"""Datasets on disk: a directory in the Zarr v3 format, steps stored flat, read whole and checked whole.

Axes: E episodes, M steps of all episodes, R = M + E rows (every episode keeps the row after its last step),
N agents, A actions, O observation features, S state features. `docs/datasets.md` describes the files.
"""

import dataclasses
import datetime
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ovmse.data.doctor import KIND_NAMES, KINDS, Flat, conform, shapes, starts
from ovmse.errors import UserError, unknown
from ovmse.types import EnvSpec, Episode

SCHEMA_VERSION = 1
CHUNK_BYTES = 2**20
FLOAT_DTYPES = ("float32", "float16")
SIZES = ("n_agents", "n_actions", "obs_size", "state_size", "episode_limit", "episodes", "steps")
DIMENSIONS = {
    "obs": ("row", "agent", "feature"),
    "state": ("row", "feature"),
    "avail": ("row", "agent", "action"),
    "action": ("step", "agent"),
    "reward": ("step",),
    "terminal": ("step",),
    "length": ("episode",),
    "won": ("episode",),
}

# No shuffle: observations repeat whole floats (positions that all agents see, one-hot types), which a shuffle
# tears apart. Logs of SMAX 3m shrink 13-fold with plain zstd, 8-fold with a byte shuffle, 4-fold with bits.
COMPRESSION_LEVEL = 12


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Where a dataset comes from and what is in it. Returns are undiscounted sums of an episode's rewards."""

    schema_version: int
    """Version of the format; this library reads version 1."""
    env: EnvSpec
    """The environment that the play was collected in."""
    behaviour: str
    """Who played, in words."""
    quality: str
    """The name of the level of play, such as ``medium``."""
    seed: int | None
    """The seed the play was collected with; null where there was none."""
    git_revision: str
    """The revision of the code that collected the play."""
    command: str
    """The command that wrote the dataset."""
    created: str
    """The date of writing, YYYY-MM-DD."""
    episodes: int
    steps: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    win_rate: float | None
    """Share of episodes won, in [0, 1]."""


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

    @property
    def row_start(self) -> np.ndarray:
        """The first row of every episode, shape (E,)."""
        return starts(self.length + 1)

    @property
    def step_start(self) -> np.ndarray:
        """The first step of every episode, shape (E,)."""
        return starts(self.length)

    @property
    def flat(self) -> Flat:
        """The arrays alone."""
        return cast("Flat", {field: getattr(self, field) for field in KINDS})

    def returns(self) -> np.ndarray:
        """The undiscounted sum of rewards of every episode, float64, shape (E,)."""
        return np.add.reduceat(self.reward.astype(np.float64), self.step_start)

    def episode(self, index: int) -> Episode:
        """Episode `index` (0 to E - 1), not padded: T is its length. Action is int32."""
        if not 0 <= index < len(self.length):
            raise UserError(f"{self.path}: no episode {index}; expected 0 to {len(self.length) - 1}.")
        steps = int(self.length[index])
        row, step = int(self.row_start[index]), int(self.step_start[index])
        rows, acts = slice(row, row + steps + 1), slice(step, step + steps)
        arrays: Any = (self.obs[rows], self.state[rows], self.avail[rows], self.action[acts].astype(np.int32))
        ends: Any = (self.reward[acts], self.terminal[acts], np.ones(steps, bool))
        return Episode(*arrays, *ends)

    def check_env(self, spec: EnvSpec, allow_version_mismatch: bool = False) -> None:
        """Raise `UserError` unless the environment is the one the play was collected in.

        Sizes and then the name must agree; `allow_version_mismatch` accepts another version and settings.
        """
        own = self.spec
        sizes = ("n_agents", "n_actions", "obs_size", "state_size", "episode_limit")
        wrong = [
            f"{size}: expected {getattr(own, size)}, got {getattr(spec, size)}"
            for size in sizes
            if getattr(own, size) != getattr(spec, size)
        ]
        if wrong:
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
        and where values cannot be used (see `ovmse.data.doctor`).
        """
        path = find(path_or_name)
        metadata = _read_metadata(path)
        expected = shapes(metadata.env, metadata.episodes, metadata.steps)
        stored = {field: _read_array(path, field, expected[field]) for field in KINDS}
        flat = conform(str(path), metadata.env, cast("Flat", stored))
        del stored
        for name, value in _statistics(flat, metadata.env).items():
            stated = getattr(metadata, name)
            if (value is None) != (stated is None) or not np.isclose(value or 0, stated or 0, 1e-4, 1e-6):
                raise UserError(
                    f"{path}: {name}: the metadata says {stated}, the data {value}. Write the dataset again."
                )
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
    ) -> "Dataset":
        """Write a dataset to a directory that does not exist or is empty, and return it.

        The arrays have the axes of `Flat` (`pack` makes them from padded episodes). `float_dtype`, float32 or
        float16, is for obs and state on disk. `created` is a date, today (UTC) if not given. The directory
        appears only when it is whole. Raises `UserError` where it is in use, or the arrays disagree with
        `spec`, with each other, or hold values that cannot be used.
        """
        path = Path(path).resolve()
        check_free(path)
        if float_dtype not in FLOAT_DTYPES:
            raise unknown("float_dtype", float_dtype, FLOAT_DTYPES)
        spec = spec._replace(settings=plain_settings(spec.settings))
        flat = conform(str(path), spec, Flat(obs=obs, state=state, avail=avail, action=action, reward=reward,
                                             terminal=terminal, length=length, won=won))  # fmt: skip
        if float_dtype == "float16":
            flat["obs"] = _halved(path, "obs", flat["obs"])
            flat["state"] = _halved(path, "state", flat["state"])
        metadata = Metadata(
            schema_version=SCHEMA_VERSION,
            env=spec,
            behaviour=behaviour,
            quality=quality,
            seed=None if seed is None else int(seed),
            git_revision=git_revision,
            command=command,
            created=created or datetime.datetime.now(datetime.UTC).date().isoformat(),
            episodes=len(flat["length"]),
            steps=len(flat["reward"]),
            **_statistics(flat, spec),
        )
        _write_whole(path, metadata, flat)
        flat["obs"] = flat["obs"].astype(np.float32, copy=False)
        flat["state"] = flat["state"].astype(np.float32, copy=False)
        return cls(path, metadata, **_read_only(flat))


def pack(episodes: Episode, won: np.ndarray) -> Flat:
    """The flat arrays of padded episodes: every field has a leading axis E, `won` is (E,) bool.

    Padding (where `valid` is false) is left out. Raises `UserError` where valid steps have a gap.
    """
    valid = np.asarray(episodes.valid, bool)
    length = valid.sum(axis=1)
    gap = (valid != (np.arange(valid.shape[1]) < length[:, None])).any(axis=1)
    if gap.any():
        raise UserError(f"episode {int(gap.argmax())}: expected its valid steps first and padding after, got a gap.")
    rows = np.arange(valid.shape[1] + 1) <= length[:, None]
    return Flat(
        obs=np.asarray(episodes.obs)[rows],
        state=np.asarray(episodes.state)[rows],
        avail=np.asarray(episodes.avail)[rows],
        action=np.asarray(episodes.action)[valid],
        reward=np.asarray(episodes.reward)[valid],
        terminal=np.asarray(episodes.terminal)[valid],
        length=length.astype(np.int32),
        won=np.asarray(won, bool),
    )


def shipped() -> tuple[str, ...]:
    """The names of the datasets that come with the package."""
    return tuple(sorted(p.name for p in _shipped_root().glob("*") if p.is_dir() and not p.name.startswith(".")))


def _shipped_root() -> Path:
    return Path(str(resources.files("ovmse.data"))) / "shipped"


def find(path_or_name: str | os.PathLike[str]) -> Path:
    """The directory of a dataset: a path that exists, or else the name of a shipped one."""
    path = Path(path_or_name)
    if path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{path}: expected a dataset's directory, got a file.")
    if (names := shipped()) and (name := str(path_or_name)) in names:
        return _shipped_root() / name
    hint = "Or give the path of a dataset's directory; `ovmse collect` writes one."
    if not names:
        raise UserError(f"{path}: no such dataset. {hint}")
    raise unknown("dataset", str(path_or_name), names, hint)


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as JSON gives them back (tuples become lists), so that both compare equal."""
    try:
        return json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(f"settings: expected JSON values only, got {settings!r} ({error}).") from error


def _halved(path: Path, field: str, values: np.ndarray) -> np.ndarray:
    """The values as float16, none of them out of its range."""
    limit = float(np.finfo(np.float16).max)
    largest = float(max(values.max(), -values.min()))
    if largest > limit:
        raise UserError(
            f"{path}: {field} reaches {largest:g}, float16 holds up to {limit:g}. Use float_dtype='float32'."
        )
    return values.astype(np.float16)


def _statistics(flat: Flat, spec: EnvSpec) -> dict[str, Any]:
    """What the metadata says of the data: returns and the win rate."""
    returns = np.add.reduceat(flat["reward"].astype(np.float64), starts(flat["length"]))
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "win_rate": float(flat["won"].mean()) if spec.has_win else None,
    }


def _read_only(flat: Flat) -> Flat:
    """Views of the arrays that cannot be written to."""
    views = {field: array.view() for field, array in cast("dict[str, np.ndarray]", flat).items()}
    for view in views.values():
        view.flags.writeable = False
    return cast("Flat", views)


def check_free(path: Path) -> None:
    """Raise `UserError` unless `path` does not exist or is an empty directory."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path}: output directory in use. Choose another, or remove it first.")


def _write_whole(path: Path, metadata: Metadata, flat: Flat) -> None:
    """Write into a hidden sibling directory, flush it to disk, and only then give it its name."""
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        partial.mkdir(parents=True)
        _write_files(partial, metadata, flat)
        for entry in (*partial.rglob("*"), partial):
            _sync(entry)
        check_free(path)
        partial.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_files(path: Path, metadata: Metadata, flat: Flat) -> None:
    """Write the arrays, then the metadata, whose `complete` says that everything before it is there."""
    root = zarr.create_group(path, zarr_format=3)
    for field, array in cast("dict[str, np.ndarray]", flat).items():
        row_bytes = max(1, array[0].nbytes)
        stored = root.create_array(
            field,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(min(len(array), max(1, CHUNK_BYTES // row_bytes)), *array.shape[1:]),
            filters=None,
            compressors=[ZstdCodec(level=COMPRESSION_LEVEL), Crc32cCodec()],
            chunk_key_encoding={"name": "default", "separator": "."},  # one directory per array
            dimension_names=DIMENSIONS[field],
            config={"write_empty_chunks": True},  # so that a missing chunk is always a loss
        )
        stored[...] = array
    root.attrs.update({**dataclasses.asdict(metadata), "env": metadata.env._asdict(), "complete": True})


def _read_metadata(path: Path) -> Metadata:
    """The metadata of a complete dataset. Raises `UserError` naming the file and the attribute at fault."""
    file = path / "zarr.json"
    if not file.is_file():
        raise UserError(f"{path}: not a dataset: {file.name} is missing.")
    try:
        attributes = dict(zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False).attrs)
    except Exception as error:
        raise UserError(f"{file}: expected the metadata of a Zarr v3 group, cannot read it: {error!r}") from error
    if attributes.get("complete") is not True:
        raise UserError(f"{file}: not a complete dataset: no attribute complete = true. Write it again.")
    if attributes.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{file}: expected schema_version {SCHEMA_VERSION}, got {attributes.get('schema_version')!r}. "
            "Use the version of ovmse that wrote it, or write it again."
        )
    env = EnvSpec(**_typed(f"{file}: env", get_type_hints(EnvSpec), attributes.get("env")))
    values = _typed(f"{file}", {k: v for k, v in get_type_hints(Metadata).items() if k != "env"}, attributes)
    sizes = {k: v for k, v in {**env._asdict(), **values}.items() if k in SIZES}
    if wrong := [f"{name}: expected at least 1, got {value}" for name, value in sizes.items() if value < 1]:
        raise UserError(f"{file}: {'; '.join(wrong)}.")
    return Metadata(env=env, **values)


def _typed(where: str, types: dict[str, Any], values: Any) -> dict[str, Any]:
    """The values of the named types, out of a JSON object that may hold more."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a JSON object, got {values!r}.")
    found = {}
    for name, kind in types.items():
        kinds = {get_origin(k) or k for k in (get_args(kind) if isinstance(kind, UnionType) else (kind,))}
        value = values.get(name, "nothing")
        if float in kinds and type(value) is int:
            value = float(value)  # JSON need not tell 5 from 5.0
        if name not in values or type(value) not in kinds:
            names = " or ".join(sorted(k.__name__ for k in kinds)).replace("NoneType", "null")
            raise UserError(f"{where}: {name}: expected {names}, got {value!r}.")
        found[name] = value
    return found


def _read_array(path: Path, field: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of the dataset, every chunk of it present and its checksum right, else `UserError`."""
    directory = path / field
    again = "Fetch or write the dataset again."
    try:
        array = zarr.open_array(directory, mode="r", zarr_format=3)
        metadata: Any = array.metadata.to_dict()
        codecs = [codec["name"] for codec in metadata["codecs"]]
    except Exception as error:
        raise UserError(f"{directory / 'zarr.json'}: missing or damaged: {error!r}. {again}") from error
    if array.shape != shape or array.dtype.kind not in KINDS[field]:
        raise UserError(
            f"{directory}: the metadata of the dataset asks for {KIND_NAMES[KINDS[field]]} of shape {shape}, "
            f"got {array.dtype} of shape {array.shape}. {again}"
        )
    if codecs[-1] != "crc32c":
        raise UserError(f"{directory}: expected crc32c as the last codec, got {codecs}. Write it with checksums.")
    for coordinates, file in _chunks(directory, array):
        if not file.is_file():  # Zarr would take the fill value for it
            raise UserError(f"{file}: chunk {coordinates} of {field} is missing. {again}")
    try:
        return np.asarray(array[...])
    except Exception as error:
        file, why = next(_broken(directory, array), (directory, error))
        raise UserError(f"{file}: {field} is damaged: {why!r}. {again}") from error


def _chunks(directory: Path, array: Any) -> Iterator[tuple[tuple[int, ...], Path]]:
    """The place and the file of every chunk."""
    for coordinates in itertools.product(*map(range, array.cdata_shape)):
        yield coordinates, directory / array.metadata.encode_chunk_key(coordinates)


def _broken(directory: Path, array: Any) -> Iterator[tuple[Path, Exception]]:
    """The files of the chunks that cannot be decoded, and why."""
    for coordinates, file in _chunks(directory, array):
        try:
            array.blocks[coordinates]
        except Exception as error:
            yield file, error
