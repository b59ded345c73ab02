"""What stands for Ray where it is not installed: tasks are processes, actors are objects of this process."""

import importlib.util
import signal
import subprocess
import sys
import types

import pytest

IN_A_PROCESS = "import sys; from ovmse.sweep.process import carry_out; sys.exit(carry_out(*sys.argv[1:]))"


class RayError(Exception):
    """As Ray's."""


class TaskCancelledError(RayError):
    """As Ray's."""


class Remote:
    """A remote function of the stand-in, each of whose tasks is a process of this machine."""

    def options(self, **given):
        assert given["num_cpus"] == 1 and 0 < given["memory"] <= 3e9 and given["max_retries"] == 0
        return self

    def remote(self, *words):
        return subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, *words], start_new_session=True)


class RemoteActor:
    """An actor of the stand-in, which is an object of this process; every second one is lost at its first call."""

    made = 0

    def __init__(self, actor, how):
        type(self).made += 1
        self.lost, self.play = self.made % 2 == 0, self
        self.actor = actor(**how)

    def remote(self, *words):
        return lambda: self.answer(*words)

    def answer(self, *words):
        if self.lost:
            raise RayError("The actor died.\nMore on that.")
        return self.actor.play(*words)


def remote(function=None, **given):
    """A remote function, or what makes actors of a class."""
    if function is not None:
        return Remote()
    assert given == {"num_cpus": 1}
    return lambda actor: types.SimpleNamespace(remote=lambda **how: RemoteActor(actor, how))


def stand_in():
    """The functions of Ray that ovmse calls; a cancelled task is interrupted."""
    return types.SimpleNamespace(
        init=lambda **given: None,
        shutdown=lambda: None,
        remote=remote,
        is_initialized=lambda: True,
        kill=lambda actor: None,
        nodes=lambda: [{"Alive": True, "Resources": {"memory": 3e9}}, {"Alive": False, "Resources": {"memory": 9e9}}],
        cluster_resources=lambda: {"CPU": 2.0},
        wait=lambda references, timeout: ([x for x in references if x.poll() is not None], []),
        get=lambda reference: reference() if callable(reference) else reference.wait(),
        cancel=lambda reference, force=False: reference.send_signal(signal.SIGINT),
        exceptions=types.SimpleNamespace(RayError=RayError, TaskCancelledError=TaskCancelledError),
    )


def ray_or_stand_in(monkeypatch, real):
    """Ray itself, without which the test is skipped, or the stand-in in its place."""
    if real and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    if not real:
        monkeypatch.setitem(sys.modules, "ray", stand_in())
