"""Which run of a sweep is started when, without processes; and which runs share an offline phase."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ovmse.config import Config, LearnerConfig
from ovmse.methods import METHODS
from ovmse.methods.method import ONLINE
from ovmse.methods.overrides import change_method
from ovmse.sweep import plan
from ovmse.sweep.grid import Cell
from ovmse.sweep.plan import ONLINE_SETTINGS, Job, depends_on, placed, with_offline_phase
from ovmse.sweep.pool import Pool, ended_by
from ovmse.sweep.results import TO_DO, State, state_of
from ovmse.sweep.show import seconds_left
from ovmse.system import files

CELL = Config(env="smax:3m", data="d")


class Played(subprocess.Popen):
    """Stands for a process, which ends when `coming` is its exit code."""

    def __init__(self):
        self.returncode, self.coming, self.asked, self.stdin = None, None, False, self

    def poll(self):
        self.returncode = self.coming
        return self.returncode

    def close(self):
        self.asked = True

    def kill(self):
        self.coming = -signal.SIGKILL

    wait, __del__ = poll, lambda self: None


class Stage:
    """A sweep's directory with a pool whose processes are `Played`, by the name of their run."""

    def __init__(self, out, jobs, cores=2, **options):
        for name in (plan.CELLS, plan.OFFLINE, plan.LOGS, plan.FAILED):
            (out / name).mkdir(parents=True)
        self.processes, self.cores, self.said = {}, {}, []
        self.pool = Pool(jobs, range(cores), self.said.append, self.start, **options)

    def start(self, job, core):
        self.cores[job.name] = core
        return self.processes.setdefault(job.name, Played())

    def end(self, job, code=0, reason=None):
        job.run.mkdir(exist_ok=True)
        if reason is not None:
            files.write_json(job.failure, {"reason": reason})
        elif code == 0:
            files.write_json(job.run / "summary.json", {})
        self.processes[job.name].coming = code

    @property
    def running(self):
        return [one.job.name for one in self.pool.running]


def job(out, name, after=None, needs=1, compiling=0):
    folder = "cells" if name.startswith("cell") else "offline"
    return Job(dataclasses.replace(CELL, out=out / folder / name), after, needs, compiling)


@pytest.fixture
def jobs(tmp_path):
    """Two cells that share an offline phase, and one that has none."""
    first = job(tmp_path, "offline")
    return [job(tmp_path, "cell-0", first), job(tmp_path, "cell-1", first), job(tmp_path, "cell-2")]


def test_an_offline_phase_runs_once_and_first_and_what_needs_it_waits(tmp_path, jobs):
    stage = Stage(tmp_path, jobs)
    stage.pool.turn()
    assert stage.running == ["offline", "cell-2"] and sorted(stage.cores.values()) == [0, 1]
    stage.end(jobs[0].after)
    assert [one.name for one in stage.pool.turn()] == ["offline"]
    assert stage.running == ["cell-2", "cell-0"] and stage.cores["cell-0"] == stage.cores["offline"]
    for one in (jobs[2], jobs[0]):
        stage.end(one)
    stage.pool.turn()
    stage.end(jobs[1])
    stage.pool.turn()
    assert not stage.pool.waiting and not stage.pool.running and not stage.pool.stopped


@pytest.mark.parametrize(("code", "reason"), [(2, "diverged"), (-9, None), (1, None)])
def test_what_needs_an_offline_phase_that_did_not_end_is_not_run_and_the_others_are(tmp_path, jobs, code, reason):
    stage = Stage(tmp_path, jobs, cores=1)
    stage.pool.turn()
    stage.end(jobs[0].after, code, reason)
    stage.pool.turn()
    assert stage.running == ["cell-2"] and set(stage.processes) == {"offline", "cell-2"}
    stage.end(jobs[2])
    stage.pool.turn()
    states = [state_of(one, stage.pool.stopped) for one in jobs]
    assert [state.name for state in states] == [*(["failed" if reason else "stopped"] * 2), "finished"]
    assert ("its offline phase failed: diverged" if reason else "offline phase was stopped") in states[0].reason
    assert [one.last_log.stem for one in jobs] == ["offline", "offline", "cell-2"]
    assert [state_of(one, {}).name for one in jobs[:2]] == ["failed" if reason else "to do"] * 2  # another time


def test_what_was_killed_goes_on_another_time_and_what_failed_does_not(tmp_path, jobs):
    stage = Stage(tmp_path, jobs[2:])
    stage.pool.turn()
    stage.end(jobs[2], -signal.SIGKILL)
    stage.pool.turn()
    assert state_of(jobs[2], stage.pool.stopped) == State("stopped", ended_by(-signal.SIGKILL, jobs[2].log))
    assert state_of(jobs[2], {}) == TO_DO
    files.write_json(jobs[2].failure, {"reason": "out of luck"})
    assert state_of(jobs[2], {}) == State("failed", "out of luck")


def test_no_more_runs_at_a_time_than_there_is_memory_for(tmp_path):
    jobs = [job(tmp_path, f"cell-{i}", needs=3, compiling=3) for i in range(4)]
    stage = Stage(tmp_path, jobs, cores=4, memory=10)
    stage.pool.turn()
    assert stage.running == ["cell-0"]  # two need 12 while they compile
    stage.pool.turn()
    assert len(stage.said) == 1 and "memory for 1 run at a time" in stage.said[0]
    stage.end(jobs[0])
    stage.pool.turn()
    assert stage.running == ["cell-1", "cell-2", "cell-3"]  # the programs of this kind are compiled now


