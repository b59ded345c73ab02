"""docs/logs-only.md runs as it stands, in order, in one folder, on small budgets; who plays has NumPy alone.

What is there twice, but for a number or a name, runs once: the third round, and the third candidate.
"""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
from support.places import ROOT

from ovmse.cli.main import main
from ovmse.runs import rounds_file

pytestmark = pytest.mark.slow

LINES = [
    line
    for text in re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "logs-only.md").read_text(), re.S | re.M)
    for line in text.splitlines()
]
SMALL = {
    "train": "--offline-updates 4 --evaluate-every-updates 4 --fqe-updates 4 --hidden 8",
    "select": "--updates 4 --hidden 8",
    "improve": "--updates 4 --fits 2 --evaluate-every-updates 4 --fqe-updates 4",
    "export": "--steps 100",
}
ALONE = "import os, runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0])); "
ALONE += "runpy.run_path(sys.argv[0], run_name='__main__'); "
ALONE += "found = {'jax', 'ovmse'} & set(sys.modules); sys.exit(f'imported {found}' if found else 0)"


def next_round(line):
    """The same command a round later."""
    return re.sub(r"(field-|round-|team-|--seed )(\d)", lambda found: f"{found[1]}{int(found[2]) + 1}", line)


def run(line):
    words = shlex.split(line)
    if words[0] == "python":
        fewer = ["--episodes", "6"] if "--episodes" in words else []
        subprocess.run([sys.executable, "-c", ALONE, *words[1:], *fewer], check=True)
    else:
        assert main([*words[1:], *SMALL.get(words[1], "").split()]) == 0, line


def test_the_page_from_logs_to_a_team_that_works_runs(tmp_path, monkeypatch):
    trains = [line for line in LINES if line.startswith("ovmse train")]
    assert len(trains) == 3 and trains[1].replace("omiga", "offline") == trains[0]
    third = LINES[-5:-1]
    assert [next_round(line) for line in LINES[-9:-5]] == third and LINES[-1] == "ovmse report runs/round-3"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    for line in LINES[:-5]:
        if line != trains[1]:
            run(line.replace("runs/omiga ", ""))
    found = rounds_file.read(tmp_path / "runs" / "round-2")
    assert [one.number for one in found.rounds] == [1, 2] and [one.episodes for one in found.rounds] == [6, 6]
    assert (tmp_path / "team-2" / "policy.py").is_file()
