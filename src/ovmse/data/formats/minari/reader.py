"""Minari datasets of a team: Dict spaces with one entry per agent, read episode by episode with Minari's own library.

Unlike agents are padded and masked as `ovmse.core.padding` has it.
Axes: T steps, N agents, A actions, O observation features.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.kinds import kinds_of
from ovmse.core.padding import padded
from ovmse.data.formats.episodes import array, flags
from ovmse.data.formats.minari.opening import AgentSpaces, Opened, episode, open_dataset
from ovmse.data.formats.reading import bounded, settled_actions
from ovmse.data.raw_episode import NO_CHECKSUMS, RawEpisode, Source
from ovmse.data.schema import Names

WIN_KEYS = ("won", "battle_won")
STATED = ("dataset_id", "minari_version", "algorithm_name", "author", "code_permalink", "description", "env_spec")


def read(path: Path, *, n_actions: int | None = None) -> Source:
    """Open a Minari dataset: the directory called NAME-v0, or `data` in it.

    Rewards are those of the team, or the agents' own where infos has them under rewards; the state, the masks and wins
    come from infos where these have state, action_mask and won. n_actions must be that of the action spaces, if given.
    Raises `UserError` for play of a single agent, continuous actions, and damaged files.
    """
    opened = open_dataset(path)
    actions = settled_actions(path, max(agent.actions for agent in opened.agents), "action_space", n_actions)
    stated = {name: opened.metadata[name] for name in STATED if name in opened.metadata}
    return Source(
        name=str(path),
        format="minari",
        episodes=(_logged(opened, index) for index in range(opened.metadata["total_episodes"])),
        n_actions=actions,
        total=opened.metadata["total_episodes"],
        assumed=tuple(_assumed(opened)),
        facts=bounded(stated | {"agents": [agent.name for agent in opened.agents]}),
        names=Names(agents=tuple(agent.name for agent in opened.agents)),
        kinds=kinds_of((agent.width, agent.actions) for agent in opened.agents),
    )


def _assumed(opened: Opened) -> Iterator[str]:
    if len({agent.actions for agent in opened.agents}) > 1:
        yield "action counts differ: padded with actions that are never legal"
    if len({agent.width for agent in opened.agents}) > 1:
        yield "observation sizes differ: padded with zeros"
    yield "agents are numbered in the natural order of their names"
    yield "a step that is both terminated and truncated counts as cut"  # every episode has an array of truncations
    yield NO_CHECKSUMS


def _logged(opened: Opened, index: int) -> RawEpisode:
    where, found = f"{opened.path}: episode {index}", episode(opened, index)
    reward = _numbers(where, "rewards", found["rewards"])
    infos = found["infos"] if isinstance(found["infos"], Mapping) else {}
    infos = {name: _nested(values) for name, values in infos.items()}
    steps = len(reward)
    own = infos.get("rewards")
    if isinstance(own, Mapping) and all(agent.name in own for agent in opened.agents):
        each = [_rows(where, f"infos: rewards: {agent.name}", own[agent.name], steps) for agent in opened.agents]
        reward = np.concatenate([values[-steps:] for values in each], axis=1)  # infos begin with those of the reset
    state = infos.get("state")
    terminal, truncated = (
        flags(where, name, _numbers(where, name, found[name])) for name in ("terminations", "truncations")
    )
    if terminal.shape != truncated.shape:
        raise UserError(f"{where}: truncations: expected shape {terminal.shape}, got {truncated.shape}.")
    return RawEpisode(
        obs=_obs(opened, where, found["observations"], steps),
        action=_actions(opened, where, found["actions"]),
        reward=reward,
        terminal=terminal & ~truncated,
        state=None if state is None else _rows(where, "infos: state", state, steps),
        avail=_masks(opened, where, found["observations"], infos, steps),
        won=_won(where, infos),
        where=where,
    )


def _obs(opened: Opened, where: str, seen: Mapping[str, Any], steps: int) -> np.ndarray:
    """What all agents saw, zeros after the features of those that see less, shape (T+1, N, O), in single precision, or
    double where an agent's features are: what rounds them, notes it."""
    found = []
    for agent in opened.agents:
        name = f"observations: {agent.name}"
        values = _entry(where, "observations", seen, agent.name)
        values = _entry(where, name, values, "observation") if agent.masked else values
        own = _numbers(where, name, values)
        if agent.one_hot:
            own = (own.reshape(-1, 1) - agent.seen.start) == np.arange(int(agent.seen.n))
        own = own.reshape(len(own), -1)
        if own.shape != (steps + 1, agent.width):
            raise UserError(
                f"{where}: {name}: expected {steps + 1} rows of {agent.width} features, as there are {steps} steps, "
                f"got shape {own.shape}."
            )
        found.append(own)
    kind = np.result_type(np.float32, *(own.dtype for own in found))
    return padded([own.astype(kind, copy=False) for own in found], max(agent.width for agent in opened.agents))


