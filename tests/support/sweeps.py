"""A tiny sweep on the two-step game, and its processes."""

import csv
import os
import signal
import subprocess
import sys
import time

from support.episodes import write_two_step

GRID = """
[settings]
env = "matrix:two_step"
data = "{data}"
offline_updates = 10
online_env_steps = 32
episodes_per_collect = 4
updates_per_collect = 2
batch_episodes = 8
replay_env_steps = 200
evaluate_every_updates = 10
evaluate_every_env_steps = 16
evaluate_episodes = 4
hidden = 8
embedding = 4
hyper = 6
target_every_updates = 10
checkpoint_minutes = 0.0001
[axes]
seed = {seeds}
[axes.arm]
"shy" = {{ method = "finetune", change = ["explore.epsilon=constant(0.1)"] }}
{more}
"""


MEASURED = ("wall_s", "cpu_s", "peak_memory_bytes", "run", "offline_run")
"""Columns of the results that equal cells do not have in common."""


class Place:
    """A folder with a grid and its sweep."""

    def __init__(self, folder):
        self.folder, self.out, self.grid = folder, folder / "out", folder / "grid.toml"
        self.data = write_two_step(folder / "data")
        self.write()

    def write(self, seeds="[3]", more=""):
        self.grid.write_text(GRID.format(data=self.data, seeds=seeds, more=more))

    def start(self):
        words = [sys.executable, "-m", "ovmse", "sweep", str(self.grid), "--out", str(self.out), "--workers", "1"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(self, pattern, seconds=240):
        until = time.monotonic() + seconds
        while not (found := list(self.out.glob(pattern))):
            assert time.monotonic() < until, f"there is no {pattern}"
            time.sleep(0.02)
        return found[0]

    def press_ctrl_c(self, pattern):
        self.wait_for(pattern)
        os.kill(os.getpid(), signal.SIGINT)

    def lines(self):
        return list(csv.DictReader((self.out / "results.csv").read_text().splitlines()))

    def results(self):
        """What is the same wherever the cells ran."""
        return [{name: x for name, x in line.items() if name not in MEASURED} for line in self.lines()]

    def ends(self):
        """When each run ended."""
        return {path.parent.name: path.stat().st_mtime_ns for path in self.out.glob("cells/*/summary.json")}
