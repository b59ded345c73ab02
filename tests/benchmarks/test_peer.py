"""The comparison with the yardstick: what is counted, which compilation counts, and every comparison on a tiny size."""

from collections import namedtuple

import pytest
from benchmarks import busy, options, peer, process
from benchmarks.floors import Ceiling
from benchmarks.jobs import Process, Setting
from benchmarks.peer import Side, Turn
from benchmarks.programs import Progress
from benchmarks.records import Record
from benchmarks.yardstick import Scheme

from ovmse import envs
from ovmse.config import Config, LearnerConfig

pytestmark = pytest.mark.slow

SETTING = Setting(options.Options(repeats=2, seconds=1e-3), Ceiling(1e9, 1e9), cores=1)
SMALL = LearnerConfig(hidden=7, embedding=4, hyper=6)
TINY = Scheme(envs=2, window=5, updates=2, batch=4, windows=4, learner=SMALL)


def test_a_side_counts_its_work():
    side, turns = peer.counted(lambda units: None, Progress(3, 5)), []
    call = peer.watched(side, turns)
    call(2)
    call(4)
    assert [(turn.played, turn.trained) for turn in turns] == [(6, 10), (12, 20)]
    assert all(turn.wall > 0 and turn.cpu >= 0 for turn in turns)


def test_the_faster_compilation_of_the_yardstick_counts(monkeypatch):
    def turns(cpu):
        return [Turn(wall=2 * cpu, cpu=cpu, played=10, trained=100)] * 2

    monkeypatch.setattr(peer, "in_turns", lambda *_: {"ovmse": turns(1.0), "slow": turns(9.0), "fast": turns(4.0)})
    found = peer.compared(SETTING, "smax:3m", "equal reuse", dict.fromkeys(("ovmse", "slow", "fast")))
    figures = {x.name: x.value.median for x in found}
    assert figures["ovmse, equal reuse, cpu per env step"] == pytest.approx(0.1)
    assert figures["yardstick, equal reuse, wall per trained step"] == pytest.approx(0.08)
    assert figures["yardstick ÷ ovmse, equal reuse, cpu per env step"] == pytest.approx(4.0)
    peers = [x for x in found if isinstance(x, Record) and x.name.startswith("yardstick")]
    assert {x.notes["compiled_with"] for x in peers} == {"fast"} and len(peers) == 4
    assert all(x.notes["trained_per_played_step"] == 10 for x in peers)


@pytest.fixture
def tiny(monkeypatch):
    """Small networks and little of everything, at both sides."""
    monkeypatch.setattr(peer, "Scheme", lambda: TINY)
    monkeypatch.setattr(peer, "XLA_OPTIONS", {"XLA's defaults": None})
    monkeypatch.setattr(peer, "REPLAY_ENV_STEPS", 40)

    def small(**given):
        return Config(learner=SMALL, **{**given, "batch_episodes": 4, "episodes_per_collect": 2})

    monkeypatch.setattr(peer, "Config", small)


def test_phases_are_measured_at_equal_reuse(tiny):
    found = peer.equal_reuse(SETTING, envs.make("matrix:two_step"))
    records = [x for x in found if isinstance(x, Record)]
    reuse = {x.name.split(",")[0]: x.notes["trained_per_played_step"] for x in records}
    assert reuse["ovmse"] == pytest.approx(TINY.reuse)
    assert reuse["yardstick"] == pytest.approx(TINY.reuse * 4 / 5)  # the last step of a window is not learnt from
    assert len(records) == 8 and all(x.value.low > 0 for x in records)


def test_one_update_is_measured(tiny, monkeypatch):
    seen = {}

    def compared(setting, env, label, sides: dict[str, Side], kinds):
        seen.update(sides)
        return []

    monkeypatch.setattr(peer, "compared", compared)
    monkeypatch.setattr(peer.programs, "offline_updates", lambda config, spec, *_: lambda units: spec.episode_limit)
    peer.one_update(SETTING, envs.make("matrix:two_step"))
    assert seen["ovmse"].run(3) == TINY.window - 1
    seen["XLA's defaults"].run(3)
    assert seen["ovmse"].done() == seen["XLA's defaults"].done() == (0, 3 * 4 * 4)


def test_jobs_are_there_on_one_core_alone():
    asked = options.Options(only=("peer",), maps=("3m", "27m_vs_30m"))
    names = [job.name for job in process.all_jobs(asked, Process(1, single=True, whole=False))]
    assert names == ["peer, equal reuse, 3m", "peer, own defaults, 3m", "peer, one update, 3m"]
    assert process.all_jobs(asked, Process(2, single=False, whole=True)) == []


def test_what_others_took_is_what_the_cores_did_beyond_this_process(monkeypatch):
    monkeypatch.setattr(busy, "usable_cores", lambda: [0, 1])
    found = busy.since(busy.Reading(0.0, 1.0, 5.0), busy.Reading(10.0, 3.0, 13.0))
    assert found["taken_by_others"] == pytest.approx((8 - 2) / 20)
    assert busy.in_words({"taken_by_others": 0.3, "load_average": (1.0, 2.0, 3.04)}).startswith("others took 30 %")
    times = namedtuple("times", ("user", "system", "idle", "iowait", "guest"))  # noqa: PYI024
    assert busy.at_work(times(1.0, 2.0, 4.0, 8.0, 16.0)) == 3.0
