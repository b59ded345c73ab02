"""No command follows a name of code that stands in a stranger's dataset or run: that takes `--trust-code`."""

import contextlib
import json
import sys

import numpy as np
import pytest
from support.episodes import write_two_step
from support.synthetic_runs import write_run

from ovmse.cli.datasets import DATASETS
from ovmse.cli.main import COMMANDS, main
from ovmse.config import Config, LearnerConfig
from ovmse.core.settings import describe
from ovmse.methods import METHODS
from ovmse.system import pytree_files

pytestmark = pytest.mark.slow

CANARY = """from pathlib import Path
Path(__file__).with_name("it-ran").touch()
class Env:
    def __init__(self, **settings): raise RuntimeError("made")
METHOD = parallel_env = read = Env
"""
SMALL = ["--hidden", "8", "--embedding", "4", "--hyper", "8", "--batch-episodes", "4"]
WALK = {
    "collect": ["--behaviour", "{run}", "--env", "matrix:two_step", "--episodes", "2", "--out", "{new}"],
    "import": ["{data}", "--out", "{new}"],
    "inspect": ["{data}", "--out", "{new}", "--no-clone"],
    "train": ["--data", "{data}", "--pretrained", "{run}", "--out", "{run}", *SMALL],
    "train resume": ["--resume", "{run}"],
    "tune": ["finetune", "--data", "{data}", "--out", "{run}", *SMALL],
    "sweep": ["{folder}/grid.toml", "--out", "{new}"],
    "improve": ["{run}", "--data", "{data}", "--out", "{new}", "--updates", "2"],
    "trial": ["{run}", "--data", "{data}"],
    "evaluate": ["{run}"],
    "export": ["{run}", "--to", "{new}"],
    "report": ["{run}"],
    "compare": ["{run}", "{other}"],
    "select": ["{run}", "{other}", "--data", "{data}", "--out", "{new}"],
    "datasets list": ["--folder", "{folder}", "--thorough"],
    "datasets make": ["{data}", "--out", "{new}"],
    "datasets get": ["{data}"],
    "datasets mix": ["{data}", "{data}", "--out", "{new}"],
    "datasets export": ["{data}", "--out", "{new}.h5"],
}
"""Words for each command that could follow a name."""
NAMES = {
    "an environment": {"env": "canary:Env"},
    "a PettingZoo module": {"env": "pettingzoo:canary"},
    "a method": {"method": "canary:METHOD"},
    "one of a pair": {"method": "jsrl+canary:METHOD"},
    "both": {"env": "canary:Env", "method": "jsrl+canary:METHOD"},
}
FOLLOW = ("train resume", "sweep", "evaluate", "select", "datasets make")
"""The commands that follow such names with `--trust-code`."""


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """A folder with a dataset and two runs, and the module that they name, which would leave `it-ran`."""
    (tmp_path / "canary.py").write_text(CANARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("canary", None)


def make(folder, **names):
    env = names.get("env", "matrix:two_step")
    data = folder / "data"
    write_two_step(data)
    group = json.loads((data / "zarr.json").read_text())
    recipe = {"made_by": "collect", "env": env, "env_settings": [], "quality": "random", "episodes": 2}
    group["attributes"] |= {"recipe": recipe, "source": env, "behaviour": names.get("method", env)}
    group["attributes"]["env"]["name"] = env
    (data / "zarr.json").write_text(json.dumps(group))
    spec = group["attributes"]["env"]
    config = Config(**{"method": "finetune", **names}, learner=LearnerConfig(hidden=8, embedding=4, hyper=8))
    settings = {"env": env, "method": config.method, "data": str(data)}
    (folder / "grid.toml").write_text("[settings]\n" + "".join(f"{k} = {v!r}\n" for k, v in settings.items()))
    for name in ("run", "other"):
        run = write_run(folder / name, seeds=1)
        (run / "summary.json").unlink(missing_ok=True)
        described = describe(config) | {"method_value": describe(METHODS["finetune"]), "env_spec": spec}
        (run / "config.json").write_text(json.dumps(described))
        pytree_files.save(run / "offline.safetensors", {"x": np.zeros(1)})
        pytree_files.save(run / "teams.safetensors", {"x": np.zeros(1)})


def words(folder, command):
    places = {name: folder / name for name in ("run", "other", "data", "new")} | {"folder": folder}
    return [word.format(**places) for word in [*command.removesuffix(" resume").split(), *WALK[command]]]


def test_the_walk_goes_over_every_command():
    assert {name.split()[0] for name in WALK} == set(COMMANDS)
    assert {name.split()[1] for name in WALK if name.startswith("datasets")} == set(DATASETS)


@pytest.mark.parametrize(
    ("command", "named"), [(command, named) for command in WALK for named in (NAMES if command in FOLLOW else ["both"])]
)
def test_nothing_that_a_stranger_names_is_imported(command, named, strangers, capsys):
    make(strangers, **NAMES[named])
    main(words(strangers, command))
    assert "canary" not in sys.modules and not (strangers / "it-ran").exists()
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("command", FOLLOW)
def test_it_takes_a_word_to_follow_such_a_name(command, strangers, capsys):
    make(strangers, env="canary:Env")
    assert main(words(strangers, command)) == 2
    assert "canary:Env" in (said := capsys.readouterr().err) and "--trust-code" in said
    assert not (strangers / "it-ran").exists()
    with contextlib.suppress(RuntimeError):
        main([*words(strangers, command), "--trust-code"])
    if command != "select":  # which makes no environment
        assert (strangers / "it-ran").exists()
