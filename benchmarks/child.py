"""Runs in processes of their own, which a part of the benchmark starts and reads."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sizes import battle_lengths, random_flat
from ovmse import envs
from ovmse.data.dataset import Dataset


def write_dataset(path: Path, env: str, episodes: int) -> tuple[Path, np.ndarray]:
    """A synthetic dataset of an environment, on the disk, in battles' lengths; where it is, and the lengths [E]."""
    spec = envs.make(env).spec
    lengths = battle_lengths(episodes, spec.episode_limit)
    Dataset.write(path, spec=spec, **random_flat(spec, lengths), behaviour="random numbers")
    return path, lengths


def whole_run(settings: dict[str, Any], cache: str) -> dict[str, Any]:
    """What `benchmarks.whole_run` prints of a run with these settings. cache: the compilation cache, or ``off``.

    Raises `RuntimeError` with what the process wrote if it fails.
    """
    environment = {**os.environ, "OVMSE_COMPILATION_CACHE": cache, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.whole_run", json.dumps({**settings, "out": f"{folder}/run"})]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run with {settings} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
