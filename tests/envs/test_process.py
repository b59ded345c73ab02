"""Environments in a process of their own: the same episodes, and one clear error for whatever goes wrong in there."""

import os
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from ovmse import envs
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs import wire
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.envs.process import ProcessEnv, ProcessFault

PYTHON = Path(sys.executable)

MODULE = '''
import os, subprocess, sys, time
import numpy as np
from ovmse.core.types import EnvSpec, Observation, StepResult

class Walk:
    """Two agents add up numbers; what `does` names happens in step 2."""

    def __init__(self, does="", length=4):
        print("made")
        self.does = does
        if does == "child":
            self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        version = f"{sys.version_info[0]}, child {getattr(self, 'child', self).pid if does == 'child' else 0}"
        settings = {"does": does, "length": length, "jax": "jax" in sys.modules}
        self.spec = EnvSpec("own_walk:Walk", version, settings, 2, 3, 2, 1, length, True, ("a", "b"))

    def reset_host(self, seed):
        self.t, self.x = 0, np.random.default_rng(seed).normal(size=2)
        return self.seen()

    def seen(self):
        return Observation(np.float32([[x, self.t] for x in self.x]), np.float32([self.x.sum()]), np.ones((2, 3), bool))

    def step_host(self, action):
        print("step", flush=True)
        self.t, self.x = self.t + 1, self.x + action
        if self.t == 2 and self.does == "raises":
            raise KeyError("lost")
        if self.t == 2 and self.does == "exits":
            sys.stderr.write("licence expired\\n")
            os._exit(3)
        if self.t == 2 and self.does == "aborts":
            os.abort()
        if self.t == 2 and self.does == "hangs":
            time.sleep(60)
        late = self.t == self.spec.episode_limit
        return self.seen(), StepResult(self.x.sum(), False, late, False)
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with the environment above, which is the current one."""
    (tmp_path / "own_walk.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("own_walk", None)


def walk(does="", **settings):
    return ProcessEnv(PYTHON, "own_walk:Walk", {"does": does}, **settings)


def is_alive(pid):
    """Whether a process runs; one that has ended may wait to be seen by whoever started it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_episodes_are_those_of_ones_own_process_and_need_no_jax(here, capfd):
    own, other = envs.make("own_walk:Walk"), walk()
    assert other.spec.settings["jax"] is False
    assert other.spec._replace(settings={}) == own.spec._replace(settings={})
    capfd.readouterr()
    for seed in (3, 2**31 - 1):
        np.testing.assert_array_equal(other.reset_host(seed).obs, own.reset_host(seed).obs)
        for action in ([0, 1], [2, 2]):
            (seen, result), (expected, expected_result) = (env.step_host(np.array(action)) for env in (other, own))
            np.testing.assert_array_equal(seen.state, expected.state)
            assert result == (np.float32(expected_result.reward), *expected_result[1:])
    assert capfd.readouterr().out == "step\n" * 4  # of the one in this process
    envs.check(other)
    other.close()


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("exits", r"its process ended \(exit code 3\); the last that it said: licence expired"),
        ("aborts", r"its process ended \(signal 6, SIGABRT\)"),
        ("hangs", r"did not answer in 1 s and was ended"),
    ],
)
def test_an_end_or_a_hang_is_one_clear_error(here, does, message):
    env = walk(does, seconds=1.0 if does == "hangs" else 60.0)
    env.reset_host(0)
    env.step_host(np.array([0, 0]))
    with pytest.raises(ProcessFault, match=message):
        env.step_host(np.array([0, 0]))
    assert not is_alive(env._process.pid)
    with pytest.raises(ProcessFault, match=message):
        env.reset_host(0)


def test_what_the_environment_raises_is_told_and_it_goes_on(here):
    env = walk("raises")
    env.reset_host(0)
    env.step_host(np.array([0, 0]))
    with pytest.raises(ProcessFault, match="KeyError: 'lost'"):
        env.step_host(np.array([0, 0]))
    env.reset_host(1)
    env.close()


def test_a_guard_discards_the_episode_and_starts_another_process(here):
    env = GuardedEnv(lambda: walk("hangs"), seconds=1.0)
    first = env._env._process.pid
    env.reset_host(0)
    env.step_host(np.array([0, 0]))
    with pytest.raises(EnvFault, match="took more than 1 s"):
        env.step_host(np.array([0, 0]))
    env.restart()
    assert not is_alive(first)
    env.reset_host(0)
    env._env.close()


def test_closing_ends_what_the_environment_started(here):
    env = walk("child")
    child = int(env.spec.version.rpartition(" ")[2])
    assert is_alive(child)
    env.close()
    for _ in range(50):
        if not is_alive(child):
            break
        time.sleep(0.1)
    assert not is_alive(child)


def script(folder, text):
    """An interpreter that is this shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"can't be started: No such file"),
        ("echo no licence >&2; exit 4", r"its process ended \(exit code 4\); the last that it said: no licence"),
        (f'exec {PYTHON} -I -S "$@"', "it lacks the package 'numpy'"),
    ],
)
def test_an_interpreter_that_will_not_do_is_named(tmp_path, text, message):
    python = tmp_path / "python" if text is None else script(tmp_path, text)
    with pytest.raises(UserError, match=message) as raised:
        ProcessEnv(python, "own_walk:Walk", {})
    assert str(python) in str(raised.value)


def test_an_interpreter_is_looked_for_in_this_directory_first(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script(tmp_path, "echo no licence >&2; exit 4")
    with pytest.raises(UserError, match="the last that it said: no licence"):  # "./python" is the same path
        ProcessEnv(Path("python"), "own_walk:Walk", {})
    with pytest.raises(UserError, match=f"{tmp_path} is a directory; give the interpreter"):
        ProcessEnv(tmp_path, "own_walk:Walk", {})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("own_walk:Walc", {}, "unknown attribute of own_walk 'Walc'. Did you mean 'Walk'"),
        ("own_walk:Walk", {"lenght": 3}, "unknown setting of own_walk:Walk 'lenght'. Did you mean 'length'"),
        ("own_walk:Walk", {"length": print}, "must be a JSON value"),
        ("matrix:climbing", {}, "matrix:climbing is in JAX: it runs in ovmse's own process, without --env-python"),
    ],
)
def test_what_the_other_process_refuses_is_refused(here, name, options, message):
    with pytest.raises(UserError, match=message):
        ProcessEnv(PYTHON, name, options)


FLOATS = st.floats(-1e6, 1e6, width=32)


@given(
    arrays(np.float32, (3, 4), elements=FLOATS),
    arrays(np.float32, 5, elements=FLOATS),
    arrays(np.bool_, (3, 2)),
    st.none() | st.tuples(FLOATS, st.booleans(), st.booleans(), st.booleans()),
    st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False)),
)
@settings(max_examples=30, deadline=None)
def test_what_is_packed_is_unpacked(obs, state, avail, result, measures):
    spec = EnvSpec("x:y", "1", {}, 3, 2, 4, 5, 9, True)
    given_result = None if result is None else StepResult(np.float32(result[0]), *result[1:])
    measures = {} if result is None else measures
    content = wire.packed(Observation(obs, state, avail), given_result, measures)
    seen, found, told = wire.unpacked(spec, content)
    for a, b in zip(seen, (obs, state, avail), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and a.flags.writeable
    assert found == given_result and told == measures
    with pytest.raises(ValueError):
        wire.unpacked(spec, content[:-1])


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())),
    st.dictionaries(
        st.text(), arrays(st.sampled_from([np.float32, np.int32, np.bool_]), st.tuples(*[st.integers(0, 3)] * 2))
    ),
)
@settings(max_examples=30, deadline=None)
def test_a_bundle_comes_out_as_it_went_in(about, named):
    content = wire.bundle(about, named)
    told, found = wire.unbundle(content)
    assert told == about and list(found) == list(named)
    for name, array in named.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
    for other in (content + b"x", content[:-1], b""):
        with pytest.raises(ValueError):
            wire.unbundle(other)


def test_frames_come_whole_and_a_closed_pipe_ends():
    reading, writing = os.pipe()
    wire.send(writing, b"S", b"abc")
    assert wire.receive(reading, 1.0) == (b"S", b"abc")
    with pytest.raises(TimeoutError):
        wire.receive(reading, 0.05)
    os.write(writing, wire.HEADER.pack(b"S", 3) + b"a")
    os.close(writing)
    with pytest.raises(EOFError):
        wire.receive(reading, 1.0)
    os.close(reading)
