"""What a newcomer's slips are answered with: one message that names the slip as it was typed, and what to do."""

import dataclasses
import io
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from ovmse.cli.main import COMMANDS, Plain, main
from ovmse.collection.settings import Collecting
from ovmse.config import Config, LearnerConfig
from ovmse.core.errors import option, typed_command
from ovmse.ope.settings import Selecting
from ovmse.system import jax_setup
from ovmse.system.progress import Terminal, printable
from ovmse.tuning.settings import Tuning


def refusal(capsys, *words):
    """What a command says on the error stream before it stops with code 2, on one line."""
    try:
        code = main([*words])
    except SystemExit as stop:  # tyro's own refusals
        code = stop.code
    said = capsys.readouterr()
    assert code == 2 and said.out == "" and "Traceback" not in said.err
    return " ".join(said.err.replace("│", " ").split())


NEEDED = {"select": ["run", "--data", "log"]}
SETTINGS = {"train": (Config, LearnerConfig), "tune": (Tuning,), "collect": (Collecting,), "select": (Selecting,)}
NUMBERS = [
    (command, option(field.name), field.type in (int, int | None))
    for command, kinds in SETTINGS.items()
    for kind in kinds
    for field in dataclasses.fields(kind)
    if field.type in (int, float, int | None, float | None) and not (kind is Tuning and hasattr(Config, field.name))
]


@pytest.mark.parametrize(("command", "typed", "whole"), NUMBERS, ids=[" ".join(case[:2]) for case in NUMBERS])
def test_a_number_out_of_range_gives_one_line_that_names_the_option_as_typed(command, typed, whole, capsys):
    for value in ("-1", str(2**31) if whole else "nan"):
        said = refusal(capsys, command, *NEEDED.get(command, ()), typed, value)
        assert said.startswith(f"error: {typed} must ") and said.endswith(f"; got {value if whole else float(value)}.")


@pytest.mark.parametrize("words", ["inspect smax-3m-medium", "datasets mix smax-3m-medium --out no"])
def test_a_seed_below_0_is_refused(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *words.split(), "--seed", "-1") == "error: --seed must be 0 or more; got -1."
    assert refusal(capsys, *words.split(), "--seed", str(2**70)).startswith("error: --seed must be at most 2147483647;")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("inspect", "DATA"),
        ("evaluate", "RUN"),
        ("import", "LOG"),
        ("datasets export", "DATA"),
        ("datasets make", "NAME"),
    ],
)
def test_what_is_missing_has_a_name(words, missing, capsys):
    assert f"Missing from ovmse {words}: {missing} " in refusal(capsys, *words.split())


def test_a_misspelt_command_is_answered_with_the_nearest(capsys):
    assert refusal(capsys, "trainn").startswith("error: unknown command 'trainn'. Did you mean 'train'")
    assert "Did you mean 'list'" in refusal(capsys, "datasets", "lst")
    assert "Did you mean '--version'" in refusal(capsys, "--vresion")
    assert "Perhaps you meant: --seeds" in refusal(capsys, "train", "--sedes", "3")


def test_the_version_is_printed_without_importing_jax():
    script = "import sys; from ovmse.cli.main import main; assert main(['--version']) == 0 and 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"ovmse {version('ovmse')}\n"


def test_without_a_word_all_commands_are_shown(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(name in said for name in COMMANDS)


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("no_color", "out", "err", "coloured"),
    [
        ("", Screen, Screen, True),
        ("1", Screen, Screen, False),
        ("", Screen, io.StringIO, False),
        ("", io.StringIO, Screen, False),
    ],
)
def test_an_error_box_has_colours_only_on_a_terminal_that_is_to_have_them(no_color, out, err, coloured, monkeypatch):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", out())
    monkeypatch.setattr(sys, "stderr", err())
    with pytest.raises(SystemExit):
        main(["train", "--sedes", "3"])
    assert "Unrecognized" in sys.stderr.getvalue()
    assert ("\x1b[" in sys.stderr.getvalue()) is coloured


def test_an_environment_that_is_not_there_is_named_before_the_data(capsys):
    said = refusal(capsys, "train", "--env", "smacx:3m")
    assert said.startswith("error: unknown environment 'smacx:3m'. Did you mean 'smax:3m'") and "--data" not in said


@pytest.mark.parametrize(
    "words", [["train", "--out", ""], ["train", "--out="], ["inspect", ""], ["import", "x", "--out", ""]]
)
def test_a_path_of_no_letters_is_refused_and_not_the_current_directory(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, *words).startswith("error: an empty word")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "new\nline", "it's", "$(touch z)`x`;&", "\x1b[31m\\n1", "-rf", "\udcff", "ü"])
def test_a_command_to_type_next_names_its_path_on_one_line_as_a_shell_reads_it(name):
    typed = typed_command("train", "--resume", Path(name))
    assert printable(typed) == typed and "\n" not in typed
    read = subprocess.run(["bash", "-c", typed.replace("ovmse", "printf '%s\\0'", 1)], capture_output=True, check=True)
    assert [Path(os.fsdecode(word)) for word in read.stdout.split(b"\0")[:-1]] == [
        Path("train"),
        Path("--resume"),
        Path(name),
    ]


def test_warnings_are_one_line_each_and_the_compilation_cache_is_named_once(capsys):
    show = Plain(Terminal(stderr=True))
    for cause in ("jit_a': ZstdError: x", "jit_b': OSError: y"):
        show(
            UserWarning(f"Error reading persistent compilation cache entry for '{cause}"),
            UserWarning,
            "compiler.py",
            782,
        )
    show("other", UserWarning, "x.py", 1)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: a compiled program that was kept can't be used") and "ZstdError: x" in first
    assert second == "warning: other"


def test_where_no_compiled_program_can_be_kept_one_warning_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("OVMSE_COMPILATION_CACHE", str(tmp_path / "file" / "x"))
    with pytest.warns(UserWarning, match="can't be kept in .*file/x .Not a directory.") as found:
        jax_setup.use()
    assert len(found) == 1
