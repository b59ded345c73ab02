"""Rows of whole episodes that are not as expected, made so as the user says: times counted as steps, gaps bridged.

Axes: n rows.
"""

import numpy as np

from ovmse.core.errors import UserError
from ovmse.data.formats.table.cells import Rows
from ovmse.data.formats.table.files import Table
from ovmse.data.formats.table.rules import Gaps
from ovmse.data.formats.table.whole import boundaries

MOST_REPEATED = 100  # steps in one gap


def counted(rows: Rows, seconds: float) -> Rows:
    """The rows of whole episodes with steps from 0 in place of times.

    Readings less than half a step after the one before are of the same step, as those of agents with clocks of their
    own are; a step that nobody has a reading of leaves a gap.
    """
    episode = np.cumsum(boundaries(rows))
    order = np.lexsort((rows["step"], episode))
    time, new = rows["step"][order], np.diff(episode[order], prepend=0) > 0
    begins = np.flatnonzero(new | (np.diff(time, prepend=time[0]) >= seconds / 2))
    jump = np.rint(np.diff(time[begins], prepend=time[0]) / seconds).clip(1)
    total = np.cumsum(np.where(new[begins], 0, jump))
    total -= np.maximum.accumulate(np.where(new[begins], total, -1))
    step = np.empty(len(order), np.int64)
    step[order] = np.repeat(total, np.diff(begins, append=len(order)))
    return rows | {"step": step}


def bridged(rows: Rows, gaps: Gaps, start: int, table: Table) -> Rows:
    """The rows of whole episodes without missing steps. start: the number of the first step of an episode.

    split: an episode is cut before each gap, and what follows is an episode of its own, counted from `start`; where
    only the row after the last step follows, it is left out. repeat: the rows before a gap stand in it, too, with
    reward 0 and no end of the task. The role "mended" (n,) says which rows are of such episodes.

    Raises `UserError` for a gap of more than `MOST_REPEATED` steps that is to be repeated.
    """
    episode = np.cumsum(boundaries(rows))
    order = np.lexsort((rows["step"], episode))
    rows, episode = {role: values[order] for role, values in rows.items()}, episode[order]
    step = rows["step"]
    jump = np.where(np.diff(episode) > 0, 1, np.diff(step))
    if not (jump > 1).any():
        return rows
    rows["mended"] = np.isin(episode, episode[1:][jump > 1])
    return (_split if gaps == "split" else _repeated)(rows, episode, jump, start, table)


def _split(rows: Rows, episode: np.ndarray, jump: np.ndarray, start: int, table: Table) -> Rows:
    behind = np.concatenate([[False], jump > 1])  # the first row after a gap
    group = np.cumsum(behind | (np.diff(episode, prepend=0) > 0)) - 1
    firsts = np.flatnonzero(np.diff(group, prepend=-1))
    later = behind[firsts]  # parts that are not the first of their episode
    shift = np.where(later, rows["step"][firsts] - start, 0)
    acts = np.logical_or.reduceat(rows["action"] >= 0, firsts)
    changed = {"part": np.cumsum(behind), "step": rows["step"] - shift[group]}
    if "won" in rows:  # only the last part leads to the end of the episode
        changed["won"] = rows["won"] & ~np.append(later[1:], False)[group]
    return {role: values[(acts | ~later)[group]] for role, values in (rows | changed).items()}


def _repeated(rows: Rows, episode: np.ndarray, jump: np.ndarray, start: int, table: Table) -> Rows:
    pieces, steps = [np.arange(len(episode))], [rows["step"]]
    for last in np.flatnonzero(jump > 1).tolist():
        missing = int(jump[last]) - 1
        if missing > MOST_REPEATED:
            raise UserError(
                f"{table.place(rows['row'][last])}: episode {rows['episode'][last]}: {missing:,} steps are missing "
                f"after step {rows['step'][last]}; expected at most {MOST_REPEATED} to repeat. Split it: --gaps split."
            )
        before = np.flatnonzero((episode == episode[last]) & (rows["step"] == rows["step"][last]))
        pieces.append(np.tile(before, missing))
        steps.append(rows["step"][last] + 1 + np.repeat(np.arange(missing), len(before)))
    taken, step = np.concatenate(pieces), np.concatenate(steps)
    filler = np.arange(len(taken)) >= len(episode)
    filled = {role: values[taken] for role, values in rows.items()} | {"step": step}
    filled["reward"] = np.where(filler, 0.0, filled["reward"])
    for role in ("done", "truncated"):
        if role in filled:
            filled[role] = filled[role] & ~filler
    order = np.lexsort((step, episode[taken]))
    return {role: values[order] for role, values in filled.items()}
