"""Workers that Ray places: each an actor with an environment in a process of its own, as a local worker has."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, number_of
from ovmse.core.types import EnvSpec
from ovmse.envs.pool import Played
from ovmse.envs.process import ProcessEnv, ProcessFault
from ovmse.system.ray_client import connect


def connect_for(address: str, workers: int) -> Any:
    """Ray at an address (`connect`), for so many workers. Raises `UserError` where it has not as many cores."""
    ray = connect(address, workers)
    if (cores := int(ray.cluster_resources().get("CPU", 0))) < workers:
        has = f"has {number_of(cores, 'core')}, and each worker takes one"
        raise UserError(f"--workers {workers}: the Ray at {address!r} {has}.")
    return ray


class Actor:
    """What Ray runs on some machine. folder: where paths and modules of somebody's own are found, as on this machine.

    python: the interpreter of the environment; None: that of the machine's Ray.
    """

    def __init__(self, folder: str, python: str | None, name: str, settings: dict[str, Any], player: str):
        os.chdir(folder)
        self._how = (Path(python or sys.executable), name, settings), player
        self._env: ProcessEnv | None = None

    def play(self, about: dict[str, Any], arrays: dict[str, np.ndarray], seconds: float) -> Played | Exception:
        """A whole episode, or what it failed by."""
        words, player = self._how
        try:
            self._env = self._env or ProcessEnv(*words, player=player)
            return self._env.play(about, arrays, seconds)
        except (ProcessFault, UserError) as error:
            return error


class RemoteEnv:
    """What `ovmse.envs.pool.WorkerPool` asks of a worker, of an actor of Ray, which takes one core of its cluster.

    ray: the module, connected. spec: the environment's. how: see `Actor`.
    """

    def __init__(self, ray: Any, spec: EnvSpec, **how: Any):
        self.spec, self._ray = spec, ray
        self._actor = ray.remote(num_cpus=1)(Actor).remote(folder=str(Path.cwd()), **how)

    def play(self, about: dict[str, Any], arrays: dict[str, np.ndarray], seconds: float) -> Played:
        """As `ProcessEnv.play`; what happened to the actor or its machine comes from outside."""
        try:
            found = self._ray.get(self._actor.play.remote(about, arrays, seconds))
        except self._ray.exceptions.RayError as error:
            raise ProcessFault(f"its actor of Ray is gone ({str(error).strip().splitlines()[0]})", True) from error
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self) -> None:
        """End the actor; its environment's process notices."""
        if self._ray.is_initialized():  # where this process ends, Ray may have gone first
            self._ray.kill(self._actor)
