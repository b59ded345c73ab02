"""Who is told of every row of metrics once it is written: `on_row`, and the trackers (`--log`)."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ovmse.core.errors import UserError, typed_command
from ovmse.learning.parallel import SeedBatches
from ovmse.system import files
from ovmse.training.resume import save
from ovmse.training.run import Run
from ovmse.training.tracking import Tracker

OnRow = Callable[[dict[str, Any]], object]


class RowCallback:
    """Calls a function of the user's with each row that is new, which is a copy."""

    def __init__(self, on_row: OnRow, told: int):
        self.on_row, self.told = on_row, told

    def tell(self, rows: Sequence[dict[str, Any]]) -> None:
        """New rows were written. rows: all of the run so far."""
        new, self.told = rows[self.told :], len(rows)
        for row in new:
            self.on_row(dict(row))

    def close(self, ended: bool) -> None:
        """Nothing is held."""


@contextlib.contextmanager
def listening(run: Run, on_row: OnRow | None) -> Iterator[None]:
    """While entered, the run's trackers and `on_row` are listeners of the run."""
    described = files.read_json(run.out / "config.json")
    for name in dict.fromkeys(run.task.config.log):
        run.listeners.append(Tracker(name, run.out, described, run.display.say))
    if on_row is not None:
        run.listeners.append(RowCallback(on_row, len(run.rows)))
    try:
        yield
    except KeyboardInterrupt:  # a second Ctrl-C: nothing is waited for
        raise
    except BaseException:
        close(run, ended=False)
        raise
    close(run, ended=True)


def close(run: Run, ended: bool) -> None:
    """Nothing more is told. ended: the run did not stop or fail."""
    for listener in run.listeners:
        listener.close(ended)


def tell(run: Run, states: SeedBatches) -> None:
    """Tell all listeners of what was written. Raises `UserError`, with the run saved, where `on_row` raises."""
    try:
        for listener in run.listeners:
            listener.tell(run.rows)
    except Exception as error:
        save(run, states)
        raise UserError(
            f"on_row raised {type(error).__name__}: {error}. It is saved in {run.out}: mend on_row, then go on with "
            f"resume=True, or without it: {typed_command('train', '--resume', run.out)}"
        ) from error
