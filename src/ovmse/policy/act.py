"""A team that acts, in NumPy alone. An export's policy.py is this file; policy.json and the weights lie beside it.

    team = Policy.load()
    action, memory = team.act(observations, available)          # an episode's first step
    action, memory = team.act(observations, available, memory)  # every one after it

N agents, O features, A actions, H units; in front any axes of episodes side by side. What agents see is an array
[..., N, O], or a dict of [..., O] by agents' names (who is not named has left), and what they do comes back alike.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class TeamMemory(NamedTuple):
    """What is carried on: hidden [..., N, H], last_action [..., N], -1 before the first, and step [...], from 0."""

    hidden: np.ndarray
    last_action: np.ndarray
    step: np.ndarray


class Network:
    """The recurrent network of some agents: linear → ReLU → GRU → linear heads."""

    def __init__(self, about: dict[str, Any], sizes: dict[str, int], weights: dict[str, np.ndarray], agents: list[int]):
        mine, self.normalise = f"{about['prefix']}agent.", about["normalise"]
        w = {k.removeprefix(mine): np.ascontiguousarray(x.T) for k, x in weights.items() if k.startswith(mine)}
        o, n, a, self.h = (sizes[name] for name in ("features", "agents", "actions", "hidden"))
        self.seen, index, acted = np.split(w["encoder.weight"], [o, o + n])
        self.acted = np.concatenate([acted, np.zeros_like(acted[:1])])  # the last row, at -1: no action
        self.index = index[agents] + w["encoder.bias"]
        self.w_x, self.b_x, self.w_h, self.b_n = (w[f"cell.{x}"] for x in ("weight_ih", "bias", "weight_hh", "bias_n"))
        heads = [(w["head.weight"].reshape(self.h, -1, a).mean(1), w["head.bias"].reshape(-1, a).mean(0))]  # critics
        heads = [(w["policy.weight"], w["policy.bias"]), *heads] if about["policy"] else heads
        self.w_out, self.b_out = (np.concatenate(parts, -1) for parts in zip(*heads, strict=True))

    def normal(self, x: np.ndarray) -> np.ndarray:
        """Mean 0 and variance 1 over the units, where the network has layer normalisation."""
        if self.normalise:
            mean = x.mean(-1, keepdims=True)
            variance = np.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0)
            x = (x - mean) / np.sqrt(variance + np.float32(1e-5))
        return x

    def step(self, obs: np.ndarray, last_action: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One row: the next hidden state, and the utilities [..., A], before which stand a policy's logits."""
        x = np.maximum(self.normal(obs @ self.seen + self.acted[last_action] + self.index), 0)
        given, kept, h = x @ self.w_x + self.b_x, hidden @ self.w_h, self.h
        gates = 0.5 * np.tanh(0.5 * (given[..., : 2 * h] + kept[..., : 2 * h])) + 0.5  # the logistic function
        new = np.tanh(given[..., 2 * h :] + gates[..., :h] * (kept[..., 2 * h :] + self.b_n))
        hidden = new + gates[..., h:] * (hidden - new)
        return hidden, self.normal(hidden) @ self.w_out + self.b_out


