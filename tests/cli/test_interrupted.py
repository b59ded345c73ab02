"""Ctrl-C at any moment of a command's start: code 130, no traceback, nothing written."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
LOG = "episode,step,agent,action,reward,obs_0\n0,0,0,0,1,2\n"


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.45, 0.6, 0.8])
@pytest.mark.parametrize("command", ["import", "train"])
def test_ctrl_c_while_a_command_starts(tmp_path, command, seconds):
    (tmp_path / "log.csv").write_text(LOG)
    rest = ["log.csv"] if command == "import" else ["--env", "matrix:climbing", "--method", "scratch"]
    words = [sys.executable, "-m", "ovmse", command, *rest, "--out", "out"]
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said and "KeyboardInterrupt" not in said, said
    assert process.returncode in (130, -signal.SIGINT)  # the latter where Python itself had not begun
    assert command == "train" or sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]
