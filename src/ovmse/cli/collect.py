"""`ovmse collect`."""

import tyro
from rich.console import Console

from ovmse.cli.say import say_made
from ovmse.collection.settings import Collecting


def collect(collecting: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Collecting]]) -> None:
    """Train a behaviour team and record how it plays, as a dataset."""
    from ovmse.collection.collect import collect as run  # here, since --help does without JAX
    from ovmse.training.display import Display

    console = Console()
    dataset = run(collecting, Display(console))
    say_made(console, dataset.metadata, dataset.path, collecting.out)
