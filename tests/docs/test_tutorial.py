"""The tutorial runs as it stands, in order, in one folder; training on a small budget."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from support.places import ROOT

from ovmse.cli.main import main
from ovmse.data.dataset import Dataset

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M)
SMALL = "--offline-updates 4 --online-env-steps 200 --evaluate-episodes 8 --evaluate-every-updates 4 --hidden 8"


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    printed = ""
    for language, text in SNIPPETS:
        if language in ("python", "toml"):
            Path(text.partition("\n")[0].removeprefix("# ")).write_text(text)
        elif language == "text":
            assert text == printed, "what the import prints is not what the page says"
        else:
            for line in text.splitlines():
                words = shlex.split(line)
                if words[0] == "python":
                    runpy.run_path(words[1])
                    continue
                capsys.readouterr()
                assert main([*words[1:], *(SMALL.split() if words[1] == "train" else [])]) == 0, line
                printed = capsys.readouterr().out
    sys.modules.pop("corridor", None)
    assert {"robots-inspect/index.html", "runs/robots/report.html", "runs/robots/evaluation.json"} <= {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")
    }
    old, new = Dataset.open("robots"), Dataset.open("runs/again/experience/seed-0")
    assert not old.terminal[old.step_start + old.length - 1][old.length == 20].all()  # cut by the limit
    mixed = Dataset.open("robots-2").metadata
    assert mixed.episodes - 2 * len(new.length) in (0, 1) and mixed.steps > new.metadata.steps


def test_the_snippets_on_importing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ovmse.data.formats.pickles import RECIPE

    pytest.importorskip("pettingzoo")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "importing.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    assert f"```text\n{RECIPE}```" in page
    scope: dict[str, object] = {}
    for text in snippets:
        exec(compile(text, "importing.md", "exec"), scope)
    assert len(Dataset.open("generated").length) == len(Dataset.open("by-hand").length) == 3
    spread = Dataset.open("spread")
    assert spread.length.tolist() == [25] * 4 and not spread.terminal.any()
    assert spread.spec.name == "pettingzoo:mpe2.simple_spread_v3"
