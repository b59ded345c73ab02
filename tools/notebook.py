"""Run the notebook of the docs anew, and write it back with what its cells give: ``python tools/notebook.py``."""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells, run in order in `folder`; nothing in it tells of this machine."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=900, record_timing=False, resources={"metadata": {"path": str(folder)}}).execute()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        nbformat.write(executed(NOTEBOOK, Path(name)), NOTEBOOK)