def test_a_run_that_needs_more_than_all_memory_runs_alone(tmp_path):
    stage = Stage(tmp_path, [job(tmp_path, f"cell-{i}", needs=30) for i in range(2)], memory=10)
    stage.pool.turn()
    assert stage.running == ["cell-0"]


def test_asked_to_stop_nothing_more_is_started(tmp_path, jobs):
    stage = Stage(tmp_path, jobs, cores=1)
    stage.pool.turn()
    stage.pool.turn(stopping=True)
    assert stage.processes["offline"].asked and not stage.pool.waiting
    stage.end(jobs[0].after, 143)
    stage.pool.turn(stopping=True)
    assert not stage.running and set(stage.processes) == {"offline"}


def test_the_last_line_of_a_log_is_the_reason(tmp_path):
    (tmp_path / "log").write_text("begins\nthe disk is full\n\n")
    assert ended_by(1, tmp_path / "log") == "ended with code 1: the disk is full"
    assert "SIGKILL" in ended_by(-9, tmp_path / "log") and "SIGSEGV" in ended_by(-11, tmp_path / "log")


def test_the_time_left_by_hand():
    # kind a takes 10 s, b 30 s, an unknown kind their mean of 20 s
    assert seconds_left({"a": 10.0, "b": 30.0}, ["a", "c"], [("b", 25.0)], 2) == (10 + 20 + 5) / 2
    assert seconds_left({"a": 10.0}, [], [("a", 4.0)], 8) == 6.0  # one run does not share its time
    assert seconds_left({"a": 10.0}, [], [("a", 40.0)], 1) == 0.0
    assert seconds_left({}, ["a"], [], 1) is None


# Which runs are the same


def offline_of(method="ovmse", change=(), **settings):
    config = Config(**{"data": "d", **settings}, method=method, change=change)
    return depends_on(config, change_method(METHODS[method], change))


SHARED = [
    {"method": "finetune"}, {"method": "se"}, {"method": "kept"}, {"method": "jsrl"},
    {"change": ("explore.epsilon=constant(0.5)", "online_target.weight.end=0.3")},
    {"online_env_steps": 3, "schedule_env_steps": 5, "updates_per_collect": 3, "replay_env_steps": 500},
    {"evaluate_every_env_steps": 1, "keep_experience": True, "guard_margin": 0.1, "guard_patience": 3},
    {"checkpoint_minutes": 1.0, "out": Path("x")},
]  # fmt: skip
APART = [
    {"method": "icq"}, {"method": "cfcql"}, {"method": "rlpd", "change": ("offline_loss=CQL(1.0)",)},
    {"change": ("offline_loss.alpha=1",)}, {"change": ("parts.critics=2",)}, {"method": "reincarnation"},
    {"seed": 1}, {"seeds": 2}, {"env": "smax:2s3z"}, {"env_settings": ("max_steps=9",)}, {"data": "e"},
    {"offline_updates": 1}, {"batch_episodes": 16}, {"evaluate_every_updates": 7}, {"evaluate_episodes": 7},
    {"episodes_per_collect": 4}, {"learner": LearnerConfig(gamma=0.9)}, {"loss_limit": 5.0}, {"keep_teams": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", SHARED, ids=str)
def test_what_is_read_online_alone_shares_the_offline_phase(settings):
    assert offline_of(**settings) == offline_of()


@pytest.mark.parametrize("settings", APART, ids=str)
def test_what_the_offline_phase_reads_keeps_it_apart(settings):
    assert offline_of(**settings) != offline_of()


def test_the_settings_that_are_read_online_are_settings():
    assert set(Config.__dataclass_fields__) >= ONLINE_SETTINGS
    assert set(METHODS["ovmse"].__dataclass_fields__) >= set(ONLINE)


@pytest.mark.slow
def test_a_cell_is_known_by_its_settings_alone(tmp_path):
    one, same = Cell({"a": "x"}, CELL), Cell({"b": "y", "c": "z"}, dataclasses.replace(CELL, checkpoint_minutes=3.0))
    other = Cell({"a": "x"}, dataclasses.replace(CELL, online_env_steps=7))
    assert placed(one, tmp_path).run == placed(same, tmp_path).run != placed(other, tmp_path).run
    program = (
        "from pathlib import Path; from ovmse.config import Config; from ovmse.sweep.grid import Cell; "
        f"from ovmse.sweep.plan import placed; "
        f"config = Config(env='smax:3m', data='d'); print(placed(Cell({{}}, config), Path({str(tmp_path)!r})).run)"
    )
    again = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == str(placed(one, tmp_path).run)  # in another process, too


def test_methods_without_an_offline_phase_and_runs_that_name_one_are_alone(tmp_path):
    for config in (
        Config(method="scratch"),
        Config(env="smax:3m", method="rlpd", data="d"),
        dataclasses.replace(CELL, pretrained=tmp_path),
    ):
        found = with_offline_phase(placed(Cell({}, config), tmp_path))
        assert found.after is None and found.config.pretrained == config.pretrained
    found = with_offline_phase(placed(Cell({}, CELL), tmp_path))
    assert found.after.run == found.config.pretrained and found.after.config.change == ("online_target=None",)
