"""Make a dataset from its recipe, and say whether one that was made before is the same bit for bit."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.collection import recipes
from ovmse.collection.catalogue import datasets_in
from ovmse.collection.collect import collect
from ovmse.collection.mix import mix, parse_range
from ovmse.core.errors import UserError, unknown
from ovmse.data.dataset import Dataset, find, root, shipped
from ovmse.data.schema import Metadata
from ovmse.data.zarr_files import read_metadata
from ovmse.system.files import check_free
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
        lines = [f"{found.episodes} episodes, {found.steps} steps, {found.checksum}: {self.dataset.path}"]
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


def make(name_or_path: str | os.PathLike[str], out: Path | None = None, display: Display | None = None) -> Made:
    """Make a dataset: one of the named recipes, or an existing dataset (a directory) again, by its own recipe.

    out: the directory to write; by default NAME, or NAME-again for one that exists, in the folder of datasets (see
    `ovmse.collection.catalogue.root`). What exists already, there or shipped with the package, is compared with.
    Raises `UserError` for names that are unknown, recipes that are missing or can't be followed, and where `out` is
    in use.
    """
    name, table = str(name_or_path), recipes.named()
    is_path = Path(name).is_dir()
    if not is_path and name in table:
        before = find(name) if name in shipped() or (root() / name).is_dir() else None  # not the one made below
        dataset = collect(replace(table[name], out=out or root() / name), display)
        return compared(dataset, before)
    if not is_path and name not in shipped():
        raise unknown("dataset to make", name, [*table, *shipped()], "Or give the path of an existing one.")
    before = find(name)
    return compared(again(before, out or root() / f"{before.resolve().name}-again", display), before)


def again(before: Path, out: Path, display: Display | None = None) -> Dataset:
    """Make an existing dataset again, into `out`."""
    check_free(out.resolve())
    recipe = read_metadata(before).recipe
    if recipe is None:
        raise UserError(f"{before}: no recipe is recorded in it, so that it can't be made again.")
    match recipe.get("made_by"):
        case "collect":
            return collect(recipes.collecting(recipe, str(before), out), display)
        case "mix":
            return mix_again(recipe, before, out)
        case other:
            raise UserError(f"{before}: expected a recipe made by collect or mix, got {other!r}.")


def mix_again(recipe: dict[str, Any], before: Path, out: Path) -> Dataset:
    """Mix once more what a recipe tells; the parts are found by their checksums."""
    try:
        parts = [(part["name"], part["checksum"], part["share"]) for part in recipe["parts"]]
        settings = {name: recipe[name] for name in ("episodes", "seed", "allow_version_mismatch")}
        ends = None if recipe["return_range"] is None else parse_range(recipe["return_range"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{before}: its recipe can't be read: {error!r}.") from error
    known = by_checksum([*datasets_in(before.resolve().parent), *datasets_in(root()), *map(find, shipped())])
    if missing := [f"{name} ({checksum or 'no checksum'})" for name, checksum, _ in parts if checksum not in known]:
        raise UserError(
            f"{before}: it was mixed of datasets that are not in {root()}, nor beside it, nor shipped: "
            f"{', '.join(missing)}. Put them there, under any name, or set OVMSE_DATASETS to their folder."
        )
    return mix([f"{known[checksum]}:{share}" for _, checksum, share in parts], out, return_range=ends, **settings)


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


def compared(dataset: Dataset, before: Path | None) -> Made:
    """The dataset beside the one that was made before."""
    if before is None:
        return Made(dataset)
    old = read_metadata(before)
    if not old.checksum:
        return Made(dataset, before)
    same = old.checksum == dataset.metadata.checksum
    return Made(dataset, before, same, () if same else differences(old, dataset.metadata))


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
