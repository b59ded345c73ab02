"""JSON of other types than were written: every reader says which file and field, and none ends in a traceback."""

import copy
import dataclasses
import hashlib
import json
import random
import shutil
from functools import partial

import pytest
from markupsafe import Markup
from support.synthetic_runs import write_run

from ovmse import envs, methods
from ovmse.analysis.comparison import compare_runs
from ovmse.collection import catalogue, collect, recipes
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.settings import describe
from ovmse.data.dataset import Dataset
from ovmse.data.stream import scan_dataset
from ovmse.ope import candidates
from ovmse.ope.settings import Selecting
from ovmse.render.draw import Picture
from ovmse.report import marl_eval, page
from ovmse.runs import checkpoints
from ovmse.runs.metrics_file import load_run
from ovmse.runs.saved_config import read_config
from ovmse.system import files
from ovmse.system.clock import Clock
from ovmse.training import evaluate_run, pretrained, start
from ovmse.tuning import trials

STRANGE = [
    None, True, False, 0, -1, 7, 1.5, -1e308, 2**63, 10**30, 10**400, float("nan"), float("inf"), "", "x", "\ud800",
    [], [1], ["x"], [None], [[]], {}, {"x": 1}, {"seed": "x"}, [{}], [{"seed": 0}], {"name": {}}, [{"seed": []}], "1",
]  # fmt: skip
CONFIG = Config(env="matrix:climbing", method="ovmse", data="x", guard_margin=0.1, seeds=2)
SUMMARY = {"wall_s": 3.0, "guard": [{"seed": 0, "below": False, "change": 0.1}, {"seed": 1, "below": True}]}


def paths(value, path=()):
    """The places in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def changed(value, path, new):
    """The value with another one at a place."""
    if not path:
        return new
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


def texts(found, rng, count):
    """Damaged texts of a JSON value: other types, fields gone, fields twice, deep ones."""
    whole = json.dumps(found)
    yield "[" * 100_000 + "]" * 100_000
    yield from (f'{{"x": {"[" * deep}{"]" * deep}, {whole[1:]}' for deep in (80, 900, 3000))
    yield from (
        "",
        "\x00",
        whole[: len(whole) // 2],
        f"[{whole}]",
        '{"a": 1, "a": 2}',
        whole.replace(":", ': [], "x":', 1),
    )
    places = list(paths(found))
    for _ in range(count):
        path, new = rng.choice(places), rng.choice(STRANGE)
        damaged = changed(found, path, new)
        if path and rng.random() < 0.15:
            damaged = changed(found, path[:-1], {}) if rng.random() < 0.5 else damaged
        yield json.dumps(damaged)


def quietly(call, *args):
    """A call that may refuse what it is given, in one sentence that says where."""
    try:
        return call(*args)
    except UserError as error:
        assert str(error).strip()
    return None


def sealed(path):
    """The checksums of a checkpoint, as a stranger would write them."""
    there = sorted(file for file in path.iterdir() if file.name != checkpoints.SUMS)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in there]
    (path / checkpoints.SUMS).write_text("".join(lines))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A run's directory, with a checkpoint."""
    run, spec = tmp_path_factory.mktemp("sound") / "run", envs.make(CONFIG.env).spec
    whole = describe(CONFIG) | {"method_value": describe(methods.find("ovmse")), "env_spec": spec._asdict()}
    write_run(run, seeds=2, evaluations=4, budget=400)
    files.write_json(run / "config.json", json.loads(json.dumps(whole)))
    files.write_json(run / "summary.json", SUMMARY)
    (run / "offline.safetensors").touch()
    (run / "teams.safetensors").touch()
    clock = {"before": 3.0, "spent": {"offline": {"updates": 1, "env_steps": 2, "seconds": 3.0, "compiling": 0.5}}}
    about = {"phase": "offline", "rows_in_use": [1], "experience": [2], "clock": clock, "ran_on": {"jax": "1"}}
    about |= {"run": checkpoints.settings_of(whole)}
    checkpoints.write(run, about, files.read_json_lines(run / "metrics.jsonl"), lambda folder: None, keep=2)
    return run


