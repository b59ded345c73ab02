"""The online phase's program is compiled by another thread, once, and a run is bit for bit the same."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import jax
import pytest
from support.episodes import small_run, write_two_step

from ovmse.learning.phases import Phase
from ovmse.methods import METHODS
from ovmse.system import files
from ovmse.training import ahead, memory
from ovmse.training.loop import PhaseLoop
from ovmse.training.run import Run
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]


@pytest.fixture(scope="module")
def two_step_data(tmp_path_factory):
    return write_two_step(tmp_path_factory.mktemp("data") / "two-step")


@pytest.fixture
def programs():
    """The programs compiled so far, as (name, whether in the main thread)."""
    found = []

    def note(event, duration, fun_name="", **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append((fun_name, threading.current_thread() is threading.main_thread()))

    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


def checksum(result):
    return files.read_json(result.out / "summary.json")["state_sha256"]


@pytest.mark.parametrize(("method", "seeds"), [("ovmse", 3), ("scratch", 1)])
def test_it_is_compiled_beside_the_run_once_and_the_same_comes_out(
    method, seeds, two_step_data, tmp_path, monkeypatch, programs
):
    data = two_step_data if METHODS[method].uses_data else None
    config = small_run(tmp_path / "ahead", method=method, data=data, seeds=seeds)
    monkeypatch.setattr(ahead, "usable_cores", lambda: [0, 1])
    beside = checksum(train(config))
    there = [main for name, main in programs if "program" in name]
    assert there.count(False) == 1
    programs.clear()
    monkeypatch.setattr(ahead, "usable_cores", lambda: [0])
    assert checksum(train(replace(config, out=tmp_path / "alone"))) == beside
    alone = [main for name, main in programs if "program" in name]
    assert all(alone) and len(alone) == len(there)


@pytest.mark.parametrize("why", ["", "the phase is over", "one core", "no memory", "a host environment", "a GPU"])
def test_nothing_is_begun_where_it_would_not_pay(why, monkeypatch):
    begun = []
    monkeypatch.setattr(ahead, "usable_cores", lambda: [0] if why == "one core" else [0, 1])
    monkeypatch.setattr(ahead, "batched", lambda: why == "a GPU")
    monkeypatch.setattr(memory, "has_room_to_compile", lambda needed: why != "no memory")
    monkeypatch.setattr(ahead.background, "start", begun.append)
    done = 10 if why == "the phase is over" else 9
    compile_phase = None if why == "a host environment" else begun.append
    loop = PhaseLoop(Phase.ONLINE, 10, 5, 1, lambda states: done, lambda *_: [], compile_phase)
    run = Run._make([None] * len(Run._fields))._replace(task=SimpleNamespace(needed_bytes={}))
    ahead.compile_ahead(run, [None], loop)
    assert bool(begun) == (not why)
