"""The catalogue: what is listed, and datasets made again from their recipes, bit for bit."""

import dataclasses
import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from support.episodes import write_two_step

from ovmse import envs
from ovmse.collection import rebuild as making, recipes
from ovmse.collection.behaviour import behaviour_config
from ovmse.collection.catalogue import listing, print_listing
from ovmse.collection.collect import collect
from ovmse.collection.mix import mix
from ovmse.collection.rebuild import make
from ovmse.collection.settings import QUALITIES, Collecting
from ovmse.config import LearnerConfig
from ovmse.core.errors import UserError
from ovmse.data.dataset import Dataset
from ovmse.data.folder import root, shipped
from ovmse.data.zarr_files import read_metadata
from ovmse.system import provenance

pytestmark = pytest.mark.slow

RANDOM = Collecting(env="matrix:two_step", quality="random", episodes=30, learner=LearnerConfig(td_lambda=0.0))
MEDIUM = dataclasses.replace(RANDOM, quality="medium", behaviour_env_steps=800, evaluate_every_env_steps=400)


def message(call, *args, **kwargs):
    """What the `UserError` of a call says."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def change_metadata(path, **attributes):
    """Overwrite attributes of a dataset on disk."""
    group = json.loads((path / "zarr.json").read_text())
    group["attributes"].update(attributes)
    (path / "zarr.json").write_text(json.dumps(group))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of datasets."""
    monkeypatch.setenv("OVMSE_DATASETS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A medium dataset with its recipe."""
    return collect(dataclasses.replace(MEDIUM, out=tmp_path_factory.mktemp("made") / "medium"))


@pytest.fixture(scope="module")
def random_play(tmp_path_factory):
    return collect(dataclasses.replace(RANDOM, out=tmp_path_factory.mktemp("made") / "random"))


# --- the list


def test_everything_is_listed(folder, collected):
    shutil.copytree(collected.path, folder / "mine")
    (folder / "notes").mkdir()  # no dataset
    (folder / ".mine.1234.partial" / "obs").mkdir(parents=True)  # what a killed writer leaves
    entries = listing()
    assert [(e.name, e.kind) for e in entries[: len(shipped()) + 1]] == [
        *((name, "shipped") for name in shipped()),
        (str(folder / "mine"), "local"),
    ]
    mine = entries[len(shipped())]
    assert (mine.env, mine.quality, mine.episodes, mine.made) == ("matrix:two_step", "medium", 30, "collected")
    assert mine.bytes == sum(f.stat().st_size for f in collected.path.rglob("*") if f.is_file())
    assert mine.checksum == collected.metadata.checksum and not mine.damage
    kinds = {e.name: e.kind for e in entries}
    assert kinds["smax-6h_vs_8z-medium-replay"] == "recipe" and kinds["og-marl-smac-3m"] == "download"
    assert len(kinds) == len(entries)  # a name is listed once: what is shipped is not also a recipe


def test_a_recipe_that_was_made_here_is_not_listed_again(folder, collected):
    assert "smax-2s3z-medium" in [e.name for e in listing() if e.kind == "recipe"]
    shutil.copytree(collected.path, folder / "smax-2s3z-medium")
    assert "smax-2s3z-medium" not in [e.name for e in listing() if e.kind == "recipe"]


def test_further_places(folder, tmp_path, collected):
    local = [e.path for e in listing(more=[collected.path]) if e.kind == "local"]
    assert local == [str(collected.path)]
    assert local == [e.path for e in listing(more=[collected.path.parent, collected.path]) if e.kind == "local"]
    assert "no such directory" in message(listing, more=[tmp_path / "nowhere"])


def no_metadata(path):
    (path / "zarr.json").unlink()


def no_json(path):
    (path / "zarr.json").write_text("{")


def no_chunk(path):
    (path / "reward" / "c.0").unlink()


def no_array(path):
    shutil.rmtree(path / "obs")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_metadata, "zarr.json is missing"),
        (no_json, "cannot read it"),
        (no_chunk, "reward: 1 of 1 chunks are missing"),
        (no_array, "obs: missing or damaged"),
        (lambda path: change_metadata(path, episodes="many"), "episodes: expected int, got 'many'"),
    ],
)
def test_a_damaged_dataset_is_listed_with_the_reason(folder, collected, damage, says):
    shutil.copytree(collected.path, folder / "broken")
    shutil.copytree(collected.path, folder / "sound")
    damage(folder / "broken")
    broken, sound = (e for e in listing() if e.kind == "local")
    assert says in broken.damage and str(folder / "broken") in broken.damage and not sound.damage
    assert "".join(broken.damage.split()) in "".join(shown(listing()).split())  # lines break anywhere in a path


