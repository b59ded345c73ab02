"""Opening Minari datasets: their metadata, their spaces, and files that hold what they declare; no environment is made.

Minari makes the environment that a dataset names where the dataset does not state its spaces, and that runs whatever
code the name points to. So the spaces have to be stated, and the environment's description is never looked at.
"""

import json
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.episodes import MOST_ACTIONS, check_actions
from ovmse.data.formats.pymarl.opening import check_own, check_stored, open_file
from ovmse.data.formats.reading import AGAIN, decoding, optional
from ovmse.data.formats.table.columns import natural
from ovmse.data.formats.table.files import parquet_bytes
from ovmse.system import bounds

MOST_ARRAYS = 100_000
DISCRETE_ONLY = "Only teams with a Dict of agents and Discrete actions are supported."


class AgentSpaces(NamedTuple):
    """An agent: its name, the space of what it sees, whether masks come with that, its actions and the first one."""

    name: str
    seen: Any
    masked: bool
    actions: int
    first: int

    @property
    def one_hot(self) -> bool:
        """Whether it sees one of some numbers, which becomes one-hot."""
        return hasattr(self.seen, "start")

    @property
    def width(self) -> int:
        """Features of what it sees."""
        return int(self.seen.n) if self.one_hot else int(np.prod(self.seen.shape))


class Opened(NamedTuple):
    """A dataset: its directory, Minari's reader, the agents in natural order, and the metadata."""

    path: Path
    storage: Any
    agents: tuple[AgentSpaces, ...]
    metadata: dict[str, Any]


