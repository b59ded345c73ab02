"""`ovmse collect`."""

from dataclasses import replace

import tyro

from ovmse.cli.say import say_made
from ovmse.collection.settings import Collecting, Quality
from ovmse.system.progress import Terminal
from ovmse.system.ray_client import LOCAL


def collect(
    collecting: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Collecting]],
    also: tuple[Quality, ...] = (),
    ray: bool = False,
) -> None:
    """Train a behaviour team, or take a rule in use, and record how it plays, as a dataset.

    Args:
        collecting: what to collect.
        also: further qualities, cut from the same behaviour team's run and written beside the first, to OUT-QUALITY.
        ray: with --workers: have them on a Ray of this machine (ovmse[ray]), as --ray-address local says.
    """
    from ovmse.collection.collect import collect as run  # here, since --help does without JAX
    from ovmse.training.display import Display

    console = Terminal()
    collecting = replace(collecting, ray_address=LOCAL) if ray else collecting
    dataset = run(collecting, Display(console), also)
    say_made(console, dataset.metadata, dataset.path, collecting.out)
