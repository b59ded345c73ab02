"""`ovmse inspect`."""

from pathlib import Path

from ovmse.cli.options import Data
from ovmse.core.errors import UserError
from ovmse.system.progress import Terminal


def inspect(
    data: Data,
    out: Path | None = None,
    figure: Path | None = None,
    seed: int = 0,
    clone: bool = True,
) -> None:
    """Check every step of a dataset, show what is in it, and say what to expect of it.

    Exit code 2 where the dataset cannot be used.

    Args:
        data: the dataset's directory, or the name of one that comes with the package.
        out: the folder to write the page and the numbers into; by default NAME-inspect in this directory.
        figure: write the figure of the profile here, too (.png, .svg or .pdf).
        seed: seed of the sample and of the fit to the behaviour.
        clone: fit a small network to the behaviour, to see how random it is (seconds).
    """
    from ovmse.inspection.inspect import inspect as run  # here, since --help does without what draws

    report = run(data, out, Terminal(), figure, seed, clone)
    if not report.usable:
        raise UserError(f"{data} cannot be used as it is; what to do stands above and in {report.written[0]}.")
