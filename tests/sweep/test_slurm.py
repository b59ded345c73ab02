"""A sweep as job arrays, run by what stands for SLURM; and one run of a sweep by its name."""

import os

import pytest
from support.sweeps import Place

from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.sweep.given import grid_of
from ovmse.sweep.run import opened
from ovmse.sweep.slurm import options_of
from ovmse.system import cores, files

SBATCH = """#!/bin/sh
for script; do :; done
echo "$@" >> {calls}
count=$(sed -n "s/#SBATCH --array=1-//p" "$script")
for task in $(seq "$count"); do SLURM_ARRAY_TASK_ID=$task sh "$script"; done
echo "17;cluster"
"""


@pytest.fixture(autouse=True)
def cores_stay_as_they_are(monkeypatch):
    """What a task does to its process, and this one is to be spared."""
    monkeypatch.setattr(cores, "claimed", lambda: 0)
    monkeypatch.setattr(cores, "pin", lambda core: None)


def test_options_are_those_of_sbatch_without_their_dashes():
    assert options_of(["partition=gpu", "--time=2:00:00 --mem=4G", "requeue"]) == [
        "partition=gpu", "time=2:00:00", "mem=4G", "requeue",
    ]  # fmt: skip
    for word in ("grid.toml", "array=1-3", "x=1\ny", ""):
        with pytest.raises(UserError, match="--slurm '"):
            options_of([word] if word else ["''"])


@pytest.mark.slow
def test_tasks_of_slurm_end_as_a_local_sweep_does(place, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    local, place, calls = place.results()[0], Place(tmp_path), tmp_path / "calls"
    words = ["sweep", str(place.grid), "--out", str(place.out)]
    (tmp_path / "bin").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        assert main([*words, "--slurm", "--slurm-submit"]) == 2
    assert "there is no sbatch" in capfd.readouterr().err and not place.out.exists()

    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(calls=calls))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert main([*words, "--slurm", "partition=cpu", "time=1:00:00"]) == 0
    said = capfd.readouterr().out
    assert "1 cell, " in said and f"Next: sh {place.out}/slurm/submit.sh" in said and not calls.exists()
    script = (place.out / "slurm" / "cells-1.sh").read_text()
    assert "#SBATCH --array=1-1\n" in script and "#SBATCH --partition=cpu\n#SBATCH --time=1:00:00\n" in script

    assert main([*words, "--slurm", "--slurm-submit"]) == 0
    assert f"job 17: {place.out}/slurm/offline-1.sh" in capfd.readouterr().out
    assert calls.read_text().splitlines() == [
        f"--parsable {place.out}/slurm/offline-1.sh",
        f"--parsable --dependency=afterany:17 {place.out}/slurm/cells-1.sh",
    ]
    assert main([*words, "--table"]) == 0
    assert place.results() == [local] and local["status"] == "finished"

    ends = place.ends()
    capfd.readouterr()
    assert main([*words, "--slurm", "--slurm-submit"]) == 0
    assert "nothing is left to run" in capfd.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([*words, "--cell", *ends])
    assert end.value.code == 0 and "is finished" in capfd.readouterr().out and place.ends() == ends


def test_a_cell_is_found_by_its_name_and_waits_for_its_offline_phase(tmp_path, capsys):
    place = Place(tmp_path)
    words = ["sweep", str(place.grid), "--out", str(place.out), "--cell"]
    assert main([*words, "any", "--slurm", "--ray"]) == 2
    assert "--cell and --slurm and --ray: give one of them" in capsys.readouterr().err
    assert main([*words, "matrix-two_step-finetune-3"]) == 2
    name = capsys.readouterr().err.replace("\n", "").split("Did you mean '")[1].split("'")[0]
    with pytest.raises(SystemExit) as end:
        main([*words, name])
    assert end.value.code == 1
    assert "has not ended: first run --cell matrix-two_step-offline-3-" in " ".join(capsys.readouterr().out.split())
    assert not place.out.exists()
    with opened(place.out, grid_of(place.grid)):
        files.write_json(place.out / "failed" / f"{name}.json", {"reason": "diverged"})
    with pytest.raises(SystemExit) as end:
        main([*words, name])
    assert end.value.code == 2 and "with --retry-failed alone: diverged" in capsys.readouterr().out
