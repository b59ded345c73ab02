"""The notebook of the docs runs as it stands, and what is shown of it is what its cells give."""

import importlib.util
import json
import re

import pytest
from support.places import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(cell):
    """The kinds of what a cell gave, in order, and its plain text; not what JAX says where its cache is shared."""
    given = [x for x in cell["outputs"] if "persistent compilation cache" not in x.get("text", "")]
    kinds = [(x["output_type"], x.get("name"), sorted(x.get("data", ()))) for x in given]
    return kinds, "".join("".join(x.get("data", {}).get("text/plain", "")) for x in given)


def test_the_notebook_tells_nothing_of_the_machine_it_ran_on():
    notebook = json.loads(NOTEBOOK.read_text())
    assert not re.findall(r"/(?:home|root|tmp|Users|work|var|usr|opt)/\S+", NOTEBOOK.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["execution_count"] for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert sum("image/png" in x.get("data", ()) for cell in code(notebook) for x in cell["outputs"]) == 2
    assert NOTEBOOK.stat().st_size < 400_000


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_and_gives_what_it_shows(tmp_path):
    pytest.importorskip("nbclient")
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "tools" / "notebook.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    shown, now = json.loads(NOTEBOOK.read_text()), tool.executed(NOTEBOOK, tmp_path)
    assert [outputs(cell)[0] for cell in code(now)] == [outputs(cell)[0] for cell in code(shown)]
    progress = next(outputs(cell)[1] for cell in code(now) if "ovmse.train(" in "".join(cell["source"]))
    assert "online 512/500 env steps" in progress or "online 500/500 env steps" in progress
    assert (tmp_path / "runs" / "matrix-two_step-ovmse" / "report.html").is_file()
