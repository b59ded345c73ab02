"""A run's seeds on other numbers of devices: whole runs, in processes of their own."""

import json
import subprocess
import sys

import pytest
from support.stopping import assert_same_rows

from ovmse.cli.main import main
from ovmse.system.files import read_json_lines

pytestmark = pytest.mark.slow

WITH_DEVICES = """
import sys, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_disable_most_optimizations", True)
assert jax.device_count() == int(sys.argv[1])
from ovmse.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_four_seeds_end_alike_on_one_device_two_and_four(tmp_path):
    log = str(tmp_path / "log")
    assert main(["collect", "--env", "matrix:two_step", "--quality", "random", "--episodes", "64", "--out", log]) == 0
    words = ["train", "--env", "matrix:two_step", "--data", log, "--method", "ovmse", "--seeds", "4"]
    words += ["--offline-updates", "20", "--evaluate-every-updates", "10", "--evaluate-episodes", "8"]
    words += ["--online-env-steps", "128", "--evaluate-every-env-steps", "64", "--batch-episodes", "8"]
    words += ["--hidden", "16"]
    for devices in (1, 2, 4):
        code = [sys.executable, "-c", WITH_DEVICES, str(devices), *words, "--out", str(tmp_path / str(devices))]
        subprocess.run(code, check=True)
    one, two, four = (tmp_path / str(devices) for devices in (1, 2, 4))
    sums = [json.loads((run / "summary.json").read_text())["state_sha256"] for run in (two, four)]
    assert sums[0] == sums[1]
    assert_same_rows(*(read_json_lines(run / "metrics.jsonl") for run in (four, two)), rel=0.0)
    # a program for one device is another one to XLA, which may round otherwise
    assert_same_rows(*(read_json_lines(run / "metrics.jsonl") for run in (four, one)), rel=1e-4)
