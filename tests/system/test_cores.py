"""Cores of this machine that processes claim."""

import os
import subprocess
import sys

from ovmse.system.cores import claimed, usable_cores

CLAIM = "from ovmse.system.cores import claimed; import sys; print(claimed(sys.argv[1]), flush=True); input()"


def test_processes_that_claim_a_core_have_different_ones_as_far_as_there_are_any():
    name = f"test-{os.getpid()}"
    words, pipe = [sys.executable, "-c", CLAIM, name], subprocess.PIPE
    others = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in usable_cores()]
    found = [int(other.stdout.readline()) for other in others]
    mine = claimed(name)
    for other in others:
        other.communicate("")
    assert sorted(found) == usable_cores() and mine in usable_cores()
