"""A host environment that runs in a process of its own, by another interpreter, with other versions of packages."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs import wire
from ovmse.envs.protocol import require_json

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 300.0
"""The longest that any answer may take; `ovmse.envs.guarded` has a limit of its own for resets and steps."""

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
"""What keeps NumPy's libraries from using every core in each of many processes."""

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""The ends of a process that somebody else brought about: a person, a scheduler, a system without memory."""

MOMENT = 2.0
"""Seconds that a process has to end by itself."""


class ProcessFault(Exception):
    """What went wrong in the environment's process; the message says it whole.

    from_outside: it was killed, by no fault of its own that is known.
    """

    def __init__(self, message: str, from_outside: bool = False):
        super().__init__(message)
        self.from_outside = from_outside


class ProcessEnv:
    """The environment that `ovmse.envs.make` makes of a name and settings in the interpreter `python`.

    It has ``spec``, ``repeatable``, ``names``, ``reset_host`` and ``step_host`` as the environment in there. The last
    two raise `ProcessFault` where that fails, has died or does not answer; a process that failed so is ended.

    seconds: the longest that an answer may take. player: the module of ovmse that plays whole episodes in there
    (`play`); it is then one of many, on one thread.

    Raises `UserError` where the interpreter can't be used, and for whatever `ovmse.envs.make` raises in it.
    """

    spec: EnvSpec

    def __init__(
        self, python: Path, name: str, settings: dict[str, Any], seconds: float = SECONDS, player: str | None = None
    ) -> None:
        require_json(name, settings)
        python = _absolute(python)
        self.seconds, self._errors = seconds, tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        try:
            self._process = subprocess.Popen(
                [str(python), str(WORKER), *([player] if player else [])],
                env=os.environ | (ONE_THREAD if player else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for ovmse to answer
            )
        except OSError as error:
            self._errors.close()
            raise UserError(f"--env-python {python} can't be started: {error.strerror}.") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        files = self._stdin, self._stdout, self._errors
        self._end = weakref.finalize(self, _clear, self._process, *files)  # when ovmse ends, too
        self._fate: str | None = None
        try:
            about = json.loads(self._asked(wire.MAKE, wire.as_json({"name": name, "settings": settings})))
        except ProcessFault as fault:
            self.close()
            raise UserError(f"{name} could not be made by --env-python {python}: {fault}.") from fault
        except BaseException:
            self.close()
            raise
        told = about["spec"]
        told |= {name: tuple(told[name]) for name in ("agents", "kinds")}
        self.spec, self.repeatable, self.names = EnvSpec(**told), bool(about["repeatable"]), about["names"]

    def reset_host(self, seed: int) -> Observation:
        """Start an episode; equal seeds start equal episodes where ``repeatable``."""
        self.episode_measures: dict[str, float] = {}
        return self._read(self._asked(wire.RESET, int(seed).to_bytes(8, "little")))[0]

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Act jointly with `action` (int, shape (N,))."""
        asked = np.asarray(action, "<i4").tobytes()
        observation, result, self.episode_measures = self._read(self._asked(wire.STEP, asked))
        if result is None:
            raise ProcessFault("its step had no result")
        return observation, result

    def play(
        self, about: dict[str, Any], arrays: dict[str, np.ndarray], seconds: float
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """A whole episode, as the player in the process plays it (`ovmse.policy.player`).

        seconds: the longest that a step or a reset may take.
        """
        found = self._asked(wire.PLAY, wire.bundle(about, arrays), seconds + MOMENT)
        try:
            return wire.unbundle(found)
        except ValueError as error:
            raise ProcessFault(f"what it returned is no episode ({error})") from error

    def close(self) -> None:
        """End the process and what it started, after a moment to close by itself."""
        if self._fate is None:
            self._fate = "its process was closed"
            try:
                self._stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(MOMENT)
            finally:
                self._end()

    def kill(self) -> None:
        """End the process and what it started at once; whoever waits for its answer is told so."""
        self._fate = self._fate or "its process was ended"
        _kill(self._process)

    def _asked(self, kind: bytes, content: bytes, seconds: float | None = None) -> bytes:
        """The content of the answer. seconds: the longest without a sign of life."""
        seconds = seconds or self.seconds
        if self._fate is not None:
            raise ProcessFault(self._fate)
        try:
            wire.send(self._stdin.fileno(), kind, content)
            answer = wire.ALIVE
            while answer == wire.ALIVE:
                answer, content = wire.receive(self._stdout.fileno(), seconds)
        except TimeoutError:
            self._fate = f"its process did not answer in {seconds:g} s and was ended"
            self._end()
            raise ProcessFault(self._fate) from None
        except (EOFError, OSError):
            self._fate = self._death()
            self._end()
            raise ProcessFault(self._fate, self._process.returncode in FROM_OUTSIDE) from None
        except BaseException:  # whoever asked waits no more: what comes would answer another question
            self._fate = "its process was ended, since its answer was not waited for"
            self._end()
            raise
        if answer != wire.FAILED:
            return content
        told = json.loads(content)
        if told["ours"]:
            raise UserError(told["message"])
        raise ProcessFault(told["message"])

    def _read(self, content: bytes) -> tuple[Observation, StepResult | None, dict[str, float]]:
        try:
            return wire.unpacked(self.spec, content)
        except ValueError as error:
            raise ProcessFault(f"what it returned has not the sizes that its spec tells ({error})") from error

    def _death(self) -> str:
        """How the process ended, and the last that it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(MOMENT)  # it is ending by itself, and then tells how
        _kill(self._process)
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {-code}, {signal.Signals(-code).name}"
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
        return f"its process ended ({how})" + (f"; the last that it said: {lines[-1].strip()}" if lines else "")


def _absolute(python: Path) -> Path:
    """An interpreter of this directory by its whole path, since a bare name would be looked for elsewhere.

    Raises `UserError` for a directory.
    """
    python = python.expanduser()
    if python.is_dir():
        raise UserError(f"--env-python {python} is a directory; give the interpreter, such as {python}/bin/python.")
    return python.absolute() if python.exists() else python


def _kill(process: subprocess.Popen) -> None:
    """End a process and what it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _clear(process: subprocess.Popen, *files: IO[bytes]) -> None:
    """Leave nothing of a process."""
    _kill(process)
    for file in files:
        file.close()
