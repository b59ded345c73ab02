"""Work beside the main thread's: nobody waits for it where the process ends, and its errors are nobody's."""

import subprocess
import sys
import time

import pytest

from ovmse.system import background

SLEEPS = "import time; from ovmse.system import background; background.start(lambda: time.sleep(600)); print('begun'); "


def test_what_is_begun_is_done_and_its_errors_are_dropped():
    found = []
    background.start(lambda: found.append(1)).join()
    background.start(lambda: found[7]).join()
    assert found == [1]


def test_a_process_ends_at_once_with_its_code_and_what_it_printed():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SLEEPS + "background.leave(130)"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "")
    assert time.monotonic() - began < 300


def test_without_work_it_ends_as_usual():
    with pytest.raises(SystemExit) as ended:
        background.leave(2)
    assert ended.value.code == 2