def everything(run):
    """All that reads a run's directory, without playing or learning."""
    spec, method = envs.make(CONFIG.env).spec, methods.find("ovmse")
    record = quietly(load_run, run)
    if record is not None and (found := quietly(compare_runs, [record])) is not None:
        quietly(page._page, found, run)
        quietly(marl_eval.tree, found)
    quietly(read_config, run)
    quietly(evaluate_run.safe_names, run)
    quietly(evaluate_run.check_env, run, CONFIG, spec)
    quietly(pretrained.check_pretrained, Config(pretrained=run), spec, method)
    quietly(pretrained.offline_rows, run)
    quietly(candidates.candidates, Selecting(runs=(run,), data="log", checkpoints="last"), run, log_of(spec))
    quietly(trials.spent, run)
    quietly(trials.judged, run, "auc")
    summary = (run / "summary.json").rename(run / "kept.json")
    whole = describe(CONFIG) | {"method_value": describe(method), "env_spec": spec._asdict()}
    quietly(start.goes_on, json.loads(json.dumps(whole)), run, False)
    if saved := quietly(checkpoints.newest, run, lambda text: None):
        quietly(checkpoints.check_own, saved, whole)
        quietly(checkpoints.check_content, saved, 2)
        quietly(checkpoints.check_same, saved, {"jax": "2"}, False, print)
        Clock().restore(saved.about["clock"])
    summary.rename(run / "summary.json")


def log_of(spec):
    """A dataset that says it is of an environment."""
    shipped = Dataset.open("smax-3m-medium")
    return dataclasses.replace(shipped, metadata=dataclasses.replace(shipped.metadata, env=spec))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of sums of numbers near the largest
@pytest.mark.parametrize("name", ["config.json", "summary.json", "versions.json", "dataset.json", "handover.json"])
@pytest.mark.slow
def test_a_runs_json_of_other_types_is_refused_or_shown(sound, tmp_path, monkeypatch, name):
    monkeypatch.setattr(page, "picture", lambda *_: Picture(Markup(""), ()))
    monkeypatch.setattr("ovmse.stats.estimates.bootstrap_interval", lambda *_, **__: None)
    for figure in ("learning_figure", "q_value_figure", "plot_profile"):
        monkeypatch.setattr(page, figure, lambda *_: None)
    run, found, rng = tmp_path / "run", json.loads((sound / name).read_text()), random.Random(name)
    shutil.copytree(sound, run)
    for text in texts(found, rng, 15):
        (run / name).write_text(text)
        everything(run)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["metrics.jsonl", "about.json"])
@pytest.mark.slow
def test_rows_and_checkpoints_of_other_types_are_refused(sound, tmp_path, monkeypatch, name):
    monkeypatch.setattr(page, "_page", lambda *_: None)
    monkeypatch.setattr("ovmse.stats.estimates.bootstrap_interval", lambda *_, **__: None)
    run, rng = tmp_path / "run", random.Random(name)
    shutil.copytree(sound, run)
    file = run / name if name == "metrics.jsonl" else run / "checkpoints" / "000001" / name
    first, *rest = file.read_text().splitlines() if name == "metrics.jsonl" else [file.read_text()]
    for text in texts(json.loads(first), rng, 15):
        file.write_text("\n".join([text, *rest]))
        sealed(run / "checkpoints" / "000001")
        everything(run)


def test_a_datasets_metadata_of_other_types_is_refused_or_listed(tmp_path):
    data, rng = tmp_path / "data", random.Random(0)
    shutil.copytree(Dataset.open("smax-3m-medium").path, data)
    found = json.loads((data / "zarr.json").read_text())
    attributes = dict(found["attributes"])
    attributes["recipe"] = json.loads(json.dumps(collect.recipe(next(iter(recipes.named().values())))))
    for text in texts(attributes, rng, 15):
        try:
            (data / "zarr.json").write_text(json.dumps(found | {"attributes": json.loads(text)}))
        except (ValueError, RecursionError):
            (data / "zarr.json").write_text(text)
        catalogue.local(data, "x", "local")
        quietly(scan_dataset, data)
        if (metadata := quietly(catalogue.read_metadata, data)) and metadata.recipe:
            quietly(partial(recipes.collecting, out=tmp_path / "out"), metadata.recipe, "data")
