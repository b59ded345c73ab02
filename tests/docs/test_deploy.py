"""What docs/deploy.md shows runs as it stands, in order, in one folder, on a run with random networks."""

import re
import shlex
import sys

import numpy as np
import pytest
from support.episodes import random_episode, write_dataset
from support.places import ROOT
from support.policies import write_run

from ovmse.cli.main import main
from ovmse.config import LearnerConfig
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset

TEXT = (ROOT / "docs" / "deploy.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M)
CORRIDOR = EnvSpec("corridor:Corridor", "1.0", {}, 2, 4, 3, 6, episode_limit=20, has_win=True)


@pytest.mark.slow
def test_the_page_on_deploying_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    rng = np.random.default_rng(0)
    write_dataset(tmp_path / "robots", CORRIDOR, [random_episode(rng, 20, CORRIDOR) for _ in range(3)])
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "robots", "ovmse", CORRIDOR, learner=LearnerConfig(), data="robots")
    scope = {}
    for language, text in SNIPPETS:
        if language == "python":
            exec(compile(text, "deploy.md", "exec"), scope)
        elif language == "sh":
            assert main(shlex.split(text)[1:]) == 0, text
    for name in ("policy", "explore"):
        sys.modules.pop(name, None)
    found = Dataset.open("field")
    assert len(found.length) == 20 and found.obs.shape[1:] == (2, 3)


def test_the_page_says_how_long_the_code_is():
    [told] = re.findall(r"NumPy alone, (\d+) lines", TEXT)
    lines = (ROOT / "src" / "ovmse" / "policy" / "act.py").read_text().splitlines()
    assert int(told) == len(lines) < 150


@pytest.mark.parametrize("text", [text for language, text in SNIPPETS if language == "text" and "import" in text])
def test_what_is_shown_of_other_libraries_is_python(text):
    compile(text, "deploy.md", "exec")
