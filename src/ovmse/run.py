"""A run's directory in Python: its metrics as a table, its figure, its page, its team."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ovmse.core.errors import UserError, check_known
from ovmse.core.literals import TeamChoice
from ovmse.runs.saved_config import need_runs, read_config

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ovmse.policy.values import ActingTeam
    from ovmse.runs.metrics_file import RunRecord

# Imports stand inside the methods for the wait that they save: pandas and matplotlib take a second, JAX more.


class Run:
    """A run's directory, finished or under way; every method reads the files as they are at that moment."""

    def __init__(self, path: str | Path):
        """The run in a directory that `ovmse train` or `ovmse.train` wrote.

        Args:
            path: the directory.

        Raises:
            UserError: where it is not there.
        """
        self.path = Path(path)
        need_runs((self.path,))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: method, environment, how far it is, and its result in a paragraph."""
        from ovmse.report.summary import summary_html

        return summary_html(self.path)

    def _read(self) -> "RunRecord":
        from ovmse.runs.metrics_file import load_run

        return load_run(self.path)

    def frame(self) -> "pd.DataFrame":
        """The metrics as a table of pandas, one row per evaluation and seed.

        Returns:
            ``phase``, ``step`` and ``seed``, then the fields of docs/metrics.md under their names. ``step`` is the same
            for all seeds at one evaluation, where ``env_steps`` differ a little: how far the slowest was, in gradient
            updates, or environment steps (online). NaN where nothing was measured.

        Raises:
            UserError: where there is no evaluation yet, or a file is damaged.
        """
        from ovmse.analysis.frame import metrics_frame

        return metrics_frame(self._read())

    def plot(
        self,
        field: str | None = None,
        ax: "Axes | None" = None,
        phase: Literal["offline", "online", "round"] | None = None,
        **style: Any,
    ) -> "Figure | Axes":
        """Draw the run: the interquartile mean over its seeds, with a 95 % interval.

        Args:
            field: what to draw, a field of docs/metrics.md; by default win rate and return, or on given axes the win
                rate, or the return where the environment can't be won.
            ax: the axes to draw into; without it a new figure of both phases, with the single seeds as thin lines.
            phase: on given axes, which phase to draw; by default the last that the field was measured in.
            style: on given axes, of the line, such as color or label; by default the next colour, and the directory's
                name.

        Returns:
            The figure, or the axes that were given.

        Raises:
            UserError: for an unknown field, or one that was not measured; as `frame`.
        """
        from ovmse.report.plots import draw_field, learning_figure
        from ovmse.runs.metrics_file import COLUMNS, PROGRESS, score_name, series

        run = self._read()
        if field is not None:
            check_known("field", field, COLUMNS)
        name = field or score_name(run)
        there = [one for one in PROGRESS if series(run.traces(one), name) and phase in (None, one)]
        if not there:
            raise UserError(f"{self.path}: nothing to draw: {name!r} was not measured{phase and f' {phase}' or ''}.")
        if ax is not None:
            draw_field(ax, run, there[-1], name, **{"label": self.path.name, **style})
            return ax
        if phase or style:
            raise UserError("phase and the line's style need axes to draw into: plot(..., ax=ax).")
        figure = learning_figure(run, None if field is None else (field,))
        figure.set_facecolor("white")  # in a dark notebook, too
        return figure

    def report(self, out: str | Path | None = None, reference: float | None = None) -> Path:
        """Write the page of the run, as `ovmse report` does, and return its path.

        Args:
            out: an ``.html`` file or a folder; by default ``report.html`` in the run's directory.
            reference: the score that regret is measured against; by default a win rate of 1, or the best return seen.

        Raises:
            UserError: as `frame`.
        """
        from ovmse.report.page import write_report

        return write_report([self.path], None if out is None else Path(out), reference)

    def team(self, seed: int | None = None, teams: TeamChoice = "deployed") -> "ActingTeam":
        """The team of one seed, ready to act in NumPy alone: `ovmse.load` of this run, which tells the arguments."""
        from ovmse.policy.load import load

        return load(self.path, seed, teams)

    def evaluate(
        self,
        episodes: int = 512,
        seed: int = 1_000_000,
        teams: TeamChoice = "deployed",
        trust_code: bool = False,
        workers: int | None = None,
        ray_address: str | None = None,
    ) -> "pd.DataFrame":
        """Play greedily with the run's teams, on fresh episodes, as `ovmse evaluate` does.

        Args:
            episodes: greedy episodes per team.
            seed: seed of these episodes.
            teams: the teams to deploy: at the run's end, or of a batch round the one that it accepted or kept; the last
                ones all the same, or as they left the offline phase; or of each seed the offline one where the guard
                found the last one below it (docs/guard.md).
            trust_code: import and run the environment or method of somebody's own that the directory names.
            workers: processes that play side by side in a host environment; None: as many as the run had.
            ray_address: with workers: have them on this Ray: auto, HOST:PORT, or local for one of this machine alone.

        Returns:
            One row per seed: its team, and ``win_rate``, ``return`` and ``episode_length``. They are in the run's
            ``evaluation.json``, too.

        Raises:
            UserError: where there are no such teams, or they can't be played.
        """
        import pandas as pd

        from ovmse.training.display import default_display
        from ovmse.training.evaluate_run import evaluate_run

        config, display = read_config(self.path, trust_code), default_display()
        rows = evaluate_run(config, self.path, episodes, seed, teams, display, workers=workers, ray_address=ray_address)
        return pd.DataFrame(rows)
