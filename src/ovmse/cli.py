"""The command line: one function per command."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovmse import data_commands, trust
from ovmse.config import PRESETS, Config
from ovmse.display import Display
from ovmse.errors import UserError, unknown
from ovmse.interrupt import Interrupted
from ovmse.learner import LearnerConfig
from ovmse.selection.command import select
from ovmse.tuning.command import tune_command

DESCRIPTION = "Train a team from logged play, hand it over, improve it online, and see what it forgot."


def train(
    config: tyro.conf.OmitArgPrefixes[Config],
    preset: Literal["demo", "paper"] | None = None,
    resume: Path | None = None,
    allow_inexact_resume: bool = False,
    trust_code: bool = False,
) -> None:
    """Pre-train a team on a dataset, hand it over, fine-tune it online, and write everything down.

    Args:
        config: the run.
        preset: start from these settings; what else is given goes on top.
        resume: go on with the unfinished run in this directory; all other settings are the run's own. The same command
            again, with its --out, does so, too.
        allow_inexact_resume: go on also where the run can't go on bit for bit: on another machine, with other versions.
        trust_code: with --resume: import and run the environment or method that the directory names.
    """
    from ovmse.train import train as run

    if resume is not None:
        config = read_config(resume, trust_code)
    run(config, Display(Console()), resume is not None, allow_inexact_resume)


def evaluate(
    run: tyro.conf.Positional[Path],
    episodes: int = 512,
    seed: int = 1_000_000,
    teams: Literal["last", "offline", "safe"] = "last",
    trust_code: bool = False,
) -> None:
    """Play greedily with a run's teams, on episodes that training never evaluated on.

    Args:
        run: the run's directory.
        episodes: greedy episodes per team.
        seed: seed of these episodes.
        teams: the teams at the run's end, or as they left the offline phase; or of each seed the offline one where the
            guard found the last one below it (docs/guard.md).
        trust_code: import and run the environment or method of somebody's own that the directory names.
    """
    from ovmse.judge import judge_run

    console = Console()
    rows = judge_run(read_config(run, trust_code), run, episodes, seed, teams, Display(console))
    table = Table("seed", "team", "win rate", "return", "length", title=f"{run}: {episodes} greedy episodes per team")
    for row in rows:
        won = "–" if row["win_rate"] is None else f"{100 * row['win_rate']:.1f} %"
        table.add_row(str(row["seed"]), row["team"], won, f"{row['return']:.2f}", f"{row['episode_length']:.1f}")
    console.print(table)
    console.print(f"Written: {run / 'evaluation.json'}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Next: ovmse report {run}", highlight=False, markup=False, soft_wrap=True)


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None, reference: float | None = None
) -> None:
    """Write one page on one or several runs; it opens without a network.

    Args:
        runs: the runs' directories.
        out: where to write the page; by default report.html in the run's directory.
        reference: the score that regret is measured against; by default a win rate of 1, or the best return seen.
    """
    from ovmse.report import write_report

    need_runs(runs)
    page = write_report(list(runs), out, reference)
    Console().print(f"Written: {page}\nNext: open it in a browser", highlight=False, markup=False, soft_wrap=True)


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None, reference: float | None = None
) -> None:
    """Put several runs, of one environment or of several, in one table and two figures.

    Args:
        runs: the runs' directories, two or more.
        out: the directory to write into; by default comparison/ beside the first run.
        reference: the score that regret is measured against; by default a win rate of 1, or the best return seen.
    """
    from ovmse.report import compare as run

    need_runs(runs)
    console = Console()
    where = run(list(runs), out, console, reference)
    console.print(
        f"Written: {where}\nNext: ovmse report {' '.join(map(str, runs))}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def datasets() -> None:
    """List datasets; make, get, mix and export them (see `ovmse datasets --help`)."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "collect": data_commands.collect,
    "import": data_commands.import_log,
    "datasets": datasets,
    "inspect": data_commands.inspect,
    "train": train,
    "tune": tune_command(Config()),
    "evaluate": evaluate,
    "report": report,
    "compare": compare,
    "select": select,
}


