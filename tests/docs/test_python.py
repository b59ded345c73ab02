"""What docs/python.md shows runs as it stands, in order; the training that it shows is that of the notebook."""

import re
from types import SimpleNamespace

import pytest
from support.places import ROOT
from support.synthetic_runs import write_run

import ovmse
from ovmse.config import Config
from ovmse.training.trackers import NEEDS

TEXT = (ROOT / "docs" / "python.md").read_text()


def test_the_page_on_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in ("ovmse", "finetune"):
        write_run(tmp_path / "runs" / f"smax-3m-{method}", method=method, evaluations=5)
    rows = []

    def train(config: Config, on_row):
        on_row({"phase": "online", "env_steps": 0, "return": 1.0})
        rows.append(config)
        return SimpleNamespace(out=tmp_path / "runs" / "smax-3m-ovmse")

    scope = {}
    for text in re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M):
        if "ovmse.train(" in text:
            monkeypatch.setattr(ovmse, "train", train, raising=False)
        exec(compile(text, "python.md", "exec"), scope)
    assert rows[0].data == "smax-3m-medium"
    assert (tmp_path / "both.png").is_file() and (tmp_path / "runs" / "smax-3m-ovmse" / "report.html").is_file()


@pytest.mark.parametrize("name", NEEDS)
def test_every_tracker_has_a_line_and_an_extra(name):
    assert f'| `{name}` | `pip install "ovmse[{name}]"` |' in TEXT
    extras = re.search(rf"^{name} = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.M)
    assert f'"{NEEDS[name]}' in extras[1]