def open_dataset(path: Path) -> Opened:
    """Open the directory of a dataset, or the `data` directory in it. Raises `UserError` where it cannot be used."""
    data = path / "data" if (path / "data" / "metadata.json").is_file() else path
    metadata = _metadata(data)
    minari = optional("minari", "Minari datasets", "minari")
    version = metadata.get("minari_version")
    if version not in minari.supported_dataset_versions:
        raise UserError(
            f"{data}: written by Minari {version}; the installed Minari {minari.__version__} reads "
            f"{', '.join(sorted(minari.supported_dataset_versions))}. Install another version of it."
        )
    for name in ("observation_space", "action_space"):
        with decoding(f"{data}: Minari cannot open it"):
            bounds.check(f"{data / 'metadata.json'}: {name}", "a box", _box_bytes(json.loads(metadata[name])))
    with decoding(f"{data}: Minari cannot open it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the spaces of others look like is not the user's concern
        storage = minari.dataset.minari_storage.MinariStorage.read(data)
        agents = _agents(data, storage.observation_space, storage.action_space)
    return Opened(data, storage, agents, metadata)


def _metadata(data: Path) -> dict[str, Any]:
    file = data / "metadata.json"
    if not file.is_file():
        raise UserError(f"{data}: not a Minari dataset: {file.name} is missing.")
    with decoding(f"{file}: expected JSON"):
        metadata = json.loads(file.read_text("utf-8"))
    if not isinstance(metadata, dict):
        raise UserError(f"{file}: expected an object, got {type(metadata).__name__}. {AGAIN}")
    needed = {"observation_space": str, "action_space": str, "data_format": str, "total_episodes": int}
    for name, kind in needed.items():
        if type(metadata.get(name)) is not kind:
            hint = " Without the spaces Minari would run the environment's code." if name.endswith("space") else ""
            raise UserError(f"{file}: {name}: expected {kind.__name__}, got {metadata.get(name)!r}.{hint} {AGAIN}")
    if metadata["total_episodes"] < 1:
        raise UserError(f"{file}: total_episodes: expected at least 1, got {metadata['total_episodes']}.")
    if metadata["data_format"] not in ("hdf5", "arrow", "parquet"):
        raise UserError(f"{file}: data_format: expected hdf5, arrow or parquet, got {metadata['data_format']!r}.")
    return metadata


def _box_bytes(described: Any) -> int:
    """The bytes of the bounds of the largest box in a space as Minari describes it, which it makes at once."""
    inner = list(
        described.values() if isinstance(described, dict) else described if isinstance(described, list) else ()
    )
    own = described.get("shape") if isinstance(described, dict) else None
    is_shape = isinstance(own, list) and all(isinstance(size, int) for size in own)
    return max([16 * math.prod(map(abs, own or ())) if is_shape else 0, *map(_box_bytes, inner)])


def _agents(data: Path, seen: Any, acting: Any) -> tuple[AgentSpaces, ...]:
    from gymnasium import spaces

    if not isinstance(seen, spaces.Dict) or not isinstance(acting, spaces.Dict):
        found = f"observations {type(seen).__name__}, actions {type(acting).__name__}"
        raise UserError(
            f"{data}: expected Dict spaces with the names of the agents for observations and actions, got {found}: "
            f"play of a single agent. {DISCRETE_ONLY}"
        )
    if set(seen.spaces) != set(acting.spaces):
        raise UserError(
            f"{data}: expected the same agents in observations and actions, got {', '.join(sorted(seen.spaces))} and "
            f"{', '.join(sorted(acting.spaces))}."
        )
    return tuple(_agent(data, name, seen[name], acting[name]) for name in sorted(acting.spaces, key=natural))


def _agent(data: Path, name: str, seen: Any, acting: Any) -> AgentSpaces:
    from gymnasium import spaces

    if not isinstance(acting, spaces.Discrete):
        raise UserError(f"{data}: agent {name} acts in {type(acting).__name__}. {DISCRETE_ONLY}")
    masked = isinstance(seen, spaces.Dict) and set(seen.spaces) == {"observation", "action_mask"}
    inner = seen["observation"] if masked else seen
    if not isinstance(inner, spaces.Box | spaces.MultiBinary | spaces.Discrete):
        raise UserError(
            f"{data}: agent {name} sees {type(inner).__name__}: expected Box, MultiBinary or Discrete, or a Dict of "
            "such an observation and an action_mask."
        )
    check_actions(f"{data}: agent {name}", int(acting.n))
    if isinstance(inner, spaces.Discrete) and int(inner.n) > MOST_ACTIONS:
        raise UserError(f"{data}: agent {name} sees one of {inner.n:,} numbers: expected up to {MOST_ACTIONS:,}.")
    return AgentSpaces(name, inner, masked, int(acting.n), int(acting.start))


def episode(opened: Opened, index: int) -> dict[str, Any]:
    """What Minari reads of an episode. Raises `UserError` where it cannot, or reads another number of steps."""
    where = f"{opened.path}: episode {index}"
    with decoding(f"{where}: cannot be read"):
        if opened.metadata["data_format"] == "hdf5":
            _check_hdf5(opened.path / "main_data.hdf5", f"episode_{index}")
        elif opened.metadata["data_format"] == "arrow":
            _check_arrow(opened.path / str(index))
        else:
            _check_parquet(opened.path / str(index))
        found = next(iter(opened.storage.get_episodes([index])))
        stated = next(iter(opened.storage.get_episode_metadata([index]))).get("total_steps")
        steps = len(found["rewards"])
    if stated is not None and stated != steps:
        raise UserError(f"{where}: expected {stated} steps, got {steps}. {AGAIN}")
    return found


def _check_hdf5(file: Path, group: str) -> None:
    """Raise `UserError` unless an episode is in this very file, as large as it says: HDF5 fills gaps with zeros."""
    import h5py

    with open_file(file) as opened:
        stack, size, count = [(group, opened)], 0, 0
        while stack:
            count += 1
            if count > MOST_ARRAYS:
                raise UserError(f"{file}: {group}: more than {MOST_ARRAYS:,} arrays, or one that holds itself. {AGAIN}")
            name, parent = stack.pop()
            where = f"{file}: {name}"
            found = check_own(where, parent, name.rpartition("/")[2])
            if isinstance(found, h5py.Group):
                stack += [(f"{name}/{inner}", found) for inner in found]
                continue
            if not isinstance(found, h5py.Dataset) or found.shape is None:
                raise UserError(f"{where}: expected an array in this file. {AGAIN}")
            size += found.dtype.itemsize * math.prod(found.shape)
            bounds.check(f"{file}: {group}", "the episode", size)
            if found.shape:
                check_stored(where, found)


def _check_parquet(folder: Path) -> None:
    """Raise `UserError` where an episode's files would unpack to too much."""
    from pyarrow import parquet

    for file in sorted(folder.rglob("*.parquet")):
        with parquet.ParquetFile(file) as opened:
            bounds.check(file, "the episode", parquet_bytes(opened)[1])


def _check_arrow(folder: Path) -> None:
    """Raise an error unless the offsets and lengths of an episode's files are sound: Minari would trust them."""
    import pyarrow as pa

    for file in sorted(folder.iterdir()):
        if file.name != "metadata.json" and not file.name.startswith(("_", ".")):
            with pa.OSFile(str(file)) as source:
                reader = pa.ipc.open_file(source)
                for i in range(reader.num_record_batches):
                    reader.get_batch(i).validate(full=True)
