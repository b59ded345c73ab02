"""`ovmse collect`."""

import tyro

from ovmse.cli.say import say_made
from ovmse.collection.settings import Collecting, Quality
from ovmse.system.progress import Terminal


def collect(
    collecting: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Collecting]], also: tuple[Quality, ...] = ()
) -> None:
    """Train a behaviour team, or take a rule in use, and record how it plays, as a dataset.

    Args:
        collecting: what to collect.
        also: further qualities, cut from the same behaviour team's run and written beside the first, to OUT-QUALITY.
    """
    from ovmse.collection.collect import collect as run  # here, since --help does without JAX
    from ovmse.training.display import Display

    console = Terminal()
    dataset = run(collecting, Display(console), also)
    say_made(console, dataset.metadata, dataset.path, collecting.out)
