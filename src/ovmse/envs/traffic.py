"""Traffic signals, and the rules by which those in use decide. Nothing here needs SUMO.

A rule is a function of what the signals see and of what is legal: the first features of
`ovmse.envs.sumo.TrafficSignals`, (N, O), and masks (N, A), to a green for each signal, (N,).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

HALF_DECISION = 5 / 60
"""Minutes before the planned end from which on `fixed_time` changes: the nearest of decisions that are 10 s apart."""


class Signal(NamedTuple):
    """A signal with a choice. A greens, L lanes that lead to it, M lanes that lead away.

    name: SUMO's id. greens: its states in which something is green, a letter per link, as SUMO has them. planned (A,):
    seconds that its own plan has from each green to the next. lanes, exits: the lanes' ids. serves (A, L), feeds
    (A, M): whether a green lets cars of a lane in, and out to a lane.
    """

    name: str
    greens: tuple[str, ...]
    planned: np.ndarray
    lanes: tuple[str, ...]
    exits: tuple[str, ...]
    serves: np.ndarray
    feeds: np.ndarray


def signal_of(name: str, plan: Sequence[tuple[str, float]], links: Sequence[Sequence[tuple[str, ...]]]) -> Signal:
    """A signal by its own plan, states and their seconds, and the (lane, exit, ...) that each letter of them rules.

    Greens are the states in which something is green and nothing is about to change.
    """
    planned, green = dict[str, float](), ""
    for state, seconds in plan:
        if set(state) & set("Gg") and not set(state) & set("yYu"):
            green = state
            planned.setdefault(green, 0.0)
        if planned:
            planned[green] += seconds
    ruled = [(i, link[0], link[1]) for i, group in enumerate(links) for link in group]
    lanes, exits = tuple(dict.fromkeys(x for _, x, _ in ruled)), tuple(dict.fromkeys(x for _, _, x in ruled))
    serves, feeds = np.zeros((len(planned), len(lanes)), bool), np.zeros((len(planned), len(exits)), bool)
    for a, green in enumerate(planned):
        for i, lane, leads_to in ruled:
            if green[i] in "Gg":
                serves[a, lanes.index(lane)] = feeds[a, exits.index(leads_to)] = True
    return Signal(name, tuple(planned), np.array([*planned.values()]), lanes, exits, serves, feeds)


def yellow(now: str, then: str) -> str:
    """The state between two greens: what loses its green is yellow, all else is as it was."""
    return "".join("y" if a in "Gg" and b not in "Gg" else a for a, b in zip(now, then, strict=True))


def fixed_time(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Each green in turn, for as long as the signal's own plan has it. obs: (N, O); avail: (N, A); returns (N,)."""
    a = avail.shape[1]
    green, minutes, planned = obs[:, :a].argmax(axis=1), obs[:, 3 * a], obs[:, 3 * a + 1]
    after = np.arange(a) > green[:, None]
    following = np.where((avail & after).any(axis=1), (avail & after).argmax(axis=1), avail.argmax(axis=1))
    return np.where(minutes > planned - HALF_DECISION, following, green)


def longest_queue(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """The green before which most cars stand. obs: (N, O); avail: (N, A); returns (N,)."""
    a = avail.shape[1]
    return _most(obs[:, a : 2 * a], obs[:, :a], avail)


def max_pressure(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """The green of highest pressure: the cars that stand before it less those that stand where it leads to.

    Source: Varaiya, "Max pressure control of a network of signalized intersections", 2013, with queues of lanes in
    place of those of turns, and the same saturation flow everywhere. obs: (N, O); avail: (N, A); returns (N,).
    """
    a = avail.shape[1]
    return _most(obs[:, 2 * a : 3 * a], obs[:, :a], avail)


def _most(score: np.ndarray, green: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """The legal green of the highest score; the present one where it is among several."""
    return np.where(avail, score + 1e-3 * green, -np.inf).argmax(axis=1)
