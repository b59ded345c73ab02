"""The sweep that the tests of processes, of schedulers and of Ray share."""

import json
import threading
import time

import pytest
from support.sweeps import Place

from ovmse.sweep.run import sweep
from ovmse.system.signals import Interrupted


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A sweep that was asked to stop, then killed with a cell under way, and went to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # as in this process: fewer seconds, and the same bits
        place = Place(tmp_path_factory.mktemp("sweep"))
        ctrl_c = threading.Thread(target=place.press_ctrl_c, args=("offline/*/config.json",))
        ctrl_c.start()
        with pytest.raises(Interrupted) as place.stopped:
            sweep(place.grid, place.out, workers=1)
        ctrl_c.join()
        killed = place.start()
        lock = place.wait_for("cells/*/.ovmse-lock")
        while not lock.read_text():
            time.sleep(0.01)
        place.cell = json.loads(lock.read_text())["pid"]
        killed.kill()
        killed.communicate()
        place.found = sweep(place.grid, place.out, workers=1)
        yield place