class Policy:
    """A team, or one agent of it `alone`. contract: what policy.json says; weights: the float32 arrays by name."""

    def __init__(self, contract: dict[str, Any], weights: dict[str, np.ndarray], alone: int | None = None):
        self.contract, self.weights, self.sizes, self.alone = contract, weights, contract["sizes"], alone
        self.names, self.actions, self.networks = contract["agents"], contract["actions"], []
        self.numbers, own = list(range(len(self.names))) if alone is None else [alone], contract.get("own_actions")
        self.own = own is None or np.array([[a in own[i] for a in range(len(self.actions))] for i in self.numbers])
        for about in contract["networks"]:
            if played := [i for i in self.numbers if i in about["agents"]]:
                at = slice(None) if played == self.numbers else [self.numbers.index(i) for i in played]
                self.networks.append((at, Network(about, self.sizes, weights, played)))

    @classmethod
    def load(cls, folder: str | Path = Path(__file__).parent) -> Any:
        """The policy in an export's directory. Raises `ValueError` where the weights are not those exported."""
        contract = json.loads((Path(folder) / "policy.json").read_text("utf-8"))
        data = (Path(folder) / "weights.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != contract["weights"]["sha256"]:
            raise ValueError(f"{folder}/weights.safetensors is not what was exported: its checksum differs.")
        start, weights = 8 + int.from_bytes(data[:8], "little"), {}
        for name, about in json.loads(data[8:start]).items():
            first, end = about["data_offsets"]
            weights[name] = np.frombuffer(data[start + first : start + end], "<f4").reshape(about["shape"])
        return cls(contract, weights)

    def agent(self, name: str) -> Any:
        """One agent of the team, which acts by what it sees alone: for arrays without the axis N."""
        if name not in self.names:
            raise ValueError(f"unknown agent {name!r}. Known: {', '.join(self.names)}.")
        return type(self)(self.contract, self.weights, self.names.index(name))

    def act(
        self, observations: Any, available: Any = None, memory: TeamMemory | None = None, last_action: Any = None
    ) -> tuple[Any, TeamMemory]:
        """Each agent's best legal action: (action [..., N], memory for the next step).

        available: bool [..., N, A], what is legal; None: `own`, what each ever had. memory: None as an episode begins.
        last_action [..., N]: what was done last, where that was not what was chosen. Raises `ValueError`.
        """
        obs, legal, memory = self.given(observations, available, memory, last_action)
        memory, scores, _ = self.step(obs, memory)
        action = np.where(legal, scores, -np.inf).argmax(-1)
        return self.back(action, observations), memory._replace(last_action=action)

    def step(self, obs: np.ndarray, past: TeamMemory) -> tuple[TeamMemory, np.ndarray, np.ndarray]:
        """One row: the memory, the scores [..., N, A] of which the best action has the largest, and the utilities."""
        hidden, a = np.empty_like(past.hidden), self.sizes["actions"]
        scores, utilities = np.empty((2, *hidden.shape[:-1], a), np.float32)
        for at, net in self.networks:
            hidden[..., at, :], heads = net.step(obs[..., at, :], past.last_action[..., at], past.hidden[..., at, :])
            scores[..., at, :], utilities[..., at, :] = heads[..., :a], heads[..., -a:]
        return TeamMemory(hidden, past.last_action, past.step + 1), scores, utilities

    def given(self, observations: Any, available: Any, memory: TeamMemory | None, last_action: Any) -> tuple[Any, ...]:
        """What `act` was given, checked, as arrays: (observations, legal actions, memory)."""
        obs = self.array("observations", observations, observations, "features", np.float32)
        rows, a, h = obs.shape[:-1], self.sizes["actions"], self.sizes["hidden"]
        mask = self.own if available is None else self.array("available", available, observations, "actions", np.bool_)
        legal = np.broadcast_to(mask, (*rows, a))
        memory = memory or TeamMemory(np.zeros((*rows, h), np.float32), np.full(rows, -1), np.zeros(rows[:-1], int))
        if last_action is not None:
            memory = memory._replace(last_action=self.array("last_action", last_action, observations, None, np.int64))
        last, named = memory.last_action, observations if isinstance(observations, dict) else self.names
        bad = {"sees what is not finite": ~np.isfinite(obs).all(-1), "has no legal action": ~legal.any(-1)}
        bad |= {f"did last what is none of 0 to {a - 1}": (last < -1) | (last >= a)}
        bad |= {"has a memory of another shape": np.full(rows, memory.hidden.shape != (*rows, h))}
        for what, where in bad.items():
            if names := [name for i in np.argwhere(where) if (name := self.names[self.numbers[i[-1]]]) in named]:
                raise ValueError(f"{names[0]} {what}.")
        return obs, legal, memory

    def array(self, what: str, given: Any, like: Any, size: str | None, dtype: type) -> np.ndarray:
        """An array [..., N, size], or [..., N] without a size, of what was given: by names where `like` is."""
        shape, axis = ((self.sizes[size],), -2) if size else ((), -1)
        if isinstance(like, dict):
            if not isinstance(given, dict) or set(given) != set(like) or not set(given) <= set(self.names):
                raise ValueError(f"{what}: expected a dict by names of {self.names}, in all the same; got {given}.")
            left = np.zeros_like(next(iter(given.values())))  # who has left sees nothing, and is asked for nothing
            given = np.stack([given.get(name, left) for name in self.names], axis)
        array: np.ndarray = np.asarray(given if self.alone is None else np.expand_dims(given, axis), dtype)
        if array.shape[axis:] != (expected := (len(self.numbers), *shape)):
            raise ValueError(f"{what}: expected the shape {expected}, or with axes in front; got {array.shape}.")
        return array

    def back(self, array: np.ndarray, like: Any) -> Any:
        """An array [..., N] as the observations were given."""
        if isinstance(like, dict):
            return {name: array[..., i][()] for i, name in enumerate(self.names) if name in like}
        return array if self.alone is None else array[..., 0][()]