def need_runs(runs: tuple[Path, ...]) -> None:
    """Raise `UserError` unless there is a run and each is a directory."""
    if not runs:
        raise UserError("name at least one run's directory, such as runs/smax-3m-ovmse.")
    for run in runs:
        if not run.is_dir():
            raise UserError(f"{run} is not there; a run's directory is what `ovmse train` writes.")


def read_config(run: Path, trusted: bool = False) -> Config:
    """The configuration that a run was started with.

    Raises `UserError` if there is none, or if it names code of somebody's own and is not `trusted`.
    """
    from ovmse.rundir import read_json

    need_runs((run,))
    found = read_json(run / "config.json")
    if not isinstance(found, dict):
        raise UserError(f"{run / 'config.json'} is missing: {run} is not a run's directory.")
    try:
        config = rebuild(found, run)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run / 'config.json'} is damaged: {error!r}.") from error
    trust.check(run, config, trusted)
    return config


NEWER = (
    "keep_experience", "guard_margin", "guard_patience", "loss_limit", "checkpoint_minutes", "checkpoints_kept",
    "env_seconds", "env_restarts",
)  # fmt: skip
"""Settings that the `config.json` of an older run lacks."""


def rebuild(found: dict[str, Any], run: Path) -> Config:
    """A configuration from its JSON."""
    values: dict[str, Any] = {}
    for name, field in Config.__dataclass_fields__.items():
        if name in NEWER and name not in found:
            continue  # an older run
        value = found[name]
        values[name] = tuple(value) if isinstance(value, list) else value
        check_kind(name, values[name], field.default)
    values["learner"] = LearnerConfig(**{k: v for k, v in found["learner"].items() if k != "type"})
    values["pretrained"] = Path(found["pretrained"]) if found["pretrained"] else None
    return Config(**{**values, "out": run})


def check_kind(name: str, value: Any, default: Any) -> None:
    """Raise `TypeError` where a setting in a file is not of the kind that its default is."""
    kinds: dict[type, tuple[type, ...]] = {
        bool: (bool,),
        int: (int,),
        float: (int, float),
        str: (str,),
        tuple: (tuple,),
    }
    wanted = kinds.get(type(default), (object,)) if default is not None else (str, int, float, type(None))
    odd = isinstance(value, bool) and type(default) is not bool
    strange = isinstance(value, tuple) and not all(isinstance(x, str) for x in value)
    if not isinstance(value, wanted) or (odd and wanted != (object,)) or strange:
        raise TypeError(f"{name} is {value!r:.60}")


def with_preset(arguments: list[str]) -> Config:
    """The defaults of `train`: those of the preset that is asked for."""
    name = None
    for i, word in enumerate(arguments):
        if word == "--preset" and i + 1 < len(arguments):
            name = arguments[i + 1]
        elif word.startswith("--preset="):
            name = word.partition("=")[2]
    if name is None:
        return Config()
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return replace(Config(), **PRESETS[name])


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns 0, 2 on bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    arguments = sys.argv[1:] if arguments is None else arguments
    errors = Console(stderr=True)
    try:
        if arguments[:1] == ["datasets"]:
            data_commands.datasets(arguments[1:])
            return 0
        commands = dict(COMMANDS)
        default = with_preset(arguments)

        def train_from_preset(
            config: tyro.conf.OmitArgPrefixes[Config] = default,
            preset: Literal["demo", "paper"] | None = None,
            resume: Path | None = None,
            allow_inexact_resume: bool = False,
            trust_code: bool = False,
        ) -> None:
            if resume is not None and config != default:
                raise UserError("a run goes on with its own settings: give --resume alone.")
            train(config, preset, resume, allow_inexact_resume, trust_code)

        train_from_preset.__doc__ = train.__doc__
        commands["train"] = train_from_preset
        commands["tune"] = tune_command(default)
        tyro.extras.subcommand_cli_from_dict(commands, prog="ovmse", description=DESCRIPTION, args=arguments)
    except (UserError, OSError) as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return 2
    except Interrupted as stopped:
        errors.print(str(stopped), highlight=False, markup=False, soft_wrap=True)
        return stopped.code
    except KeyboardInterrupt:
        errors.print("stopped at once; nothing was saved", highlight=False)
        return 130
    return 0
