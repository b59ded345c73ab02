"""Agents that are not alike: the features and actions that each of them has at all, by one reading of the table."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ovmse.core.kinds import kinds_of
from ovmse.core.padding import own_actions
from ovmse.data.formats.table.actions import Actions
from ovmse.data.formats.table.cells import Cells
from ovmse.data.formats.table.columns import TableLayout

MOST_NAMED = 4


class Own(NamedTuple):
    """features: the columns of obs in which the agent has a number anywhere; actions: those that it takes anywhere."""

    features: frozenset[str] = frozenset()
    actions: frozenset[int] = frozenset()


def own(cells: Cells, lay: TableLayout, actions: Actions) -> dict[Any, Own]:
    """What each agent has in a block of rows."""
    cells = cells.without_blanks(lay)
    agent, action = cells.ids(lay.agent), actions.read(cells)
    full = {column: ~cells.empty(column) for column in lay.obs} if len(lay.obs) > 1 else {}
    found = {}
    for name in dict.fromkeys(agent.tolist()):
        here = agent == name
        taken = np.unique(action[here & (action >= 0)]).tolist()
        found[name] = Own(frozenset(column for column in full if full[column][here].any()), frozenset(taken))
    return found


def together(blocks: Iterable[dict[Any, Own]]) -> dict[Any, Own]:
    """What each agent has in any of the blocks."""
    found: dict[Any, Own] = {}
    for block in blocks:
        for name, here in block.items():
            before = found.get(name, Own())
            found[name] = Own(before.features | here.features, before.actions | here.actions)
    return found


def lacking(owned: dict[Any, Own], lay: TableLayout) -> dict[Any, frozenset[str]]:
    """The columns of obs that each agent never has, of those that lack any."""
    absent = {name: frozenset(lay.obs) - has.features for name, has in owned.items() if len(lay.obs) > 1}
    return {name: columns for name, columns in absent.items() if columns}


def legal(owned: dict[Any, Own], agents: Iterable[Any], n_actions: int) -> np.ndarray:
    """The actions that each agent takes anywhere, (N, A)."""
    return own_actions([owned[name].actions for name in agents], n_actions)


def kinds(owned: dict[Any, Own], agents: Iterable[Any], masked: bool) -> tuple[int, ...]:
    """The kinds of the agents, by their features and, unless there are masks, their actions."""
    return kinds_of((owned[name].features, None if masked else owned[name].actions) for name in agents)


def said(owned: dict[Any, Own], lay: TableLayout, masked: bool, names: tuple[str, ...] | None) -> list[str]:
    """What is taken for granted, in sentences."""
    texts = []
    if absent := lacking(owned, lay):
        parts = [f"{name}: {_few([c for c in lay.obs if c in columns])}" for name, columns in absent.items()]
        texts.append(f"features that an agent never has are 0 ({'; '.join(parts)})")
    if not masked:
        each = {name: sorted(has.actions) for name, has in owned.items()}
        if len({tuple(actions) for actions in each.values()}) > 1:
            parts = [f"{name}: {_few([names[i] if names else str(i) for i in each[name]])}" for name in each]
            texts.append(f"only the actions that an agent takes anywhere are legal for it ({'; '.join(parts)})")
    return texts


def _few(words: list[str]) -> str:
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more
