"""Rules in use of the worlds of studies/worlds.py, from what the agents see to an action for each.

Each is a function for ``ovmse collect --rule``: from observations (N, O) and legal actions (N, A) to actions (N,).
"""

from collections import deque
from functools import cache

import numpy as np

# ---- level-based foraging: a team of two


def forage(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Both go to the food to which their ways are shortest together, and load it.

    An observation is row, column and level of each food, then of the agent itself, then of the other one. The actions
    are: none, north, south, west, east, load.
    """
    foods, own, other = obs[:, :-6].reshape(len(obs), -1, 3), obs[:, -6:-4], obs[:, -3:-1]
    return np.array([_towards_food(f[f[:, 2] > 0, :2], *ends) for f, *ends in zip(foods, own, other, strict=True)])


def _towards_food(foods: np.ndarray, own: np.ndarray, other: np.ndarray) -> int:
    if not len(foods):
        return 0
    ways = np.abs(foods - own).sum(1) + np.abs(foods - other).sum(1)
    food = foods[np.lexsort((foods[:, 1], foods[:, 0], ways))[0]]  # both break ties alike
    if np.abs(food - own).sum() == 1:
        return 5
    steps = own + np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
    taken = [any((step == x).all() for x in (*foods, other)) or (step < 0).any() for step in steps]
    return 1 + int(np.argmin(np.abs(steps - food).sum(1) + 100.0 * np.array(taken)))


# ---- the robot warehouse, "tiny": 10 x 11 cells, two blocks of shelves

WIDTH, HEIGHT = 10, 11
GOALS = frozenset({(4, 10), (5, 10)})
FORWARD, LEFT, RIGHT, LOAD = 1, 2, 3, 4
AHEAD = ((0, -1), (1, 0), (0, 1), (-1, 0))
"""What a step ahead is (x, y), clockwise from north."""
FACES = (0, 2, 3, 1)
"""The library's directions, up, down, left and right, as places in `AHEAD`."""
UP, DOWN, ALONG = range(9, 0, -1), range(9), range(3)
ROUNDS = [[(x, y) for y in UP] + [(x + i, 0) for i in ALONG] + [(x + 3, y) for y in DOWN] for x in (0, 6)]
ROUNDS = [[*way, *((way[-1][0] - i, 9) for i in ALONG)] for way in ROUNDS]
"""The ways around the left block and around the right one, from which all of its shelves come in sight."""


def deliver(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Fetch a requested shelf that is in sight, bring it to a goal, put it back where one is missing; else each agent
    goes around a block.

    An observation is the agent's place, whether it carries, its direction (4), whether it is on a way between shelves,
    and of each of the nine cells about it: an agent there (1), its direction (4), a shelf (1), a requested one (1). The
    actions are: none, forward, left, right, load or unload.
    """
    return np.array([_deliver(one, ROUNDS[i % 2]) for i, one in enumerate(obs)])


def _deliver(obs: np.ndarray, around: list[tuple[int, int]]) -> int:
    x, y, carries = (int(v) for v in obs[:3])
    facing, cells = FACES[int(obs[3:7].argmax())], obs[8:].reshape(9, 7)
    seen = {(x + i % 3 - 1, y + i // 3 - 1): cell for i, cell in enumerate(cells)}
    requested, shelf = bool(cells[4, 6]), 6 if not carries else 5
    if (not carries and requested) or (carries and not requested and is_shelf_place(x, y)):
        return LOAD
    wanted = {
        place for place, cell in seen.items() if is_shelf_place(*place) and bool(cell[shelf]) is not bool(carries)
    }
    ends = GOALS if carries and requested else frozenset(wanted or _onwards((x, y), around))
    taken = frozenset(place for place, cell in seen.items() if cell[0] and place != (x, y))
    way = next_cell((x, y), ends, bool(carries), taken)
    turn = 0 if way is None else (AHEAD.index((way[0] - x, way[1] - y)) - facing) % 4
    return FORWARD if turn == 0 else RIGHT if turn == 1 else LEFT


def _onwards(place: tuple[int, int], around: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [around[(around.index(place) + 1) % len(around)]] if place in around else around


def is_shelf_place(x: int, y: int) -> bool:
    """Whether a shelf belongs here; the other cells are ways."""
    return x in (1, 2, 7, 8) and 1 <= y <= 8


@cache
def next_cell(
    start: tuple[int, int], ends: frozenset[tuple[int, int]], carries: bool, taken: frozenset[tuple[int, int]]
) -> tuple[int, int] | None:
    """The first step of a shortest way to one of the ends; who carries keeps to the ways between shelves."""
    first: dict[tuple[int, int], tuple[int, int]] = {start: start}
    left = deque([start])
    while left:
        cell = left.popleft()
        if cell in ends and cell != start:
            return first[cell]
        for dx, dy in AHEAD:
            near = cell[0] + dx, cell[1] + dy
            inside = 0 <= near[0] < WIDTH and 0 <= near[1] < HEIGHT
            open_to_it = near in ends or not (carries and is_shelf_place(*near))
            if inside and open_to_it and near not in first and near not in taken:
                first[near] = near if cell == start else first[cell]
                left.append(near)
    return None


# ---- magent2's battle

SIGHT = 6
STEPS = [(row, column) for row in range(-2, 3) for column in range(-2, 3) if row**2 + column**2 <= 4]
BLOWS = [(row, column) for row in range(-1, 2) for column in range(-1, 2) if row or column]
"""What each action moves by, and where each blow goes, as the actions are numbered: 13 steps, then 8 blows."""


def fight(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """Hit the weakest enemy in reach, else go to the nearest one in sight, else ahead; who is dead has one action."""
    return np.array([attack(one, ahead=2) if legal.sum() > 1 else 0 for one, legal in zip(obs, avail, strict=True)])


def attack(seen: np.ndarray, ahead: int) -> int:
    """The action of one agent that sees 13 x 13 cells: wall, friends, their health, enemies, their health."""
    seen = seen.reshape(2 * SIGHT + 1, 2 * SIGHT + 1, 5)
    enemies = [(row - SIGHT, column - SIGHT) for row, column in np.argwhere(seen[..., 3] > 0)]
    if in_reach := [x for x in enemies if x in BLOWS]:
        weakest = min(in_reach, key=lambda x: seen[x[0] + SIGHT, x[1] + SIGHT, 4])
        return len(STEPS) + BLOWS.index(weakest)
    goal = min(enemies, key=lambda x: x[0] ** 2 + x[1] ** 2, default=(0, 3 * ahead))
    free = [s for s in STEPS if s == (0, 0) or not seen[s[0] + SIGHT, s[1] + SIGHT, [0, 1, 3]].any()]
    return STEPS.index(min(free, key=lambda s: (s[0] - goal[0]) ** 2 + (s[1] - goal[1]) ** 2))


# ---- at random: any legal action, with ``--epsilon 1``


def anything(obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
    """The first legal action of each agent."""
    return avail.argmax(1)
