"""A sweep as job arrays of SLURM: one of the shared offline phases, and after it one of the cells."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ovmse.core.errors import UserError, number_of
from ovmse.runs import checkpoints
from ovmse.sweep.given import Grid
from ovmse.sweep.plan import CELLS, LOGS, OFFLINE, Job
from ovmse.sweep.run import GRID, command, opened, prepared
from ovmse.system import files
from ovmse.training.memory import GIB

FOLDER, SUBMIT = "slurm", "submit.sh"
"""Where the scripts are in a sweep's directory, and the one that submits the others."""
MOST_TASKS = 1000
"""Tasks of an array; SLURM takes 1001 unless its `MaxArraySize` says otherwise."""
OURS = ("array", "dependency", "wrap")
TASKS = """#!/bin/sh
#SBATCH --job-name=ovmse-{name}
#SBATCH --array=1-{count}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --output=/dev/null
#SBATCH --signal=B:TERM@60
{options}{here}
run=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" <<END
{names}END
)
exec {command} --cell "$run" >> {logs}/"$run.log" 2>&1
"""
"""An array. A minute before its time is up, each task saves its run, and the sweep can be submitted again."""
SUBMITS = """#!/bin/sh
set -e
{here}
submit() {{ id=$(sbatch --parsable "$@"); id=${{id%%;*}}; echo "job $id: $*"; }}
after=
{lines}"""
LINES = {
    OFFLINE: 'submit {script}\nafter="$after:$id"\n',
    CELLS: "submit ${{after:+--dependency=afterany$after}} {script}\n",
}
"""What submits an array, by what it holds. Cells wait until the offline phases have ended in any way: those whose own
one failed say so and end, the others run."""


def options_of(words: Sequence[str]) -> list[str]:
    """The options of ``sbatch`` in words such as ``partition=gpu`` or ``--time=2:00:00 --mem=4G``, without the dashes.

    Raises `UserError` for what is none, or one that is up to the sweep.
    """
    found = [word.removeprefix("--") for text in words for word in shlex.split(text)]
    for word in found:
        if not re.fullmatch(r"[a-z][a-z-]+(=[^\n]+)?", word):
            raise UserError(f"--slurm {word!r}: expected an option of sbatch, such as partition=gpu or time=2:00:00.")
        if word.partition("=")[0] in OURS:
            raise UserError(f"--slurm {word!r}: that is up to the sweep. Leave it out.")
    return found


def as_job_arrays(
    grid: Grid,
    out: Path,
    options: Sequence[str],
    submitted: bool = False,
    retry_failed: bool = False,
    trust_code: bool = False,
    console: Console | None = None,
    finished: Path | None = None,
) -> str:
    """Check what is to be run of a grid, and write the job arrays that run it; `submitted`: submit them, too.

    options: words with options of ``sbatch``. The others are those of `ovmse.sweep.run.sweep`.
    Returns what was done and what to do next. Raises `UserError` as `sweep` does, and where SLURM takes no jobs.
    """
    wanted = options_of(options)
    if submitted and shutil.which("sbatch") is None:
        raise UserError("there is no sbatch on this machine: leave --slurm-submit out, and submit where there is one.")
    _, jobs = prepared(grid, out, retry_failed, trust_code, console, finished)
    collect = f"{command(grid, out, None, trust_code, finished)} --table"
    if not jobs:
        return f"nothing is left to run\nNext: {collect}"
    with opened(out, grid, jobs):
        script = write_scripts(out, jobs, wanted, ["--trust-code"] if trust_code else [])
    memory = max(job.needs + job.compiling for job in jobs) / GIB
    about = f"{number_of(len(jobs), 'cell')}, each with a core and up to about {memory:.1f} GiB of memory\n"
    done = f"{submit(script)}Next: " if submitted else f"Written: {script.parent}\nNext: {_shell(script)}\n      "
    return f"{about}{done}{collect} (when they have ended)"


def _shell(script: Path) -> str:
    return shlex.join(["sh", str(script)])


def write_scripts(out: Path, jobs: Sequence[Job], options: Sequence[str], more: Sequence[str]) -> Path:
    """Write the scripts of these cells, and of the offline phases that they wait for, into ``slurm/``.

    Args:
        out: the directory of the sweep, which holds its grid.
        jobs: the cells to run.
        options: options of ``sbatch``, without the dashes.
        more: further words of each task's command.

    Returns:
        The script that submits the others.
    """
    folder, here = out / FOLDER, f"cd {shlex.quote(str(Path.cwd()))} || exit 1"
    shutil.rmtree(folder, ignore_errors=True)
    files.make_folder(folder)
    before = [job.after.name for job in jobs if job.after is not None and not checkpoints.has_ended(job.after.run)]
    command = shlex.join([sys.executable, "-m", "ovmse", "sweep", str(out / GRID), "--out", str(out), *more])
    lines = []
    for kind, names in ((OFFLINE, list(dict.fromkeys(before))), (CELLS, [job.name for job in jobs])):
        for number, start in enumerate(range(0, len(names), MOST_TASKS), 1):
            listed, script = (folder / f"{kind}-{number}.{suffix}" for suffix in ("txt", "sh"))
            listing = "".join(f"{name}\n" for name in names[start : start + MOST_TASKS])
            text = TASKS.format(
                name=script.stem,
                count=listing.count("\n"),
                options="".join(f"#SBATCH --{option}\n" for option in options),
                here=here,
                names=listing,
                command=command,
                logs=shlex.quote(str(out / LOGS)),
            )
            files.write_text(listed, listing)
            files.write_text(script, text)
            lines.append(LINES[kind].format(script=shlex.quote(str(script))))
    files.write_text(folder / SUBMIT, SUBMITS.format(here=here, lines="".join(lines)))
    return folder / SUBMIT


def submit(script: Path) -> str:
    """Submit the jobs; return what was said. Raises `UserError` with SLURM's reason where it refuses one."""
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{script}: not all was submitted: {' '.join((done.stdout + done.stderr).split())}.")
    return done.stdout
