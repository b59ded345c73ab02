"""Files on disk: nothing is written or read through a link, and nothing that never ends is waited for."""

import os

import pytest
from support.episodes import write_two_step
from support.synthetic_runs import write_run

from ovmse.cli.main import main
from ovmse.collection.catalogue import listing
from ovmse.core.errors import Unwritable, UserError
from ovmse.system import files, lock

TEXT = "it stays"
STRANGE = {
    "a link out": lambda path, outside: path.symlink_to(outside),
    "a link to a folder": lambda path, outside: path.symlink_to(outside.parent),
    "a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a link to nothing": lambda path, outside: path.symlink_to(outside.with_name("new")),
}


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(TEXT)
    yield tmp_path / "outside" / "file"
    assert [x.name for x in (tmp_path / "outside").iterdir()] == ["file"] and (
        tmp_path / "outside" / "file"
    ).read_text() == TEXT


@pytest.mark.parametrize("strange", STRANGE)
def test_no_lock_is_written_through_a_link(strange, tmp_path, outside):
    (tmp_path / "run").mkdir()
    STRANGE[strange](tmp_path / "run" / lock.NAME, outside)
    with pytest.raises(Unwritable, match=lock.NAME), lock.held(tmp_path / "run"):
        pass


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize(
    "read", [files.read_json, files.read_json_lines, lambda path: files.append_json_lines(path, [{}])]
)
def test_json_is_read_from_regular_files_alone(read, strange, tmp_path, outside):
    STRANGE[strange](tmp_path / "x.json", outside)
    with pytest.raises(UserError, match=r"x\.json is a link, a pipe or a device"):
        read(tmp_path / "x.json")


@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_written_takes_the_place_of_a_link(strange, tmp_path, outside):
    STRANGE[strange](tmp_path / "page.html", outside)
    files.write_text(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").read_text() == "new" and not (tmp_path / "page.html").is_symlink()


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["report.html", "figures", "metrics.jsonl", "teams", ".ovmse-lock", "checkpoints"])
def test_a_run_with_a_link_is_refused_by_the_links_name(name, strange, tmp_path, outside, capsys):
    run = write_run(tmp_path / "run", seeds=1)
    if (run / name).exists():
        (run / name).unlink()
    STRANGE[strange](run / name, outside)
    for command in (["report", str(run)], ["evaluate", str(run)], ["train", "--resume", str(run)]):
        assert main(command) == 2
        assert str(run / name) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", ["obs/c.0.0.0", "zarr.json", "reward/zarr.json", "README"])
def test_a_dataset_with_a_link_is_refused_and_the_others_are_listed(name, strange, tmp_path, outside, capsys):
    for dataset in ("bad", "good"):
        write_two_step(tmp_path / "all" / dataset)
    path = tmp_path / "all" / "bad" / name
    path.unlink(missing_ok=True)
    STRANGE[strange](path, outside)
    bad = str(tmp_path / "all" / "bad")
    for command in (["inspect", bad, "--no-clone"], ["train", "--data", bad]):
        assert main([*command, "--out", str(tmp_path / "out")]) == 2
    found = {entry.name: entry.damage for entry in listing(tmp_path / "all") if entry.kind == "local"}
    assert found.pop(str(tmp_path / "all" / "good")) == ""
    assert all(str(path) in damage for damage in found.values()) and (found or name == "zarr.json")


def test_a_log_may_be_behind_links_but_must_end(tmp_path, capsys):
    os.mkfifo(tmp_path / "log.csv")
    assert main(["import", str(tmp_path / "log.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "pipe" in capsys.readouterr().err
    assert main(["import", "/dev/zero", "--format", "npz", "--out", str(tmp_path / "out")]) == 2
    (tmp_path / "logs").mkdir()
    os.mkfifo(tmp_path / "logs" / "a.npz")
    assert main(["import", str(tmp_path / "logs"), "--out", str(tmp_path / "out")]) == 2


def test_rows_are_on_the_disk_when_they_are_added(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    (tmp_path / "rows").touch()
    files.append_json_lines(tmp_path / "rows", [{"a": 1}])
    assert synced == [(tmp_path / "rows").stat().st_ino]
