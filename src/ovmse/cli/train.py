"""`ovmse train`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import tyro

from ovmse.config import Config, PresetName
from ovmse.core.errors import UserError
from ovmse.system.progress import Terminal
from ovmse.system.ray_client import LOCAL


def train_command(default: Config) -> Callable[..., None]:
    """The command, with the defaults of a preset."""

    def train(
        config: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Config]] = default,
        preset: PresetName | None = None,
        resume: Path | None = None,
        ray: bool = False,
        allow_inexact_resume: bool = False,
        trust_code: bool = False,
    ) -> None:
        """Pre-train a team on a dataset, hand it over, fine-tune it online, and write everything down.

        Args:
            config: the run.
            preset: start from these settings; what else is given goes on top.
            resume: go on with the run in this directory, by its own settings. One that has ended goes on for longer:
                with more --online-env-steps than it had, or more --offline-updates where it has no online phase.
            ray: with --workers: have them on a Ray of this machine (ovmse[ray]), as --ray-address local says.
            allow_inexact_resume: go on also where it can't be bit for bit: on another machine, with other versions.
            trust_code: with --resume: import and run the environment or method that the directory names.
        """
        from ovmse.training.display import Display  # here, since --help does without JAX
        from ovmse.training.train import train as run

        if resume is not None and preset is not None:
            raise UserError("a run goes on by its own settings: leave --preset out.")
        config = replace(config, ray_address=LOCAL) if ray else config
        run(config, Display(Terminal()), resume is not None, allow_inexact_resume)

    return train
