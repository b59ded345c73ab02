"""`ovmse tune` on the command line."""

from collections.abc import Callable
from shlex import quote

import tyro
from rich import box
from rich.markup import escape
from rich.table import Table

from ovmse.config import Config, PresetName
from ovmse.core.errors import number_of
from ovmse.system.progress import Terminal, say
from ovmse.tuning.settings import Tuning, from_config


def tune_command(default: Config) -> Callable[..., None]:
    """The command, with the defaults of a preset."""

    def tune(
        tuning: tyro.conf.UseAppendAction[tyro.conf.OmitArgPrefixes[Tuning]] = from_config(default),  # noqa: B008
        preset: PresetName | None = None,
    ) -> None:
        """Search good settings for several methods, on an equal budget, and show what each budget is worth.

        Args:
            tuning: the search.
            preset: start from the settings of demo or paper; what else is given goes on top.
        """
        from ovmse.tuning.results import HEADER, cells, command, flags_of
        from ovmse.tuning.search import tune as run

        console = Terminal()
        found = run(tuning, console)
        table = Table(
            *HEADER[:-1], title=f"{tuning.env}: {number_of(tuning.trials, 'trial')} per method", box=box.SIMPLE
        )
        for one in found:
            table.add_row(*map(escape, cells(one)[:-1]))
        console.print(table)
        best = [(one, one.best) for one in found if one.best is not None]
        for one, trial in best:
            flags = " ".join(map(quote, flags_of(trial))) or "the defaults"
            say(console, f"Best of {one.method} (trial-{trial.number:02d}): {flags}")
        say(console, f"Written: {tuning.out}/tuning.md, tuning.json, eop.png, eop.svg")
        for one, _ in best:
            say(console, f"Next: {command(tuning, one)}")
        if not best:
            say(console, f"Next: look at why the trials failed, in {quote(str(tuning.out))}/tuning.md")

    return tune