def test_damaged_values_are_found_by_a_thorough_look(folder, collected):
    shutil.copytree(collected.path, folder / "flipped")
    chunk = folder / "flipped" / "obs" / "c.0.0.0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    assert [bool(e.damage) for thorough in (False, True) for e in listing(thorough=thorough) if e.kind == "local"] == [
        False,
        True,
    ]


def shown(entries, width=100):
    console = Console(file=StringIO(), width=width)
    print_listing(entries, console)
    return console.file.getvalue()


def test_the_table_fits_100_columns_and_cuts_nothing(monkeypatch, tmp_path, collected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OVMSE_DATASETS", raising=False)
    shutil.copytree(collected.path, tmp_path / "datasets" / "smax-3s5z_vs_3s6z-medium-replay")
    entries = listing()
    text = shown(entries)
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    for name in ("datasets/smax-3s5z_vs_3s6z-medium-replay", "smax-10m_vs_11m-QUALITY", "cfcql-smac-6h_vs_8z"):
        assert name in text
    assert collected.metadata.checksum.removeprefix("sha256:")[:8] in text
    assert all(quality in text for quality in QUALITIES)
    narrow = shown(entries, width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    header = next(line for line in narrow.splitlines() if "checksum" in line)
    assert "env" in header and "quality" in header  # no column gives way altogether
    again = json.loads(json.dumps([dataclasses.asdict(entry) for entry in entries]))
    assert [e["name"] for e in again] == [e.name for e in entries]


def test_without_the_variable_the_folder_is_here(monkeypatch, tmp_path):
    monkeypatch.delenv("OVMSE_DATASETS", raising=False)
    assert root() == Path("datasets")
    monkeypatch.setenv("OVMSE_DATASETS", str(tmp_path))
    assert root() == tmp_path


# --- recipes


def test_the_named_recipes():
    table = recipes.named()
    assert len(table) == 35 and all(name.endswith(f"-{it.quality}") for name, it in table.items())
    assert table["smax-3m-medium"] == Collecting(env="smax:3m", quality="medium", episodes=2000, seed=0)
    assert table["smax-5m_vs_6m-expert"].episodes == 5000
    known = envs.names()
    for name, it in table.items():
        assert it.env in known and name.startswith(it.env.replace(":", "-"))
        assert it.behaviour_env_steps % it.evaluate_every_env_steps == 0
        config = behaviour_config(it)  # settings that a run takes
        if it.quality == "medium-replay":
            assert config.replay_env_steps >= it.behaviour_env_steps


def test_a_recipe_survives_its_record(collected):
    recorded = json.loads(json.dumps(read_metadata(collected.path).recipe))
    assert recorded["made_by"] == "collect"
    assert not {"out", "behaviour"} & recorded.keys()
    assert recipes.collecting(recorded, "here", Path("x")) == dataclasses.replace(MEDIUM, out=Path("x"))
    del recorded["replay_env_steps"]  # as an older version would have written it
    assert recipes.collecting(recorded, "here", Path("x")) == dataclasses.replace(MEDIUM, out=Path("x"))


def test_recipes_that_cannot_be_followed(collected):
    recorded = collected.metadata.recipe
    says = message(recipes.collecting, {**recorded, "wings": 2}, "here", Path("x"))
    assert says.startswith("here: ") and "wings" in says and provenance.dataset_versions()["ovmse"] in says
    assert "can't be read" in message(recipes.collecting, {**recorded, "learner": {"wings": 2}}, "here", Path("x"))
    assert "must lie between 0 and 1" in message(recipes.collecting, {**recorded, "epsilon": 2.0}, "here", Path("x"))


def test_versions_are_recorded(collected):
    found = collected.metadata.recipe["versions"]
    assert found == provenance.dataset_versions()
    assert all(found[name] for name in ("ovmse", "jax", "jaxmarl", "numpy", "python", "cpu", "cores"))
    assert provenance.differing_versions(found, found) == ()
    changed = {**found, "jax": "0.1"}
    del changed["numpy"]
    assert provenance.differing_versions(changed, found) == (
        f"jax: 0.1, now {found['jax']}",
        f"numpy: not recorded, now {found['numpy']}",
    )


# --- made again


def test_making_again_agrees_bit_for_bit(folder, collected):
    made = make(str(collected.path))
    assert made.same is True and made.before == collected.path
    assert made.dataset.path == (folder / "medium-again").resolve()
    assert made.dataset.metadata.checksum == collected.metadata.checksum

    def lasting(dataset):
        recipe = dataset.metadata.recipe
        versions = {name: found for name, found in recipe["versions"].items() if name != "git_revision"}
        return recipe | {"versions": versions}  # the repository may be worked on while this runs

    assert lasting(made.dataset) == lasting(collected)
    assert f"The same as {collected.path}, bit for bit." in str(made)


def test_what_differs_is_told(folder, random_play):
    shutil.copytree(random_play.path, folder / "old")
    old = {**random_play.metadata.recipe, "seed": 1}
    old["versions"] = {**old["versions"], "jax": "0.0.1"}
    change_metadata(folder / "old", recipe=old)
    made = make(folder / "old")
    assert made.same is False
    assert made.differences == (f"jax: 0.0.1, now {random_play.metadata.recipe['versions']['jax']}",)
    assert "NOT the same" in str(made) and "jax: 0.0.1" in str(made)


def test_a_name_is_made_in_the_folder_and_compared_with_what_is_shipped(folder, random_play, monkeypatch):
    monkeypatch.setattr(recipes, "named", lambda: {"toy-random": RANDOM})
    made = make("toy-random")
    assert made.dataset.path == (folder / "toy-random").resolve() and made.same is None and made.before is None
    assert made.dataset.metadata.checksum == random_play.metadata.checksum
    monkeypatch.setattr(making, "shipped", lambda: ("toy-random",))
    monkeypatch.setattr(making, "find", lambda name: random_play.path)
    assert make("toy-random", folder / "second").same is True
    assert "output directory in use" in message(make, "toy-random")
    assert "did you mean 'toy-random'" in message(make, "toy-randon").lower()


def test_a_dataset_without_a_checksum_or_a_recipe(folder, random_play):
    shutil.copytree(random_play.path, folder / "old")
    change_metadata(folder / "old", checksum="")
    assert make(folder / "old").same is None
    write_two_step(folder / "logs")
    assert "no recipe is recorded" in message(make, folder / "logs")
    change_metadata(folder / "logs", recipe={"made_by": "magic"})
    assert "made by collect or mix, got 'magic'" in message(make, folder / "logs")
    change_metadata(folder / "logs", recipe={"made_by": "mix", "parts": 3})
    assert "can't be read" in message(make, folder / "logs")
    assert not (folder / "logs-again").exists()


def test_a_mix_is_made_again_from_parts_that_were_moved(folder, tmp_path, random_play, collected):
    first, second = (shutil.copytree(play.path, tmp_path / play.path.name) for play in (random_play, collected))
    mixed = mix([f"{first}:0.25", f"{second}:0.75"], tmp_path / "mix" / "both", return_range=(-5.0, 8.0), seed=4)
    first.rename(folder / "another-name")
    says = message(make, mixed.path)
    assert "not in" in says and "medium (sha256:" in says and "random" not in says
    second.rename(folder / "medium")
    made = make(mixed.path)
    assert made.same is True
    old, new = mixed.metadata.recipe, made.dataset.metadata.recipe
    assert [part.pop("name") for part in old["parts"]] == ["random", "medium"]
    assert [part.pop("name") for part in new["parts"]] == ["another-name", "medium"]
    assert old == new
    assert next(e.made for e in listing(more=[mixed.path]) if e.path == str(mixed.path)) == "mixed of random, medium"


def test_medium_replay_needs_the_whole_replay():
    says = message(dataclasses.replace, MEDIUM, quality="medium-replay", replay_env_steps=799)
    assert "at least --behaviour-env-steps, 800; got 799" in says
    assert "replay-env-steps must be greater than 0" in message(dataclasses.replace, MEDIUM, replay_env_steps=0)
    assert behaviour_config(dataclasses.replace(MEDIUM, replay_env_steps=100)).replay_env_steps == 100
    assert behaviour_config(MEDIUM).replay_env_steps == 1600


def test_collecting_writes_what_it_says(collected):
    assert Dataset.open(collected.path).metadata == collected.metadata
    assert collected.metadata.episodes == 30 and collected.metadata.quality == "medium"


def test_a_name_is_found_in_the_folder_of_datasets(monkeypatch, tmp_path):
    write_two_step(tmp_path / "plans")
    monkeypatch.setenv("OVMSE_DATASETS", str(tmp_path))
    assert Dataset.open("plans").path == tmp_path / "plans"
    with pytest.raises(UserError, match="no such dataset|unknown dataset"):
        Dataset.open("plan")
