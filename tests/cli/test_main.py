"""The commands as a user types them: what they write, what they print, and how they refuse bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.shared import once

from ovmse.cli.main import main
from ovmse.data.dataset import Dataset

pytestmark = pytest.mark.slow

QUICK = ["--evaluate-episodes", "16", "--hidden", "8", "--embedding", "4", "--hyper", "8", "--batch-episodes", "4"]


def a_log_and_a_run(folder: Path) -> None:
    """A dataset `logs` and a run `run` on it, made by the commands."""
    env = ["--env", "matrix:two_step"]
    # λ = 0: the λ-return of ε = 1 play settles on the safe 7
    collect = "--quality mixed --episodes 60 --behaviour-env-steps 1600 --evaluate-every-env-steps 400 --td-lambda 0"
    assert main(["collect", *env, *collect.split(), "--out", str(folder / "logs")]) == 0
    train = ["--offline-updates", "20", "--online-env-steps", "64", "--evaluate-every-env-steps", "32", "--seeds", "2"]
    assert main(["train", *env, *train, *QUICK, "--data", str(folder / "logs"), "--out", str(folder / "run")]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "commands", a_log_and_a_run)


def test_collect_records_what_it_says(folder: Path) -> None:
    found = Dataset.open(folder / "logs").metadata
    assert found.episodes == 60
    assert found.quality == "mixed"
    assert found.seed == 0
    assert "scratch" in found.behaviour and "ε = 0.05" in found.behaviour
    assert 0 < found.win_rate < 1


def test_every_quality_can_be_collected_also_from_one_run(tmp_path: Path) -> None:
    training = ["--behaviour-env-steps", "1600", "--evaluate-every-env-steps", "400", "--td-lambda", "0"]
    learning = ["--updates-per-collect", "4", "--batch-episodes", "16", "--change", "explore.epsilon=linear(0.5,0.05)"]
    common = ["collect", "--env", "matrix:two_step", "--episodes", "20", *training, *learning]
    also = ["--also", "expert", "medium-replay", "random"]
    assert main([*common, "--quality", "medium", "--out", str(tmp_path / "d"), *also]) == 0
    names = {"medium": "d", "expert": "d-expert", "medium-replay": "d-medium-replay", "random": "d-random"}
    found = {quality: Dataset.open(tmp_path / name) for quality, name in names.items()}
    for quality, dataset in found.items():
        assert dataset.metadata.quality == dataset.metadata.recipe["quality"] == quality
        assert dataset.metadata.recipe["change"] == ["explore.epsilon=linear(0.5,0.05)"]
    assert found["expert"].metadata.win_rate > 0.6  # it explores with ε = 0.05 per agent and step, and else wins
    assert "in 256 fresh episodes" in found["expert"].metadata.behaviour
    assert len(np.unique(found["random"].action, axis=0)) == 4
    assert main([*common, "--quality", "expert", "--out", str(tmp_path / "alone")]) == 0
    assert Dataset.open(tmp_path / "alone").metadata.checksum == found["expert"].metadata.checksum


def test_a_quality_is_collected_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--quality", "medium", "--also", "medium", "--out", str(tmp_path / "d")]) == 2
    assert "each quality can be collected once" in capsys.readouterr().err


def test_a_run_writes_all_that_its_docs_name(folder: Path) -> None:
    run = folder / "run"
    names = {"config.json", "versions.json", "metrics.jsonl", "handover.json", "dataset.json", "summary.json"}
    assert names | {"teams.safetensors", "offline.safetensors"} == {
        path.name for path in run.iterdir() if path.is_file()
    }
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["env_steps"] for row in rows if row["phase"] == "online" and row["seed"] == 0] == [0, 32, 64]
    assert all(row["memory_active_share"] is not None for row in rows if row["env_steps"] > 0)
    handover = json.loads((run / "handover.json").read_text())
    assert [seed["agree"] for seed in handover["seeds"]] == [True, True]
    assert handover["episodes"] == 16


def test_evaluate_report_and_inspect_read_the_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, logs = str(shutil.copytree(folder / "run", tmp_path / "run")), str(folder / "logs")
    assert main(["evaluate", run, "--episodes", "8"]) == 0
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [(row["seed"], row["episodes"]) for row in rows] == [(0, 8), (1, 8)]
    assert main(["report", run, "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().lower().startswith("<!doctype html>")
    assert main(["inspect", logs, "--out", str(tmp_path / "inspected"), "--figure", str(tmp_path / "profile.png")]) == 0
    assert (tmp_path / "profile.png").read_bytes()[:4] == b"\x89PNG"
    assert "Next: " in capsys.readouterr().out


def test_another_runs_offline_phase_is_taken_over(folder: Path, tmp_path: Path) -> None:
    arguments = ["--env", "matrix:two_step", "--method", "finetune", "--online-env-steps", "32", "--seeds", "2", *QUICK]
    given = ["--data", str(folder / "logs"), "--pretrained", str(folder / "run"), "--out", str(tmp_path / "taken")]
    assert main(["train", *arguments, *given]) == 0
    runs = folder / "run", tmp_path / "taken"
    before = [json.loads((run / "handover.json").read_text())["seeds"] for run in runs]
    assert before[0] == before[1]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "both")]) == 0
    figures = {f"{name}.{kind}" for name in ("compare", "profiles") for kind in ("png", "svg")}
    written = {"compare.csv", "compare.md", "marl_eval.json", *figures}
    assert written == {p.name for p in (tmp_path / "both").iterdir()}


def test_a_method_in_the_users_own_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from dataclasses import replace\nfrom ovmse import METHODS, TD\n"
    text += "MINE = replace(METHODS['ovm'], online_target=TD())\n"
    (tmp_path / "my_own_method.py").write_text(text)
    arguments = ["--env", "matrix:two_step", "--data", str(folder / "logs"), "--offline-updates", "2", *QUICK]
    assert main(["train", "--method", "my_own_method:MINE", "--online-env-steps", "16", *arguments]) == 0
    found = json.loads((tmp_path / "runs" / "matrix-two_step-my_own_method-MINE" / "config.json").read_text())
    assert found["method_value"]["online_target"] == {"type": "TD"}


BAD = [
    (["train", "--method", "ovmsee"], "Did you mean 'ovmse'"),
    (["train", "--method", "no_such_module:M"], "no module"),
    (["train", "--method", "json:loads"], "expected an ovmse.Method"),
    (["train", "--method", "scratch", "--env", "smax:3n"], "Did you mean '3m'"),
    (["train", "--method", "scratch", "--env", "smux:3m"], "smux"),
    (["train", "--data", "smax-3m-medum"], "Did you mean 'smax-3m-medium'"),
    (["train"], "give --data"),
    (["train", "--method", "scratch", "--change", "explore.epsilon.start=1.5"], "ε must stay between"),
    (["train", "--data", "smax-3m-medium", "--change", "online_target.weight=linear(2,0)"], "λ must stay between"),
    (["train", "--data", "smax-3m-medium", "--change", "offline_share=constant(1.2)"], "offline share must stay"),
    (["train", "--data", "smax-3m-medium", "--change", "explor.epsilon=1"], "Did you mean 'explore'"),
    (["train", "--data", "smax-3m-medium", "--change", "offline_loss.alpha=-1"], "alpha must be 0 or more"),
    (["train", "--method", "scratch", "--gamma", "1.5"], "gamma"),
    (
        ["train", "--method", "scratch", "--replay-env-steps", "900000000", "--online-env-steps", "900000000"],
        "GiB are available",
    ),
    (["train", "--method", "scratch", "--seeds", "0"], "seeds must be greater than 0"),
    (["train", "--method", "scratch", "--env-settings", "max_step=3"], "max_steps"),
    (["train", "--preset", "dem"], "Did you mean 'demo'"),
    (["train", "--data", "smax-3m-medium", "--env", "matrix:climbing"], "n_agents: expected 3, got 2"),
    (["train", "--data", "smax-3m-medium", "--env-settings", "walls_cause_death=False"], "--allow-version-mismatch"),
    (["collect", "--quality", "medum"], "medium"),
    (["collect", "--env", "matrix:two_step", "--epsilon", "2"], "--epsilon must lie between 0 and 1"),
    (["inspect", "nowhere"], "nowhere"),
    (["report", "nowhere"], "nowhere"),
    (["evaluate", "nowhere"], "nowhere"),
    (["compare", "nowhere", "elsewhere"], "nowhere"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_refused_with_code_2_and_nothing_written(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert said in " ".join(error.replace("│", " ").split())
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "run" / "config.json").read_text()
    assert main(["train", "--env", "matrix:two_step", "--method", "scratch", "--out", str(folder / "run")]) == 2
    assert "in use" in capsys.readouterr().err
    assert (folder / "run" / "config.json").read_text() == before
    assert main(["collect", "--env", "matrix:two_step", "--quality", "random", "--out", str(folder / "logs")]) == 2


def test_ctrl_c_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    size = ["--env", "matrix:two_step", "--method", "scratch", "--online-env-steps", "20000", *QUICK]
    command = [sys.executable, "-m", "ovmse", "train", *size, "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        metrics = out / "metrics.jsonl"
        while process.poll() is None and not metrics.exists():
            time.sleep(0.2)
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert f"--resume {out}" in error
    assert list((out / "checkpoints").iterdir())
    assert not (out / "summary.json").exists()