def _actions(opened: Opened, where: str, acted: Mapping[str, Any]) -> np.ndarray:
    """The actions of all agents, counted from 0, shape (T, N)."""
    entries = {agent.name: _entry(where, "actions", acted, agent.name) for agent in opened.agents}
    own = [_numbers(where, f"actions: {name}", values).reshape(-1) for name, values in entries.items()]
    if any(values.dtype.kind not in "iu" or len(values) != len(own[0]) for values in own):
        raise UserError(f"{where}: actions: expected as many whole numbers for every agent.")
    return np.stack([x.astype(np.int64) - agent.first for x, agent in zip(own, opened.agents, strict=True)], axis=1)


def _masks(opened: Opened, where: str, seen: Mapping[str, Any], infos: Mapping[str, Any], steps: int) -> Any:
    """The legal actions, (T or T+1, N, A) bool; None where agents have equal actions and no masks."""
    actions = {agent.actions for agent in opened.agents}
    found = [_mask(where, agent, seen, infos) for agent in opened.agents]
    if all(mask is None for mask in found) and len(actions) == 1:
        return None
    masks = []
    for agent, mask in zip(opened.agents, found, strict=True):
        if mask is None:
            masks.append(np.ones((steps + 1, agent.actions), bool))
            continue
        name = f"action_mask: {agent.name}"
        own = flags(f"{where}: {name}", "values", _rows(where, name, mask, steps))
        if own.shape[1] != agent.actions:
            raise UserError(f"{where}: {name}: expected {agent.actions} actions, got {own.shape[1]}.")
        masks.append(own)
    rows = min(map(len, masks))
    return padded([own[:rows] for own in masks], max(actions))


def _mask(where: str, agent: AgentSpaces, seen: Mapping[str, Any], infos: Mapping[str, Any]) -> Any:
    """The masks of an agent, beside its observations or in infos; None without any."""
    if agent.masked:
        return _entry(where, f"observations: {agent.name}", seen[agent.name], "action_mask")
    for place, key in ((infos.get(agent.name), "action_mask"), (infos.get("action_mask"), agent.name)):
        if isinstance(place, Mapping) and key in place:
            return place[key]
    return None


def _won(where: str, infos: Mapping[str, Any]) -> bool | None:
    told = [infos[key] for key in WIN_KEYS if key in infos and not isinstance(infos[key], Mapping)]
    if not told:
        return None
    return bool(flags(where, "infos: won", _numbers(where, "infos: won", told[0])).any())


def _nested(values: Any) -> Any:
    """Mappings of arrays, which Minari's Arrow reader gives as an array of mappings."""
    if isinstance(values, np.ndarray) and values.dtype == object and len(values) and isinstance(values[0], Mapping):
        return {key: _nested(np.array([row[key] for row in values])) for key in values[0]}
    return {key: _nested(inner) for key, inner in values.items()} if isinstance(values, Mapping) else values


def _entry(where: str, name: str, values: Any, key: str) -> Any:
    if not isinstance(values, Mapping) or key not in values:
        raise UserError(f"{where}: {name}: expected an entry {key!r}, there is none.")
    return values[key]


def _rows(where: str, name: str, values: Any, steps: int) -> np.ndarray:
    found = _numbers(where, name, values)
    if len(found) not in (steps, steps + 1):
        raise UserError(f"{where}: {name}: expected {steps + 1} rows, as there are {steps} steps, got {found.shape}.")
    return found.reshape(len(found), -1)


def _numbers(where: str, name: str, values: Any) -> np.ndarray:
    found = array(where, name, values)
    if found.ndim == 0 or not found.size:
        raise UserError(f"{where}: {name}: expected numbers, got {found.dtype} of shape {found.shape}.")
    return found
