"""Runs that are stopped on purpose, and what must be equal of two runs."""

import signal

import pytest

from ovmse.training.display import Display


def assert_same_rows(found, expected, rel):
    assert len(found) == len(expected)
    for a, b in zip(timeless(found), timeless(expected), strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            near = pytest.approx(value, rel=rel, abs=rel) if isinstance(value, float) else value
            assert a[name] == near, name


class StopIn(Display):
    """Presses Ctrl-C at the first chunk of a phase."""

    def __init__(self, phase):
        super().__init__()
        self.wanted, self.now, self.stops = phase, "", 0

    def phase(self, name, done, total, unit):
        self.now = name

    def advance(self, done, clock, evaluations=0):
        if self.now == self.wanted and not self.stops:
            self.stops += 1
            signal.raise_signal(signal.SIGINT)


def timeless(rows):
    return [{name: value for name, value in row.items() if name != "wall_s"} for row in rows]
