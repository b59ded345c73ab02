"""Options that may be given several times, wherever they stand among the words."""

import pytest

from ovmse.cli.main import main
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
