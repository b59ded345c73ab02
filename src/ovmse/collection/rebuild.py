"""Make a dataset from its recipe, and say whether one that was made before is the same bit for bit."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from ovmse.collection import recipes
from ovmse.collection.catalogue import datasets_in
from ovmse.collection.collect import collect
from ovmse.collection.mix import mix, parse_range
from ovmse.core.errors import UserError, number_of, unknown
from ovmse.data.dataset import Dataset
from ovmse.data.folder import find, root, shipped
from ovmse.data.schema import Metadata
from ovmse.data.zarr_files import read_metadata
from ovmse.system.files import as_type, check_free
from ovmse.system.provenance import differing_versions
from ovmse.training.display import Display


class Made(NamedTuple):
    """A dataset that was made, and how it compares with the one made before, if there is one.

    same: whether all arrays agree bit for bit; None where nothing could be compared.
    differences: the settings and versions that differ.
    """

    dataset: Dataset
    before: Path | None = None
    same: bool | None = None
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        found = self.dataset.metadata
        size = f"{number_of(found.episodes, 'episode')}, {number_of(found.steps, 'step')}"
        lines = [f"{size}, {found.checksum}: {self.dataset.path}"]
        if self.same:
            lines.append(f"The same as {self.before}, bit for bit.")
        elif self.same is not None:
            lines.append(f"NOT the same as {self.before}, which has another checksum.")
            lines += [f"  {difference}" for difference in self.differences] or [
                "  The recipe and all recorded versions agree: something else in the machine differs."
            ]
        elif self.before is not None:
            lines.append(f"{self.before} has no checksum to compare with: it is older than checksums are.")
        return "\n".join(lines)


def make(
    name_or_path: str | os.PathLike[str],
    out: Path | None = None,
    display: Display | None = None,
    trust_code: bool = False,
) -> Made:
    """Make a dataset: one of the named recipes, or an existing dataset (a directory) again, by its own recipe.

    out: the directory to write; by default NAME, or NAME-again for one that exists, in the folder of datasets (see
    `ovmse.data.folder.root`). What exists already, there or shipped with the package, is compared with.
    trust_code: import and run the environment of somebody's own that an existing dataset's recipe names.
    Raises `UserError` for names that are unknown, recipes that are missing or can't be followed, and where `out` is
    in use.
    """
    name, table = str(name_or_path), recipes.named()
    is_path = Path(name).is_dir()
    if not is_path and name in table:
        before = find(name) if name in shipped() or (root() / name).is_dir() else None  # not the one made below
        dataset = collect(replace(table[name], out=out or root() / name), display)
    elif is_path or name in shipped():
        before = find(name)
        dataset = again(before, out or root() / f"{before.resolve().name}-again", display, trust_code)
    else:
        raise unknown("dataset to make", name, [*table, *shipped()], "Or give the path of an existing one.")
    if before is None or not (old := read_metadata(before)).checksum:
        return Made(dataset, before)
    same = old.checksum == dataset.metadata.checksum
    return Made(dataset, before, same, () if same else differences(old, dataset.metadata))


def again(before: Path, out: Path, display: Display | None = None, trust_code: bool = False) -> Dataset:
    """Make an existing dataset again, into `out`."""
    check_free(out.resolve())
    recipe = read_metadata(before).recipe
    if recipe is None:
        raise UserError(f"{before}: no recipe is recorded in it, so that it can't be made again.")
    match recipe.get("made_by"):
        case "collect":
            return collect(recipes.collecting(recipe, str(before), out, trust_code), display)
        case "mix":
            return mix_again(recipe, before, out)
        case other:
            raise UserError(f"{before}: expected a recipe made by collect or mix, got {other!r}.")


class MixedPart(TypedDict):
    """A part as the recipe of a mixed dataset records it."""

    name: str
    checksum: str
    share: str


class Mixed(TypedDict):
    """The settings in the recipe of a mixed dataset."""

    parts: list[MixedPart]
    episodes: int | None
    return_range: str | None
    seed: int
    allow_version_mismatch: bool


def mix_again(recipe: dict[str, Any], before: Path, out: Path) -> Dataset:
    """Mix once more what a recipe tells; the parts are found by their checksums."""
    settings = as_type(recipe, Mixed, f"{before}: its recipe can't be read")
    parts, text = settings.pop("parts"), settings.pop("return_range")
    known = by_checksum([*datasets_in(before.resolve().parent), *datasets_in(root()), *map(find, shipped())])
    missing = [f"{one['name']} ({one['checksum'] or 'no checksum'})" for one in parts if one["checksum"] not in known]
    if missing:
        raise UserError(
            f"{before}: it was mixed of datasets that are not in {root()}, nor beside it, nor shipped: "
            f"{', '.join(missing)}. Put them there, under any name, or set OVMSE_DATASETS to their folder."
        )
    shares = [f"{known[one['checksum']]}:{one['share']}" for one in parts]
    return mix(shares, out, return_range=None if text is None else parse_range(text), **settings)


def by_checksum(paths: Iterable[Path]) -> dict[str, Path]:
    """The datasets by their checksum; those that can't be read or have none are left out."""
    found = {}
    for path in paths:
        try:
            found[read_metadata(path).checksum] = path
        except UserError:
            continue
    found.pop("", None)
    return found


def differences(old: Metadata, new: Metadata) -> tuple[str, ...]:
    """Settings and versions of two recipes that differ, each in words."""
    before, now = old.recipe or {}, new.recipe or {}
    settings = tuple(
        f"{name}: {before.get(name)!r}, now {now.get(name)!r}"
        for name in dict.fromkeys([*before, *now])
        if name != "versions" and before.get(name) != now.get(name)
    )
    env = (f"{old.env.name}: {old.env.version}, now {new.env.version}",) if old.env.version != new.env.version else ()
    return settings + env + differing_versions(recipes.recipe_versions(before), recipes.recipe_versions(now))
