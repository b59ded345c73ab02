"""Every snippet of the README runs as it stands, in order, in one folder."""

import re
import shlex
from pathlib import Path

import pytest
from support.places import ROOT

from ovmse.cli.main import main

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.S | re.M)
TARGETS = re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.M)
SMALL = "--offline-updates 4 --online-env-steps 200 --evaluate-episodes 8 --evaluate-every-updates 4 --hidden 8"


def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, text in SNIPPETS:
        if language == "python":
            exec(compile(text, "README.md", "exec"), {})
            continue
        assert language == "sh", f"a snippet in {language} that nothing runs"
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "make":  # what make runs is in the Makefile and in the other tests
                assert words[1] in TARGETS, line
                continue
            assert words[0] == "ovmse"
            small = SMALL.split() if words[1] == "train" else []  # the same command on a small budget
            assert main([*words[1:], *small]) == 0, line
            commands += 1
    assert commands >= 4


def test_the_method_in_the_readme_is_the_one_that_ships() -> None:
    from ovmse import METHODS

    scope: dict[str, object] = {}
    exec(compile(next(text for language, text in SNIPPETS if "OVMSE = " in text), "README.md", "exec"), scope)
    assert scope["OVMSE"] == METHODS["ovmse"]
