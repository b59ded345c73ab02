"""What several commands say at their end."""

from pathlib import Path

from rich.console import Console

from ovmse.core.errors import number_of, typed_command
from ovmse.data.schema import Metadata
from ovmse.system.progress import say


def say_made(console: Console, found: Metadata, path: Path, out: Path) -> None:
    """What a new dataset holds, and what to do next."""
    won = "" if found.win_rate is None else f", win rate {100 * found.win_rate:.1f} %"
    size = f"{number_of(found.episodes, 'episode')}, {number_of(found.steps, 'step')}"
    say(console, f"{size}, return {found.return_mean:.2f}{won}: {path}")
    say(console, f"Next: {typed_command('inspect', out)}")
