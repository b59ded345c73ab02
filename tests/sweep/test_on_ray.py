"""Sweeps by Ray: by what stands for it, and by Ray itself where it is installed."""

import sys
import threading

import pytest
from support.ray_stand_in import RayError, TaskCancelledError, ray_or_stand_in, stand_in
from support.sweeps import Place

from ovmse.cli.main import main
from ovmse.core.errors import UserError
from ovmse.sweep.given import grid_of
from ovmse.sweep.on_ray import Task
from ovmse.sweep.run import command, sweep
from ovmse.system.signals import Interrupted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray's own
@pytest.mark.parametrize("real", [False, True])
def test_a_sweep_by_ray_is_stopped_and_ends_as_a_local_one_does(place, tmp_path, monkeypatch, real):
    ray_or_stand_in(monkeypatch, real)
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    local, place = place.results()[0], Place(tmp_path)
    ctrl_c = threading.Thread(target=place.press_ctrl_c, args=("offline/*/config.json",))
    ctrl_c.start()
    with pytest.raises(Interrupted) as stopped:
        sweep(place.grid, place.out, workers=1, ray="local")
    ctrl_c.join()
    assert stopped.value.code == 130 and f"--out {place.out} --workers 1 --ray" in str(stopped.value)
    assert not list(place.out.glob("*/*/.ovmse-lock")) and not place.ends()  # saved, and not under way
    assert [one.state.name for one in sweep(place.grid, place.out, ray="local")] == ["finished"]
    assert place.results() == [local]


def test_without_ray_or_with_an_address_that_nobody_answers_nothing_is_written(tmp_path, monkeypatch, capsys):
    place = Place(tmp_path)
    words = ["sweep", str(place.grid), "--out", str(place.out)]
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*words, "--ray"]) == 2
    assert "--ray needs the package ray: pip install 'ovmse[ray]'" in " ".join(capsys.readouterr().err.split())

    def refuse(**given):
        assert given["address"] == "10.0.0.1:6379" and "num_cpus" not in given
        raise ConnectionError("no\nanswer")

    ray = stand_in()
    ray.init = refuse
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(UserError, match="Ray at '10.0.0.1:6379' can't be used: no answer"):
        sweep(place.grid, place.out, ray="10.0.0.1:6379")
    assert not place.out.exists()
    again = command(grid_of(place.grid), place.out, ray="10.0.0.1:6379")
    assert again == f"ovmse sweep {place.grid} --out {place.out} --ray-address 10.0.0.1:6379"


@pytest.mark.parametrize(
    ("error", "code", "told"), [(TaskCancelledError(), 130, ""), (RayError("a\nb"), 1, "Ray: a b")]
)
def test_a_task_that_ray_lost_is_no_failure_of_the_run(tmp_path, error, code, told):
    ray, log = stand_in(), tmp_path / "log"
    asked = []

    def get(reference):
        raise error

    ray.wait, ray.get, ray.cancel = lambda some, timeout: (asked, []), get, lambda reference: asked.append(reference)
    task = Task(ray, "reference", log)
    assert task.poll() is None
    task.close()
    task.close()
    assert asked == ["reference"] and task.poll() == task.wait() == code
    assert (log.read_text().strip() if log.exists() else "") == told
