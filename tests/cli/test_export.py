"""`ovmse export`: what leaves acts by itself as JAX does, proves it, and is written whole or not at all."""

import ast
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.episodes import SMALL, write_two_step
from support.policies import write_run

import ovmse
from ovmse import envs
from ovmse.cli.main import main
from ovmse.core.errors import UserError

pytestmark = pytest.mark.slow

SPEC = envs.make("matrix:two_step").spec
STEPS = 300


def a_run(folder, method="ovmse", **settings):
    """A run on the two-step game, and its dataset beside it."""
    data = write_two_step(folder / "data")
    write_run(folder / "run", method, SPEC, learner=SMALL, data=data, **settings)
    return str(folder / "run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and what was exported of its second seed; tests only read them."""
    folder = tmp_path_factory.mktemp("export")
    words = ["--to", str(folder / "team"), "--seed", "1", "--steps", str(STEPS), "--onnx"]
    assert main(["export", a_run(folder), *words]) == 0
    return folder


def checked(team):
    """The exit code and the words of an export's own check, in a process that knows nothing of this library."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, team / "check.py"], capture_output=True, text=True, env=outside, cwd=team)
    return done.returncode, done.stdout + done.stderr


def copy_of(team, to):
    to.mkdir()
    for file in team.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_an_export_proves_itself_in_numpy_and_onnx(folder):
    names = {"policy.json", "weights.safetensors", "policy.py", "explore.py", "check.py", "check.npz", "policy.onnx"}
    assert {path.name for path in (folder / "team").iterdir()} == names
    code, said = checked(folder / "team")
    assert code == 0, said
    for line, name in zip(said.splitlines(), ("policy.py", "policy.onnx"), strict=True):
        assert line.startswith(f"{name}: ") and " 0 others;" in line and line.endswith(": fine")
    with np.load(folder / "team" / "check.npz") as recorded:
        steps, episodes = len(recorded["first"]), int(recorded["first"].sum())
        assert steps >= STEPS and steps == 2 * episodes  # the game has two steps
    assert f"policy.py: {steps} steps of {episodes} episodes, {2 * steps} actions" in said


def test_what_leaves_is_short_and_imports_numpy_alone(folder):
    for name in ("policy.py", "explore.py"):
        text = (folder / "team" / name).read_text()
        assert len(text.splitlines()) < 150
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert found <= {"hashlib", "json", "pathlib", "typing", "numpy"}


def test_the_contract_says_what_goes_in_and_where_it_came_from(folder):
    said = json.loads((folder / "team" / "policy.json").read_text())
    assert said["agents"] == ["agent_0", "agent_1"] and said["actions"] == ["0", "1"]
    arrays, n, a = said["arrays"], SPEC.n_agents, SPEC.n_actions
    assert arrays["observations"]["shape"] == [n, SPEC.obs_size] and arrays["available"]["shape"] == [n, a]
    assert arrays["memory.hidden"]["shape"] == [n, SMALL.hidden]
    weights = (folder / "team" / "weights.safetensors").read_bytes()
    assert said["weights"]["sha256"] == hashlib.sha256(weights).hexdigest()
    came = said["came_from"]
    assert (came["run"], came["seed"], came["team"], came["method"]) == ("run", 1, "last", "ovmse")
    assert came["environment"]["name"] == "matrix:two_step" and came["dataset"]["name"] == "data"


def test_an_export_can_be_loaded_like_its_run(folder):
    run, team = ovmse.load(folder / "run", seed=1), ovmse.load(folder / "team")
    obs = np.random.default_rng(0).normal(size=(5, SPEC.n_agents, SPEC.obs_size))
    assert np.array_equal(run.act(obs)[0], team.act(obs)[0])
    state = np.zeros((5, SPEC.state_size), np.float32)
    np.testing.assert_array_equal(run.values(obs, state=state).q_tot, team.values(obs, state=state).q_tot)
    with pytest.raises(UserError, match="is the export of seed 1; got seed 0"):
        ovmse.load(folder / "team", seed=0)


def test_weights_that_were_changed_are_found(folder, tmp_path):
    team = copy_of(folder / "team", tmp_path / "team")
    file = team / "weights.safetensors"
    weights = load_file(file)
    weights["agent.head.bias"] = -weights["agent.head.bias"] + [5.0, -5.0]
    save_file({name: array.astype(np.float32) for name, array in weights.items()}, file)
    code, said = checked(team)
    assert code == 1 and "its checksum differs" in said
    contract = json.loads((team / "policy.json").read_text())
    contract["weights"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (team / "policy.json").write_text(json.dumps(contract))
    code, said = checked(team)
    assert code == 1 and said.splitlines()[0].endswith("NOT THE SAME")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"agents": ["agent_0", "agent_0"]}, "agents: expected 2 names, all different"),
        ({"mixer": "quix"}, "mixer"),
        ({"networks": [{"prefix": "", "agents": [0]}]}, r"expected each of 2 agents to play by one; got \[0\]"),
        ({"format": 2}, "format"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(folder, tmp_path, change, says):
    team = copy_of(folder / "team", tmp_path / "team")
    contract = json.loads((team / "policy.json").read_text())
    (team / "policy.json").write_text(json.dumps(contract | change))
    with pytest.raises(UserError, match=says):
        ovmse.load(team)


def test_onnx_takes_any_number_of_episodes(folder):
    onnxruntime = pytest.importorskip("onnxruntime")
    session, team = onnxruntime.InferenceSession(folder / "team" / "policy.onnx"), ovmse.load(folder / "team")
    n, h, rng = SPEC.n_agents, SMALL.hidden, np.random.default_rng(1)
    for episodes in (1, 7):
        memory, hidden = None, np.zeros((episodes, n, h), np.float32)
        last = np.full((episodes, n), -1)
        for _ in range(3):
            obs = rng.normal(size=(episodes, n, SPEC.obs_size)).astype(np.float32)
            legal = np.ones((episodes, n, SPEC.n_actions), bool)
            given = {"observations": obs, "available": legal, "last_action": last, "hidden": hidden}
            last, hidden = session.run(["action", "next_hidden"], given)
            action, memory = team.act(obs, legal, memory)
            assert np.array_equal(action, last)
            np.testing.assert_allclose(hidden, memory.hidden, atol=1e-5)


@pytest.mark.parametrize("method", ["reincarnation", "rlpd", "omiga"])
def test_two_networks_critics_and_policies_leave_as_well(tmp_path, method, capsys):
    run = a_run(tmp_path, method)
    assert main(["export", run, "--to", str(tmp_path / "team"), "--steps", "40", "--onnx"]) == 0
    said = capsys.readouterr().out
    assert "128 steps of matrix:two_step" in said and f"Next: python {tmp_path / 'team' / 'check.py'}" in said
    code, said = checked(tmp_path / "team")
    assert code == 0 and said.count(": fine") == 2, said


def test_without_its_environment_the_steps_are_the_dataset_s(tmp_path, capsys):
    run = a_run(tmp_path)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"env": "matrix:two_step"', '"env": "plant:Plant"'))
    assert main(["export", run, "--to", str(tmp_path / "team")]) == 0
    said = capsys.readouterr().out
    assert "plant:Plant" in said and "Steps of the dataset are recorded instead" in said and "32 steps of " in said
    assert checked(tmp_path / "team")[0] == 0


def test_it_refuses_what_it_cannot_do_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    run, team = a_run(tmp_path), tmp_path / "team"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()

    def refused(*words):
        assert main(["export", run, *words]) == 2
        assert not team.exists() and not list(tmp_path.glob(".team*"))
        return capsys.readouterr().err

    assert "output directory in use" in refused("--to", str(taken))
    assert "seeds 0 to 1; got seed 9" in refused("--to", str(team), "--seed", "9")
    assert "--steps must be greater than 0" in refused("--to", str(team), "--steps", "0")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        assert 'pip install "ovmse[onnx]"' in refused("--to", str(team), "--onnx")
    with monkeypatch.context() as patch:

        def full(*words, **arrays):
            raise OSError(28, "No space left on device")

        patch.setattr(np, "savez_compressed", full)
        assert "No space left on device" in refused("--to", str(team), "--steps", "10")
