"""Checkpoints on disk: written whole, verified, pruned; the lock; what is tidied away."""

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from safetensors.numpy import save_file

from ovmse import config
from ovmse.core import settings
from ovmse.core.errors import UserError
from ovmse.runs import checkpoints
from ovmse.system import lock

ROWS = [{"phase": "offline", "seed": 0, "updates": 3}]


def write(out: Path, number: int = 0, **more) -> Path:
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text('{"type": "Config"}')

    def seeds(folder: Path) -> None:
        save_file({"x": np.arange(100) + number}, folder / "seed-0.safetensors")

    about = {"phase": "offline", "rows_in_use": [], "experience": [], "clock": {}, "ran_on": {"jax": "1"}, "run": {}}
    return checkpoints.write(out, about | {"number": number}, ROWS, seeds, **{"keep": 2, **more})


def test_the_newest_are_kept_and_the_handovers(tmp_path):
    for number in range(5):
        write(tmp_path, number, handover=number == 1)
    assert [path.name for path in checkpoints.names(tmp_path / checkpoints.FOLDER)] == [
        "000002-handover",
        "000004",
        "000005",
    ]
    found = checkpoints.newest(tmp_path, pytest.fail)
    assert found.about["number"] == 4 and found.rows == ROWS and found.path.name == "000005"
    assert not list(tmp_path.rglob(".*"))


def test_sha256sum_reads_the_checksums(tmp_path):
    path = write(tmp_path)
    lines = (path / checkpoints.SUMS).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["about.json", "metrics.jsonl", "seed-0.safetensors"]
    assert all(checkpoints.checksum(path / name) == expected for expected, name in (line.split("  ") for line in lines))


DAMAGE = {
    "a file less": lambda path: (path / "seed-0.safetensors").unlink(),
    "a file more": lambda path: (path / "seed-1.safetensors").write_bytes(b""),
    "no checksums": lambda path: (path / checkpoints.SUMS).unlink(),
    "empty checksums": lambda path: (path / checkpoints.SUMS).write_bytes(b""),
    "a checksum less": lambda path: _sums(path, lambda lines: lines[1:]),
    "a checksum cut off": lambda path: (path / checkpoints.SUMS).write_text((path / checkpoints.SUMS).read_text()[:-1]),
    "capital letters": lambda path: (path / checkpoints.SUMS).write_text((path / checkpoints.SUMS).read_text().upper()),
    "a path in the checksums": lambda path: _sums(path, lambda lines: [*lines, "0" * 64 + "  ../seed"]),
    "no text in the checksums": lambda path: (path / checkpoints.SUMS).write_bytes(b"\xff\xfe\n"),
}


def _sums(path, change):
    (path / checkpoints.SUMS).write_text("\n".join(change((path / checkpoints.SUMS).read_text().splitlines())) + "\n")


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, damage):
    whole, broken = write(tmp_path, 0), write(tmp_path, 1)
    damage(broken)
    said = []
    assert checkpoints.newest(tmp_path, said.append).path == whole
    assert len(said) == 1 and str(broken) in said[0]


@given(st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("run"))
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        checkpoints.read(path)


def test_where_all_are_damaged_nothing_is_loaded(tmp_path):
    (write(tmp_path) / "about.json").write_text("{}")
    with pytest.raises(UserError, match="all of its checkpoints are damaged"):
        checkpoints.newest(tmp_path, lambda text: None)
    assert checkpoints.newest(tmp_path / "other", pytest.fail) is None


def test_a_failed_write_leaves_the_last_one_and_nothing_half_written(tmp_path):
    before = write(tmp_path)

    def full(folder: Path) -> None:
        (folder / "seed-0.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left.*000001, is intact.*--resume"):
        checkpoints.write(tmp_path, {}, [], full, keep=2)
    assert checkpoints.newest(tmp_path, pytest.fail).path == before
    assert [path.name for path in (tmp_path / checkpoints.FOLDER).iterdir()] == ["000001"]


def test_what_a_killed_process_left_is_tidied_away(tmp_path):
    write(tmp_path)
    (tmp_path / "checkpoints" / ".000002.77").mkdir()
    (tmp_path / ".summary.json.77").write_text("{")
    (tmp_path / ".hidden").write_text("mine")
    checkpoints.tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "checkpointed", ".hidden", "config.json"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000001"]
    (tmp_path / "summary.json").write_text("{}")
    checkpoints.tidy(tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_directory_that_is_no_runs_is_left_alone(tmp_path):
    """Names like a run's, in somebody's project."""
    (tmp_path / "summary.json").write_text("{}")
    for folder in ("checkpoints", ".cache.1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine").write_text("mine")
    (tmp_path / ".metrics.json.77").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    checkpoints.tidy(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "config.json").write_text('{"type": "another"}')
    checkpoints.tidy(tmp_path)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "config.json"])


