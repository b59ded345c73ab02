"""The package is built as its plan says: rooms on floors, no knots, and a way through it for a newcomer."""

import importlib.util

import pytest
from support.places import ROOT

spec = importlib.util.spec_from_file_location("structure", ROOT / "tools" / "structure.py")
structure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(structure)


def test_no_import_runs_up_sideways_or_in_a_knot(capsys: pytest.CaptureFixture[str]) -> None:
    assert structure.main() == 0, capsys.readouterr().out


def test_an_import_that_runs_up_is_found(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    package = tmp_path / "src" / "ovmse"
    for name in structure.NEWCOMERS_WAY:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    monkeypatch.setattr(structure, "SOURCE", package)
    monkeypatch.setattr(structure, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    assert structure.main() == 0
    (package / "core" / "values.py").write_text("from ovmse.training import train\n")
    assert structure.main() == 1
    assert "core/values.py (core) imports training, which is no floor below" in capsys.readouterr().out


@pytest.mark.parametrize("name", structure.NEWCOMERS_WAY)
def test_the_newcomer_s_way_is_there_and_explains_itself(name: str) -> None:
    text = (ROOT / "src" / "ovmse" / name).read_text()
    assert text.startswith('"""')
    assert len(text.splitlines()) <= 300


def test_the_newcomer_s_way_is_one_sitting() -> None:
    way = [ROOT / "src" / "ovmse" / name for name in structure.NEWCOMERS_WAY]
    assert sum(len(path.read_text().splitlines()) for path in way) <= 1300
