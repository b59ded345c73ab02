"""One run of a sweep in a process of its own: ``python -m ovmse.sweep.process``, started by `start`.

It computes on one core. When its standard input is closed, because the sweep was asked to stop or was killed, it saves
its run and ends.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec

from ovmse.config import Config, LearnerConfig
from ovmse.core.errors import Unwritable, UserError
from ovmse.core.settings import changed_flags, describe
from ovmse.system import cores, files, lock

FAILED = 2
"""Exit code of a run that failed, and said why in its file."""


class Order(msgspec.Struct):
    """What a process is to do. config: the run; failure: the file to say in why it failed; core: where to run, None: on
    one that no other process has claimed."""

    config: Config
    failure: Path
    core: int | None


def order(config: Config, failure: Path, core: int | None = None) -> str:
    """An `Order` as JSON."""
    return json.dumps({"config": describe(config), "failure": str(failure), "core": core})


def start(order: str, log: str | Path, folder: str | Path | None = None) -> "subprocess.Popen[bytes]":
    """Start the process of a run, or go on with a run that was stopped.

    order: an `Order` as JSON; log: the file that its output is added to; folder: where its paths begin, None: here.
    """
    words = [sys.executable, "-P", "-m", "ovmse.sweep.process", order]
    environment = {"JAX_PLATFORMS": "cpu", **os.environ}
    with Path(folder or ".", log).open("ab") as file:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment, start_new_session=True, cwd=folder
        )


def carry_out(order: str, log: str, folder: str) -> int:
    """Start the process of a run and wait for it; interrupted, wait until it has saved. Returns its exit code."""
    process = start(order, log, folder)
    assert process.stdin is not None
    while process.poll() is None:
        try:
            time.sleep(0.2)  # not within `wait`, which an interruption from another thread does not reach
        except KeyboardInterrupt:
            process.stdin.close()
    return process.returncode


def main(words: list[str]) -> int:
    """Do what the one word says, an `Order` as JSON. Returns the exit code."""
    given = files.as_type(json.loads(words[0]), Order, "order")
    cores.pin(cores.claimed() if given.core is None else given.core)
    end_with_the_sweep()
    return attempt(given.config, given.failure)


def attempt(config: Config, failure: Path) -> int:
    """Train, or go on; a file tells why a run failed. Returns the exit code."""
    try:
        return run(config)
    except Unwritable as error:  # no fault of the run's
        print(error, flush=True)
        return 1
    except UserError as error:
        reason = str(error)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    print(reason, flush=True)
    files.write_json(failure, {"reason": " ".join(reason.split())})
    return FAILED


def run(config: Config) -> int:
    """Train, or go on; where that can't be bit for bit, on another machine or version, begin anew. Returns the exit
    code."""
    from ovmse.runs import checkpoints  # here, since JAX counts the cores when it is imported
    from ovmse.system.progress import Terminal
    from ovmse.system.signals import Interrupted
    from ovmse.training.display import Display
    from ovmse.training.train import train

    assert config.out is not None
    out, display = config.out, Display(Terminal())
    lock.wait_until_free(out, display.say)  # a process of a sweep that was killed may still be saving
    if checkpoints.has_ended(out):
        return 0
    sys.argv = ["ovmse", "train", *words_of(config)]  # how this run is made alone, for its versions.json
    begun = checkpoints.is_unfinished(out)
    if not begun:
        remove(out)  # killed before it was a run; refused where another process began it meanwhile
    try:
        try:
            train(config, display, resume=begun)
        except checkpoints.Inexact as error:
            display.say(f"{error} In a sweep it begins anew.")
            remove(out)
            train(config, display)
    except Interrupted as stopped:
        display.say(str(stopped))
        return stopped.code
    if not config.keep_checkpoint:  # there may be many cells, and few are trained for longer
        shutil.rmtree(out / checkpoints.FOLDER, ignore_errors=True)
    return 0


def words_of(config: Config) -> list[str]:
    """A run as words of `ovmse train`."""
    return [*changed_flags(config, Config(), ["learner"]), *changed_flags(config.learner, LearnerConfig(), [])]


def remove(out: Path) -> None:
    """Remove a run's directory, if it is there. Raises `Unwritable` where another process works on it."""
    if out.exists():
        with lock.held(out):
            shutil.rmtree(out)


def end_with_the_sweep() -> None:
    """Ask this process to save and stop, as SIGTERM does, once its standard input is closed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