def test_a_checkpoint_is_not_written_where_the_run_has_vanished(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        checkpoints.write(tmp_path, {}, [], lambda folder: None, keep=2)
    assert not list(tmp_path.iterdir())


def test_copies_of_checkpoints_are_none(tmp_path):
    path = write(tmp_path)
    for name in ("000001.bak", "copy", "000002-old"):
        (tmp_path / checkpoints.FOLDER / name).mkdir()
    assert checkpoints.names(tmp_path / checkpoints.FOLDER) == [path]


def test_a_difference_asks_for_a_word(tmp_path):
    write(tmp_path)
    found = checkpoints.newest(tmp_path, pytest.fail)
    checkpoints.check_same(found, {"jax": "1"}, False, pytest.fail)
    with pytest.raises(UserError, match="jax '1' there, '2' here.*--allow-inexact-resume"):
        checkpoints.check_same(found, {"jax": "2"}, False, pytest.fail)
    said = []
    checkpoints.check_same(found, {"jax": "2", "cores": 4}, True, said.append)
    assert "jax '1' there" in said[0] and "cores" in said[0]


# The lock


def hold(folder, ready, leave):
    with lock.held(folder):
        ready.set()
        leave.wait(60)


def test_a_second_process_is_refused_with_the_first_ones_name(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, leave))
    process.start()
    assert ready.wait(60)
    with (
        pytest.raises(UserError, match=f"in use by process {process.pid} on {os.uname().nodename}"),
        lock.held(tmp_path),
    ):
        pass
    process.kill()
    process.join()
    said = []
    with lock.held(tmp_path, said.append):  # stale: its holder is gone
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
    assert len(said) == 1 and str(process.pid) in said[0]
    assert not list(tmp_path.iterdir())
    with lock.held(tmp_path, pytest.fail):
        pass


def test_a_lock_file_of_nonsense_is_stale(tmp_path):
    (tmp_path / lock.NAME).write_text('{"pid": ')
    with lock.held(tmp_path, pytest.fail):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()


def test_differences_are_named_by_path():
    there = {"a": {"b": 1, "c": [1]}, "d": None}
    assert settings.differences(there, there) == []
    here = {"a": {"b": 2, "c": [1]}, "e": 3}
    assert settings.differences(there, here) == ["a.b 1 there, 2 here", "e 'not given' there, 3 here"]


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path):
    own = settings.describe(config.Config(batch_episodes=16, seed=3))
    saved = checkpoints.Saved(tmp_path, {"run": checkpoints.settings_of(own)}, [])
    checkpoints.check_own(saved, own | {"out": "elsewhere", "checkpoint_minutes": 1.0})
    checkpoints.check_own(saved, own | {"online_env_steps": 60_000})  # trained for longer
    for name in ("batch_episodes", "seed", "seeds", "online_env_steps", "offline_updates", "episodes_per_collect"):
        with pytest.raises(UserError, match=f"another run's checkpoint: {name} .* there, 77 here"):
            checkpoints.check_own(saved, own | {name: 77})
    with pytest.raises(UserError, match="learner.learning_rate"):
        checkpoints.check_own(saved, own | {"learner": own["learner"] | {"learning_rate": 1.0}})


def test_settings_that_an_older_run_lacks_count_as_the_defaults():
    now = settings.describe(config.Config())
    younger = ("workers", "rounds_ahead", "held_out", "guard_margin")
    older = {name: value for name, value in now.items() if name not in younger}
    older["learner"] = {name: now["learner"][name] for name in ("type", "hidden", "gamma", "learning_rate")}
    assert checkpoints.settings_of(older) == checkpoints.settings_of(now)
    with pytest.raises(UserError, match="learner.bootstrap_at_limit True there, False here"):
        checkpoints.goes_further(older, now | {"learner": now["learner"] | {"bootstrap_at_limit": False}})


def test_a_run_may_grow_in_its_budgets_alone():
    there = settings.describe(config.Config(online_env_steps=300))
    assert not checkpoints.goes_further(there, there)
    assert not checkpoints.goes_further(there, there | {"checkpoint_minutes": 1.0, "schedule_env_steps": 300})
    assert checkpoints.goes_further(there, there | {"online_env_steps": 301})
    for change in ({"online_env_steps": 299}, {"seeds": 2}, {"online_env_steps": 400, "batch_episodes": 16}):
        with pytest.raises(UserError, match=f"{list(change)[-1]} .* there"):
            checkpoints.goes_further(there, there | change)
    with pytest.raises(UserError, match="online_env_steps 'many' there"):
        checkpoints.goes_further(there | {"online_env_steps": "many"}, there)


def test_a_large_checkpoint_is_kept_only_when_asked(tmp_path):
    path = write(tmp_path)
    assert checkpoints.to_keep(path, however_large=False) == path.name
    size = sum(file.stat().st_size for file in path.iterdir())
    assert checkpoints.to_keep(path, however_large=False, small=size - 1) is None
    assert checkpoints.to_keep(path, however_large=True, small=size - 1) == path.name


def test_an_unfinished_run_without_its_checkpoints_is_refused(tmp_path):
    (tmp_path / checkpoints.FOLDER).mkdir()
    checkpoints.check_there(tmp_path)
    (tmp_path / checkpoints.FOLDER).rmdir()
    with pytest.raises(UserError, match="checkpoints is missing"):
        checkpoints.check_there(tmp_path)


def test_an_unfinished_run_whose_checkpoints_were_removed_is_refused(tmp_path):
    shutil.rmtree(write(tmp_path))
    with pytest.raises(UserError, match="checkpoints is empty: the unfinished run"):
        checkpoints.check_there(tmp_path)
    write(tmp_path)
    checkpoints.check_there(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    checkpoints.tidy(tmp_path)
    assert not (tmp_path / checkpoints.MARK).exists()


def test_what_a_checkpoint_says_of_itself_is_in_its_types(tmp_path):
    path = write(tmp_path)
    found = json.loads((path / checkpoints.ABOUT).read_text())
    for name, value in {"phase": "later", "rows_in_use": {}, "clock": {"spent": [1]}, "ran_on": 3, "run": None}.items():
        (path / checkpoints.ABOUT).write_text(json.dumps(found | {name: value}))
        _sums(path, lambda lines: [f"{checkpoints.checksum(path / line[66:])}  {line[66:]}" for line in lines])
        with pytest.raises(UserError, match=f"about.json: {name}"):
            checkpoints.read(path)
