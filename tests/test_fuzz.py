"""A few damaged logs of every format; `make fuzz` goes through thousands."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("flashbax")
pytest.importorskip("minari")

from fuzz_logs import SOURCES  # noqa: E402


def test_no_damaged_log_is_a_defect():
    script = Path(__file__).with_name("fuzz.py")
    done = subprocess.run([sys.executable, script, "--files", str(6 * len(SOURCES))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(" files in ") == len(SOURCES)
