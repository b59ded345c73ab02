"""What is printed: nothing that data hold steers a terminal, and no terminal is needed for work to go on."""

import io
import os
import subprocess
import sys

import pytest
from rich.table import Table

from ovmse.system.progress import Terminal, printable, say

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eb\udc80"


def test_escape_sequences_are_printed_as_escapes():
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, width=200)
    say(console, EVIL)
    table = Table("name", EVIL, title=EVIL)
    table.add_row(EVIL, EVIL)
    console.print(table)
    console.print(EVIL, markup=False, highlight=False)
    for bad in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\udc80"):
        assert bad not in out.getvalue()
    assert "\\x1b]0;owned" in out.getvalue()


def test_lines_and_tabs_stay():
    assert printable("a\tb\nλ") == "a\tb\nλ" and printable("λ", "ascii") == "\\u03bb"


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&- <&-", "| head -n 1"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.slow
def test_no_traceback_whatever_the_output_is(redirect, encoding):
    command = f"PYTHONIOENCODING={encoding} {sys.executable} -m ovmse datasets {redirect}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Error" not in done.stderr


def test_work_goes_on_when_its_terminal_is_closed():
    keyboard, screen = os.openpty()
    with open(screen, "w") as file:  # noqa: PTH123
        console = Terminal(file=file)
        os.close(keyboard)
        say(console, "nobody sees this")
        say(console, "nor that")
