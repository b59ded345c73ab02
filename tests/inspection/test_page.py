"""`inspect` as a whole: what it prints and writes, that it escapes what data says, and that seeds repeat it."""

import io
import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zarr
from rich.console import Console

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.inspection.inspect import diagnose, inspect
from ovmse.inspection.recommendations import command

NASTY = "<script>alert('x')</script> [red]"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Forty random episodes of two agents whose names and behaviour are markup."""
    rng = np.random.default_rng(0)
    length = rng.integers(3, 8, 40)
    steps, rows = int(length.sum()), int((length + 1).sum())
    terminal = np.zeros(steps, bool)
    terminal[np.cumsum(length) - 1] = True
    path = tmp_path_factory.mktemp("data") / "play"
    spec = EnvSpec(f"toy {NASTY}", "1", {}, 2, 3, 4, 5, 9, True)
    won = rng.random(40) < 0.5
    return Dataset.write(
        path,
        spec=spec,
        obs=rng.normal(size=(rows, 2, 4)),
        state=np.concatenate([rng.normal(size=(rows, 4)), np.zeros((rows, 1))], axis=1),
        avail=np.ones((rows, 2, 3), bool),
        action=rng.integers(0, 3, (steps, 2)),
        reward=np.ones(steps),
        terminal=terminal,
        length=length,
        won=won,
        behaviour=NASTY,
    )


@pytest.fixture(scope="module")
def written(dataset, tmp_path_factory):
    folder, stream = tmp_path_factory.mktemp("out") / "report", io.StringIO()
    figure = folder.parent / "profile.svg"
    names = ["stay", NASTY, "go"]
    report = inspect(str(dataset.path), folder, Console(file=stream, width=80), figure, action_names=names)
    return report, folder, stream.getvalue()


def test_an_inspection_takes_no_jax(dataset, tmp_path):
    """Importing it and compiling with it would take longer than all else."""
    code = "import sys; from ovmse.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, "inspect", str(dataset.path), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads((tmp_path / "out" / "profile.json").read_text())["clone"] is not None
    assert not {"jax", "scipy.stats", "matplotlib.pyplot"} & set(done.stdout.split())


@pytest.mark.slow
def test_everything_is_written(written):
    report, folder, _ = written
    assert report.usable and report.written == (
        folder / "index.html",
        folder / "profile.json",
        folder.parent / "profile.svg",
    )
    assert all(path.is_file() for path in report.written)
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {f"{name}.{kind}" for name in ("episodes", "actions", "play", "order") for kind in ("svg", "png")}
    told = json.loads((folder / "profile.json").read_text())
    assert told["usable"] and told["episodes"] == told["examined"] == 40
    assert told["clone"]["entropy_share"] > 0.8 and told["mixture"]["policies"] in ("one", "unclear")
    assert [f["kind"] for f in told["findings"]] == ["constant state features"]
    first, second = told["command"].splitlines()[:2]
    assert first == "# learns from the log alone; to play, too, import again with --env (see docs/importing.md)"
    assert second.startswith("ovmse train --method ovmse --data ")


@pytest.mark.parametrize(
    ("env", "known"),
    [("smax:3m", True), ("my.game:Team", True), ("pettingzoo:a.b", True), ("log.csv", False), ("smax:", False),
     ("C:/log file", False), ("my log:x y", False), ("a b:c", False)],
)  # fmt: skip
@pytest.mark.slow
def test_the_command_names_only_environments_that_can_be_made(env, known):
    lines = command(env, "it's/my log", ()).splitlines()
    assert shlex.split(lines[-1])[3:] == ["ovmse", *(["--env", env] if known else []), "--data", "it's/my log"]
    assert [line.startswith("# learns from the log alone") for line in lines[:-1]] == [True] * (not known)


@pytest.mark.slow
def test_the_page_needs_nothing_and_escapes_everything(written):
    page = (written[1] / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert page.count("<svg") == 4
    for part in ("Verdict", "Findings", "Returns and lengths", "Who played", "What this cannot tell", "40"):
        assert part in page


@pytest.mark.slow
def test_the_terminal_shows_tables_findings_and_verdict_in_80_columns(written):
    text = written[2]
    before_command = text[: text.index("Next:")]
    assert max(map(len, before_command.splitlines())) <= 80
    for part in ("Joint-SACo", "note constant state features", "40 episodes are few", "broad", NASTY.split()[0][:8]):
        assert part in text
    assert "--change" in text[text.index("Next:") :] and "Written:" in text


@pytest.mark.slow
def test_a_seed_repeats_the_report_and_the_fit_can_be_left_out(dataset, written):
    assert diagnose(dataset.path).profile == written[0].profile
    quick = diagnose(dataset.path, clone=False)
    assert quick.profile["clone"] is None and any("not measured" in s.sentence for s in quick.verdict)


@pytest.mark.slow
def test_wrong_arguments_are_refused(dataset, tmp_path):
    data = str(dataset.path)
    with pytest.raises(UserError, match="must end in .png, .svg, .pdf; got"):
        inspect(data, tmp_path / "out", figure=tmp_path / "profile.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder"):
        inspect(data, tmp_path / "file")
    with pytest.raises(UserError, match="expected 3 names"):
        inspect(data, tmp_path / "out", action_names=["a"], clone=False)


@pytest.mark.slow
def test_nothing_readable_still_makes_a_page(dataset, tmp_path):
    """Rows of NaN in every episode: no profile, but findings on the page and in the numbers."""
    shutil.copytree(dataset.path, tmp_path / "play")
    zarr.open_array(tmp_path / "play" / "obs", mode="r+")[...] = np.nan
    stream = io.StringIO()
    report = inspect(str(tmp_path / "play"), tmp_path / "out", Console(file=stream, width=80))
    assert report.profile is None and not report.usable and report.command == ""
    assert "obs is not finite" in (tmp_path / "out" / "index.html").read_text()
    assert json.loads((tmp_path / "out" / "profile.json").read_text())["findings"][0]["episode"] == 0
    assert "no episode can be read" in stream.getvalue()
