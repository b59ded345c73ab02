"""Signals and the rules by which they decide, worked out by hand: no SUMO is needed."""

import numpy as np
import pytest

from ovmse.envs import traffic

PLAN = [("Grr", 30.0), ("yrr", 3.0), ("rrr", 2.0), ("rGg", 20.0), ("ryy", 4.0), ("Grr", 10.0), ("yrr", 3.0)]
LINKS = [[("west", "out", "via")], [("north", "out", "via")], [("north", "south", "via")]]


def seen(green, standing, pressure, minutes=0.0, planned=1.0):
    """What one signal sees, of three greens at most."""
    shown = np.eye(3)[green]
    return np.array([[*shown, *standing, *pressure, minutes, planned, 0.5, 0.5]], np.float32)


ANY = np.ones((1, 3), bool)
TWO = np.array([[True, True, False]])


def test_a_signal_is_read_from_its_plan():
    signal = traffic.signal_of("centre", PLAN, LINKS)
    assert signal.greens == ("Grr", "rGg") and signal.planned.tolist() == [48.0, 24.0]  # yellow and all-red with them
    assert signal.lanes == ("west", "north") and signal.exits == ("out", "south")
    assert signal.serves.tolist() == [[True, False], [False, True]]
    assert signal.feeds.tolist() == [[True, False], [True, True]]


def test_a_letter_without_a_link_rules_nothing():
    signal = traffic.signal_of("centre", [("Gr", 5.0), ("rG", 5.0)], [[("west", "out", "via")], []])
    assert signal.serves.tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("now", "then", "between"), [("GGr", "rGG", "yGr"), ("Ggr", "gGr", "Ggr"), ("Gsr", "srG", "ysr")]
)
def test_what_loses_its_green_is_yellow_before(now, then, between):
    assert traffic.yellow(now, then) == between


def test_the_longest_queue_goes_first_and_a_draw_changes_nothing():
    assert traffic.longest_queue(seen(0, (0.2, 0.5, 0.1), (0, 0, 0)), ANY).tolist() == [1]
    assert traffic.longest_queue(seen(2, (0.5, 0.1, 0.5), (0, 0, 0)), ANY).tolist() == [2]
    assert traffic.longest_queue(seen(0, (0.2, 0.5, 0.9), (0, 0, 0)), TWO).tolist() == [
        1
    ]  # the third is none of its own


def test_max_pressure_counts_what_stands_behind_too():
    """Green 1 has more cars before it, but they have nowhere to go."""
    assert traffic.max_pressure(seen(0, (0.4, 0.6, 0.0), (0.3, -0.2, 0.0)), ANY).tolist() == [0]
    assert traffic.max_pressure(seen(0, (0.4, 0.6, 0.0), (-0.3, -0.2, 0.9)), TWO).tolist() == [1]


@pytest.mark.parametrize(
    ("green", "seconds", "planned", "avail", "expected"),
    [
        (0, 20, 30, ANY, 0),
        (0, 30, 30, ANY, 1),
        (0, 30, 34, ANY, 1),  # 30 s is the decision nearest to 34 s
        (0, 30, 36, ANY, 0),
        (2, 40, 30, ANY, 0),  # the first follows the last
        (1, 40, 30, TWO, 0),  # of those that it has
        (1, 40, 30, np.array([[False, True, False]]), 1),  # no other is legal yet
    ],
)
def test_fixed_times_are_those_of_the_signals_own_plan(green, seconds, planned, avail, expected):
    view = seen(green, (0, 0, 0), (0, 0, 0), seconds / 60, planned / 60)
    assert traffic.fixed_time(view, avail).tolist() == [expected]
