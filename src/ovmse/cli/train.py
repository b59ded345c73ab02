"""`ovmse train`."""

from collections.abc import Callable
from pathlib import Path

import tyro

from ovmse.config import Config, PresetName
from ovmse.core.errors import UserError
from ovmse.system.progress import Terminal


def train_command(default: Config) -> Callable[..., None]:
    """The command, with the defaults of a preset."""

    def train(
        config: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Config]] = default,
        preset: PresetName | None = None,
        resume: Path | None = None,
        allow_inexact_resume: bool = False,
        trust_code: bool = False,
    ) -> None:
        """Pre-train a team on a dataset, hand it over, fine-tune it online, and write everything down.

        Args:
            config: the run.
            preset: start from these settings; what else is given goes on top.
            resume: go on with the unfinished run in this directory, by its own settings; so does the same command.
            allow_inexact_resume: go on also where it can't be bit for bit: on another machine, with other versions.
            trust_code: with --resume: import and run the environment or method that the directory names.
        """
        from ovmse.runs.saved_config import read_config  # here, since --help does without JAX
        from ovmse.training.display import Display
        from ovmse.training.train import train as run

        if resume is not None:
            if config != default:
                raise UserError("a run goes on with its own settings: give --resume alone.")
            config = read_config(resume, trust_code)
        run(config, Display(Terminal()), resume is not None, allow_inexact_resume)

    return train
