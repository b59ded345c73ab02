"""A little of each part of the fault trials; ``make faults`` does all of them."""

import os
import signal

import pytest

from faults import corruption, crash, disks, hosts, kills, malicious, not_numbers, runs
from ovmse.runs import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with the data, a run that nothing happened to, and its fingerprint."""
    folder = tmp_path_factory.mktemp("faults")
    data = runs.make_data(folder)
    return folder, data, kills.reference(folder, data)


def test_a_run_that_is_killed_damaged_and_stopped_ends_like_an_undisturbed_one(sound, tmp_path):
    folder, data, expected = sound
    out, log = tmp_path / "run", tmp_path / "log"
    for point, nth in (("in the write", 2), ("at the handover", 2)):
        assert runs.end(runs.start(runs.train(out, data), log, crash.install, point, nth)) == -signal.SIGKILL
    process = runs.start(runs.train(out, data), log)
    assert runs.wait_for_work(process, out)
    os.kill(process.pid, signal.SIGTERM)
    assert runs.end(process) == 143
    newest = checkpoints.names(out / checkpoints.FOLDER)[-1] / "seed-1.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    code = runs.end(runs.start(runs.train(out, data), log, disks.break_at, "full", 2, 3_000, out))
    assert disks.judged(out, data, expected, log, code, "full")["runs compared"] == 1
    assert "seed-1.safetensors is not what was written" in log.read_text()


def test_damaged_checkpoints_are_refused(sound, tmp_path):
    run = corruption.stopped_run(tmp_path, sound[1])
    assert sum(corruption.trials(tmp_path, run, 0, 200).values()) == 200


@pytest.mark.parametrize("kind", hosts.KINDS)
def test_host_environments_that_fail_are_restarted(kind):
    hosts.trial(kind)


@pytest.mark.parametrize("name", ["play: obs nan", "gradient: offline, update 7", "limit: online"])
def test_what_is_not_finite_halts_a_run(name, sound, tmp_path):
    not_numbers.trial(tmp_path, sound[1], name)


@pytest.mark.parametrize(
    "name",
    [
        "object array in npz",
        "npz with an absurd shape",
        "tar with a link",
        "networks with a header of 2^63",
        "a run with somebody's environment",
        "a run with code as a setting",
        "a report on a run with markup in its names",
    ],
)
def test_malicious_files_do_nothing(name, sound, tmp_path):
    malicious.trial(tmp_path, sound[0] / "reference", name)
