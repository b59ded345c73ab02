"""Options that may be given several times, wherever they stand among the words."""

from dataclasses import replace

import pytest

from ovmse.cli.main import defaults, main
from ovmse.config import Config
from ovmse.core.settings import describe
from ovmse.system.files import write_json
from ovmse.tuning import search


@pytest.mark.parametrize("last", [False, True])
def test_a_search_takes_every_change_and_every_method(last, monkeypatch):
    seen = []
    monkeypatch.setattr(search, "tune", lambda tuning, console: seen.append(tuning) or [])
    methods = ["ovmse", "finetune"]
    options = ["--change", "offline_loss.alpha=2", "--change", "explore.epsilon=linear(0.3,0.05)", "--space", "a=b"]
    options += ["--env-settings", "max_steps=60", "--env-settings", "reward_scale=1"]
    assert main(["tune", *(options + methods if last else methods + options)]) == 0
    assert seen[0].methods == ("ovmse", "finetune")
    assert seen[0].change == ("offline_loss.alpha=2", "explore.epsilon=linear(0.3,0.05)")
    assert seen[0].env_settings == ("max_steps=60", "reward_scale=1") and seen[0].space == ("a=b",)


def test_a_run_that_goes_on_has_its_own_settings_for_defaults(tmp_path):
    config = Config(env="matrix:climbing", method="bc", seeds=3, offline_updates=7, change=("offline_loss.alpha=1",))
    write_json(tmp_path / "config.json", describe(config))
    for words in (["--resume", str(tmp_path)], [f"--resume={tmp_path}", "--online-env-steps", "9"]):
        assert defaults(words) == replace(config, out=tmp_path)
