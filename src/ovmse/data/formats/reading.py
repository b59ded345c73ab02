"""What the readers and writers of other formats share: where a field lies, how files are found, opened and refused."""

import contextlib
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.formats.episodes import check_actions
from ovmse.data.formats.table.columns import natural

FACT_BYTES = 4096
FACTS = 64
AGAIN = "Fetch or write it again."
DISCRETE_ONLY = "Only discrete actions are supported."
KIND_WORDS = {"iu": "whole numbers", "fiub": "numbers", "biuf": "bool, or 0 and 1"}
"""The kinds of a dtype, in words."""


class Layout(NamedTuple):
    """The array that holds a field: its name, its axes, the kinds of its dtype, and the dtype on export."""

    name: str
    axes: tuple[str, ...]
    kinds: str
    dtype: str
    required: bool = False

    @property
    def expected(self) -> str:
        """The axes, as errors name them."""
        return f"expected axes ({', '.join(self.axes)})"


def optional(library: str, what: str, extra: str) -> Any:
    """An optional library, or a `UserError` that says how to install it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UserError(f"{what} need {library}: pip install 'ovmse[{extra}]'") from error


@contextlib.contextmanager
def decoding(what: str) -> Iterator[None]:
    """Whatever a decoder raises on damaged files becomes a `UserError` that begins with `what`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on bytes that are not theirs
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{what}: {why}. {AGAIN}") from error


def files(path: Path, *suffixes: str, hidden: tuple[str, ...] = (".",)) -> list[Path]:
    """The path itself, or the files in the directory that end in one of `suffixes`, in natural order.

    hidden: what the names of files begin with that are left out.
    """
    if not path.is_dir():
        return [path]
    named = [file for file in path.iterdir() if file.name.lower().endswith(suffixes) and not file.is_dir()]
    found = [file for file in named if not file.name.startswith(hidden)]
    if not found:
        raise UserError(f"{path}: expected files of a log, there is no {' or '.join(suffixes)} file in this directory.")
    return sorted(found, key=lambda file: natural(file.name))


def settled_actions(
    path: Path, masks: int | None, name: str, stated: int | None, largest: Callable[[], int] | None = None
) -> int:
    """A: that of the masks (which `name` holds), else as stated, else one more than the largest action of the log.

    Raises `UserError` where masks and statement disagree, or no masks of that size would fit in memory.
    """
    check_actions(str(path), stated)
    if masks is not None and stated not in (None, masks):
        raise UserError(f"{path}: {name} is for {masks} actions, n_actions says {stated}.")
    actions = masks or stated or (largest() + 1 if largest else 0)
    check_actions(str(path), actions)
    return actions


def axis_sizes(path: Path, arrays: Iterable[tuple[Layout, tuple[int, ...]]]) -> dict[str, int]:
    """The size of every axis by the shapes of the arrays. Raises `UserError` where two disagree."""
    sizes: dict[str, int] = {}
    told: dict[str, str] = {}
    for layout, shape in arrays:
        for axis, size in zip(layout.axes, shape, strict=False):
            if sizes.setdefault(axis, size) != size:
                agreed = f"with {axis} = {sizes[axis]} as in {told[axis]}"
                raise UserError(f"{path}: {layout.name}: {layout.expected} {agreed}, got shape {shape}.")
            told.setdefault(axis, layout.name)
    return sizes


def export_sizes(dataset: Dataset, **others: int) -> dict[str, int]:
    """The size of every axis of the arrays that a dataset is exported as."""
    spec = dataset.spec
    return {"N": spec.n_agents, "O": spec.obs_size, "S": spec.state_size, "A": spec.n_actions, **others}


def spans(total: int, size: int) -> Iterator[tuple[int, int]]:
    """The first entry and the one after the last of consecutive parts of `size` entries, at least one."""
    size = max(1, size)
    return ((first, min(first + size, total)) for first in range(0, total, size))


def bounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a log says of itself: the statements that are JSON values of moderate size; the rest is left out."""
    kept: dict[str, Any] = {}
    for name, value in facts.items():
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            if len(kept) < FACTS and len(name) <= 256 and len(json.dumps(value, allow_nan=False)) <= FACT_BYTES:
                kept[name] = value
    return kept


def origin(dataset: Dataset) -> dict[str, Any]:
    """What an exported file says of where the play comes from."""
    told = dataset.metadata
    return {"env": told.env.described(), "behaviour": told.behaviour, "quality": told.quality, "created": told.created}
