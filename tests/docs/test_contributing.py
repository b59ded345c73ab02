"""What CONTRIBUTING promises: a method, an environment, a file format are one file each, named on the command line."""

import json
import textwrap

import pytest

from ovmse import envs
from ovmse.cli.main import main
from ovmse.data.dataset import Dataset

pytestmark = pytest.mark.slow
FEW = ["--hidden", "8", "--offline-updates", "4", "--online-env-steps", "40", "--evaluate-episodes", "8"]
METHOD = '''
from dataclasses import dataclass, replace

from ovmse import METHODS


@dataclass(frozen=True)
class Halved:
    """Regress onto half of the TD target."""

    def __call__(self, td_target, offline_value, progress):
        return 0.5 * td_target


MINE = replace(METHODS["ovmse"], online_target=Halved())
'''
ENVIRONMENT = '''
import numpy as np

from ovmse.core.types import EnvSpec, Observation, StepResult


class Corridor:
    """Two agents walk to the end of a corridor of four places."""

    def __init__(self):
        self.spec = EnvSpec("my_env:Corridor", "1", {}, 2, 2, 1, 1, episode_limit=6, has_win=True)

    def reset_host(self, seed):
        self.place, self.t = np.random.default_rng(seed).integers(0, 3, 2), 0
        return self.observation()

    def step_host(self, action):
        self.place, self.t = np.minimum(3, self.place + np.asarray(action)), self.t + 1
        met = np.bool_((self.place == 3).all())
        cut = np.bool_(not met and self.t == self.spec.episode_limit)
        return self.observation(), StepResult(np.float32(20 * met), met, cut, met)

    def observation(self):
        seen = (self.place / 3).astype(np.float32)
        return Observation(seen[:, None], seen.mean(keepdims=True), np.ones((2, 2), bool))
'''
FORMAT = '''
import json

import numpy as np

from ovmse.data.raw_episode import RawEpisode, Source


def read(path, *, n_actions=None):
    """Episodes of the log: a line of JSON each."""

    def episodes():
        for number, line in enumerate(path.read_text().splitlines()):
            one = json.loads(line)
            obs, action, reward = np.array(one["seen"], float), np.array(one["did"]), np.array(one["paid"], float)
            terminal = np.arange(len(reward)) == len(reward) - 1
            yield RawEpisode(obs, action, reward, terminal, where=f"{path}: episode {number}")

    return Source(str(path), "lines of JSON", episodes(), n_actions or 2)
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {"my_method": METHOD, "my_env": ENVIRONMENT, "my_format": FORMAT}.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    return tmp_path


def test_a_file_format_is_one_file(here):
    one = {"seen": [[[0.0], [1.0]], [[1.0], [2.0]]], "did": [[0, 1], [1, 0]], "paid": [0.5, 2.0]}
    (here / "play.log").write_text(json.dumps(one) + "\n" + json.dumps(one) + "\n")
    assert main(["import", "play.log", "--format", "my_format:read", "--out", "play"]) == 0
    dataset = Dataset.open(here / "play")
    assert dataset.length.tolist() == [2, 2] and dataset.returns().tolist() == [2.5, 2.5]
    assert (
        dataset.metadata.source and main(["import", "play.log", "--format", "my_format:write", "--out", "again"]) == 2
    )


def test_an_environment_is_one_file(here):
    envs.check(envs.make("my_env:Corridor"))
    assert main(["train", "--env", "my_env:Corridor", "--method", "scratch", "--out", "run", *FEW]) == 0
    assert json.loads((here / "run" / "summary.json").read_text())["state_sha256"]


def test_a_method_is_one_file(here):
    words = ["train", "--data", "smax-3m-medium", "--method", "my_method:MINE", "--out", "run", *FEW]
    assert main(words) == 0
    assert json.loads((here / "run" / "config.json").read_text())["method_value"]["online_target"] == {"type": "Halved"}
