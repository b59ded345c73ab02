"""`ovmse export`."""

import shlex
from pathlib import Path

from ovmse.cli.options import Run
from ovmse.core.errors import number_of
from ovmse.core.literals import TeamChoice
from ovmse.system.progress import Terminal, say


def export(
    run: Run,
    to: Path,
    seed: int | None = None,
    teams: TeamChoice = "deployed",
    onnx: bool = False,
    steps: int = 10_000,
    trust_code: bool = False,
) -> None:
    """Write a run's team as a directory that acts by NumPy alone, with a check against JAX (docs/deploy.md).

    Args:
        run: the run's directory.
        to: the directory to write.
        seed: which of the run's seeds; by default its first.
        teams: the team to deploy: at the run's end, or of a batch round the one that it accepted or kept; the last one
            in any case; as it left the offline phase; or the offline one where the guard found the last one below it
            (docs/guard.md).
        onnx: write an ONNX model of one step, too; needs ovmse[onnx].
        steps: environment steps to record for the check, at least.
        trust_code: import and run the environment or method of somebody's own that the run names.
    """
    from ovmse.training.display import Display  # here, since --help does without JAX
    from ovmse.training.export_run import export_run

    console = Terminal()
    done = export_run(
        run, to, Display(console), seed=seed, teams=teams, onnx=onnx, steps=steps, trust_code=trust_code
    )  # fmt: skip
    made = done.contract.came_from
    size = sum(file.stat().st_size for file in to.iterdir()) / 1e6
    team = f"seed {made['seed']}, the {made['team']} team"
    say(console, f"{run}: {team}, with {number_of(done.steps, 'step')} of {done.source} to check it by, {size:.1f} MB")
    say(console, f"Written: {to}\nNext: python {shlex.quote(str(to / 'check.py'))}")
