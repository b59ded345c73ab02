"""A few damaged logs; `make fuzz` goes through thousands of every format."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("flashbax")
pytest.importorskip("minari")

from fuzz.logs import SOURCES  # noqa: E402

pytestmark = pytest.mark.slow

QUICK = ("dataset", "csv")  # a process of its own for each costs seconds


def test_no_damaged_log_is_a_defect():
    assert set(QUICK) < set(SOURCES)
    call = [sys.executable, Path(__file__).with_name("fuzz.py"), "--files", "60", "--only", *QUICK]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("30 files in ") == 2 and done.stdout.endswith("0 defects\n")
