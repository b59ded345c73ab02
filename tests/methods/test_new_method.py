"""The page on methods of one's own: its file is written as it stands, trained with, changed, paired and tuned."""

import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import as_jax, play_plan, random_team, write_two_step
from support.places import ROOT

from ovmse import METHODS, envs
from ovmse.cli.main import main
from ovmse.core.values import taken_q_tot
from ovmse.methods import find
from ovmse.methods.method import FUNCTIONS

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "new-method.md").read_text()
BUDGET = "--hidden 8 --embedding 4 --hyper 8 --offline-updates 4 --online-env-steps 16 --evaluate-episodes 4"


@pytest.fixture
def written(tmp_path, monkeypatch):
    [text] = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    assert len(text.splitlines()) < 60
    (tmp_path / "doubted.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("doubted", None)


def test_the_method_trains_and_changes_as_the_page_says(written):
    data, out = write_two_step(written / "data"), written / "run"
    run = ["train", "--env", "matrix:two_step", "--data", data, "--method", "doubted:METHOD", *BUDGET.split()]
    assert main([*run, "--out", str(out), "--change", "memory.doubt=1"]) == 0
    found = json.loads((out / "config.json").read_text())["method_value"]["memory"]
    assert found == {"type": "Doubted", "doubt": 1, "gamma": 0.99}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["phase"] == "online" and rows[-1]["memory_active_share"] is not None
    assert main([*run, "--out", str(written / "no"), "--change", "memory.doubt=2"]) == 2
    assert not (written / "no").exists()


def test_it_pairs_and_does_what_its_formula_says(written):
    paired = find("doubted:METHOD+omiga")
    assert paired.memory == find("doubted:METHOD").memory and paired.parts == METHODS["omiga"].parts
    team = random_team(0, envs.make("matrix:two_step").spec)
    episode = as_jax(play_plan("two_step", [(0, 0), (1, 1)])[0])
    promised, brought = np.asarray(taken_q_tot(team, episode)), np.array([0.99 * 7.0, 7.0])
    found = paired.memory(team, episode)
    np.testing.assert_allclose(found, promised - 0.5 * np.maximum(0, promised - brought), rtol=1e-5)
    assert jnp.isfinite(found).all()


def test_the_page_names_every_part():
    assert not [name for name in FUNCTIONS if f"`{name}`" not in PAGE]
