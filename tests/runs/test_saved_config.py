"""The configurations of runs that older revisions made are read."""

from pathlib import Path

from ovmse.config import Config
from ovmse.runs.saved_config import read_config


def test_a_run_made_before_later_settings_has_their_defaults():
    config = read_config(Path(__file__).parent / "older")  # as revision a7ab154 wrote it
    assert config.method == "ovmse" and config.online_env_steps == 50_000 and config.seeds == 1
    assert config.pretrained_seed is Config().pretrained_seed
