"""Progress: a bar with the time left in a terminal, a line every 20 seconds elsewhere, nothing without a console."""

import io
import sys
import types

import pytest
from rich.console import Console

from ovmse.system import progress


@pytest.fixture
def wait(monkeypatch):
    """Lets time pass."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def pipe() -> Console:
    return Console(file=io.StringIO(), width=100)


def test_lines_in_a_pipe_come_every_20_seconds_and_tell_the_time_left(wait):
    console = pipe()
    with progress.ProgressBar(console) as bar:
        bar.begin("offline", 10)
        for done in range(1, 6):
            wait(12)
            bar.update(done, f"{done}/10 updates")
        bar.begin("online", 8, done=2)
        wait(30)
        bar.update(2, "2/8 steps [raw]")
    assert console.file.getvalue().splitlines() == [
        "offline: 2/10 updates, 1 min 36 s left",
        "offline: 4/10 updates, 1 min 12 s left",
        "online: 2/8 steps [raw], ? left",
    ]


def test_a_line_that_stays_breaks_the_silence_too(wait):
    console = pipe()
    bar = progress.ProgressBar(console)
    bar.begin("offline", 10)
    wait(15)
    bar.say("an evaluation")
    wait(15)
    bar.update(5, "5/10 updates")
    assert console.file.getvalue() == "an evaluation\n"


def test_a_terminal_shows_a_bar():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with progress.ProgressBar(console) as bar:
        bar.begin("reading", 4)
        bar.update(2, "50 %", "5 s left")
    shown = console.file.getvalue()
    assert all(part in shown for part in ("reading", "━", "50 %", "5 s left"))


@pytest.mark.parametrize(("seconds", "shown"), [(1.0, False), (3.0, True)])
def test_what_is_over_soon_shows_no_bar(wait, seconds, shown):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    for _ in progress.track(range(3), "reading", 3, lambda _: 1, console):
        wait(seconds / 2)
    assert ("reading" in console.file.getvalue()) == shown


@pytest.fixture
def notebook(monkeypatch):
    """What the cell of a notebook shows, output by output, as IPython's displays that can be changed have it."""
    shown = []

    class Handle:
        def __init__(self, content):
            self.place = len(shown)
            shown.append(content["text/plain"])

        def update(self, content, raw):
            shown[self.place] = content["text/plain"]

    display = types.ModuleType("IPython.display")
    display.display = lambda content, raw, display_id: Handle(content)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_a_notebook_shows_one_output_that_changes_in_place(wait, notebook):
    with progress.ProgressBar(Console(force_jupyter=True)) as bar:
        bar.begin("offline", 4)
        wait(1)
        bar.update(1, "1/4 updates")
        assert notebook == ["offline ━━━━━━────────────────── 1/4 updates, 3 s left"]
        bar.say("an evaluation \x1b[2J")
        wait(0.1)
        bar.update(2, "2/4 updates", "soon")
        assert notebook[0].endswith("3 s left")  # it is not drawn more often than it can be seen
    assert notebook == ["an evaluation \\x1b[2J\noffline ━━━━━━━━━━━━──────────── 2/4 updates, soon"]


@pytest.mark.parametrize(("seconds", "shown"), [(1.0, []), (3.0, [""])])
def test_in_a_notebook_too_a_bar_that_waits_leaves_nothing(wait, notebook, seconds, shown):
    for _ in progress.track(range(3), "reading", 3, lambda _: 1, Console(force_jupyter=True)):
        wait(seconds / 2)
    assert notebook == shown


def test_without_a_console_nothing_is_shown(wait, capsys):
    for _ in progress.track(range(3), "reading", 3, lambda _: 1, None):
        wait(30)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(5.4, "5 s"), (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words
