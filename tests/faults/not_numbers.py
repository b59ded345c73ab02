"""Numbers that are none, injected wherever one can come in: learning halts at once, and says at what."""

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from support.episodes import SMALL, small_run

from ovmse.core import values
from ovmse.core.errors import UserError
from ovmse.envs.matrix import MatrixGame
from ovmse.learning import learner
from ovmse.runs import checkpoints
from ovmse.training import start
from ovmse.training.train import train

BAD = (float("nan"), float("inf"), float("-inf"))


class BadGame:
    """The two-step game, with one number of every second step of a later episode replaced."""

    def __init__(self, field: str, value: float):
        self._game, self.field, self.value = MatrixGame("two_step"), field, value
        self.spec = self._game.spec

    def reset(self, key):
        return self._game.reset(key)

    def step(self, key, state, action):
        state, view, outcome = self._game.step(key, state, action)
        bad = jax.random.uniform(jax.random.fold_in(key, 7)) < 0.03
        if self.field == "reward":
            return state, view, outcome._replace(reward=jnp.where(bad, self.value, outcome.reward))
        wrong = jnp.where(bad, self.value, getattr(view, self.field))
        return state, view._replace(**{self.field: wrong}), outcome


def worlds() -> dict[str, Any]:
    """Every bad game by its name."""
    return {f"{field} {value}": BadGame(field, value) for field in ("reward", "obs", "state") for value in BAD}


@contextlib.contextmanager
def bad_world(name: str) -> Iterator[dict[str, Any]]:
    """Play is bad."""
    from ovmse.training import setup

    game = worlds()[name]
    with patch.object(setup, "make_by_options", lambda *given, **named: game):
        yield {"method": "scratch", "data": None, "evaluate_episodes": 1, "online_env_steps": 400}


@contextlib.contextmanager
def bad_data(field: str, value: float) -> Iterator[dict[str, Any]]:
    """One number of the log is bad, in memory: files with such numbers are refused when they are opened."""
    sound = start.from_flat

    def broken(dataset):
        data = sound(dataset)
        getattr(data.rows, field)[3 if field != "reward" else 4] = value
        return data

    with patch.object(start, "from_flat", broken):
        yield {}


@contextlib.contextmanager
def bad_parameters(layer: str) -> Iterator[dict[str, Any]]:
    """A layer's first parameter is bad from the beginning."""
    sound = learner.init

    def broken(config, spec, key, parts=learner.PLAIN):
        fresh = sound(config, spec, key, parts)
        team = jax.tree_util.tree_map_with_path(
            lambda path, x: x.at[(0,) * x.ndim].set(jnp.nan) if layer in jax.tree_util.keystr(path) else x, fresh.team
        )
        return fresh._replace(team=team)

    with patch.object(learner, "init", broken):
        yield {}


@contextlib.contextmanager
def bad_gradient(at: int, value: float, online: bool) -> Iterator[dict[str, Any]]:
    """The gradient of the n-th update is bad in one layer."""
    sound = learner.gradient

    def broken(config, objective, state, *given):
        gradients, losses, priorities = sound(config, objective, state, *given)
        now = state.updates == at + (40 if online else 0)
        leaves, tree = jax.tree_util.tree_flatten(gradients)
        leaves[1] = jnp.where(now, value, leaves[1])
        return jax.tree_util.tree_unflatten(tree, leaves), losses, priorities

    with patch.object(learner, "gradient", broken):
        yield {}


@contextlib.contextmanager
def bad_target(value: float) -> Iterator[dict[str, Any]]:
    """The TD targets are bad."""
    sound = values.td_target
    with patch.object(values, "td_target", lambda *given: sound(*given) + value):
        yield {}


@contextlib.contextmanager
def bad_memory(value: float) -> Iterator[dict[str, Any]]:
    """What is remembered beside the steps is bad."""
    from ovmse.methods import METHODS

    method = dataclasses.replace(METHODS["ovmse"], memory=lambda team, episode: jnp.full(episode.reward.shape, value))
    with patch.dict(METHODS, {"ovmse": method}):
        yield {}


@contextlib.contextmanager
def low_limit(limit: float, **more: Any) -> Iterator[dict[str, Any]]:
    """The loss is beyond the limit."""
    yield {"loss_limit": limit, **more}


@contextlib.contextmanager
def steep(rate: float) -> Iterator[dict[str, Any]]:
    """A learning rate so high that everything blows up by itself."""
    yield {"learner": dataclasses.replace(SMALL, learning_rate=rate), "offline_updates": 400, "loss_limit": 1e6}


def places() -> dict[str, tuple[Callable[[], Any], str]]:
    """Every place by its name: how to break it, and a word that the message must have."""
    words = {"reward": "rewards", "obs": "observations", "state": "states"}
    found: dict[str, tuple[Callable[[], Any], str]] = {}
    for name in worlds():
        found[f"play: {name}"] = (lambda n=name: bad_world(n)), words[name.split()[0]]
    for field in ("reward", "obs", "state"):
        for value in BAD[:2]:
            found[f"data: {field} {value}"] = (lambda f=field, v=value: bad_data(f, v)), words[field]
    for layer in ("agent.encoder", "agent.cell", "agent.head", "mixer"):
        found[f"parameters: {layer}"] = (lambda x=layer: bad_parameters(x)), "parameters"
    for at, value, online in ((0, BAD[0], False), (7, BAD[1], False), (0, BAD[1], True), (5, BAD[0], True)):
        phase = "online" if online else "offline"
        found[f"gradient: {phase}, update {at}"] = (lambda a=at, v=value, o=online: bad_gradient(a, v, o)), "gradient"
    for value in BAD[:2]:
        found[f"target: {value}"] = (lambda v=value: bad_target(v)), "loss"
        found[f"memory: {value}"] = (lambda v=value: bad_memory(v)), "loss"
    found["limit: offline"] = (lambda: low_limit(1e-9)), "--loss-limit"
    found["limit: online"] = (lambda: low_limit(1e-9, method="scratch", data=None)), "--loss-limit"
    found["learning rate: 1e6"] = (lambda: steep(1e6)), "--learning-rate"
    return found


def trial(folder: Path, data: str, name: str) -> Counter[str]:
    """Break one place, and look at what the run leaves."""
    breaks, word = places()[name]
    out = folder / name.replace(":", "").replace(" ", "-").replace(",", "")
    with breaks() as changes:
        config = small_run(out, **{"method": "ovmse", "data": data, "seeds": 2, "keep_teams": True, **changes})
        try:
            train(config)
        except UserError as error:
            said = str(error)
        else:
            raise AssertionError(f"{name}: the run ended as if nothing were wrong")
    assert "halted" in said and word in said and "Try " in said, f"{name}: {said}"
    if "in an evaluation" in said:
        return Counter({"halted: play, in an evaluation": 1})
    numbers = json.loads((out / "diagnosis" / "numbers.json").read_text())
    assert {path.name for path in (out / "diagnosis").iterdir()} == {
        "batch.safetensors", "team.safetensors", "config.json", "numbers.json",
    }  # fmt: skip
    assert load_file(out / "diagnosis" / "batch.safetensors")
    team = load_file(out / "diagnosis" / "team.safetensors")
    if not name.startswith("parameters"):
        assert all(np.isfinite(x).all() for x in team.values()), name
        bad = sum(layer["parameters"]["not_finite"] for layer in numbers["layers"].values())
        assert bad == 0, name
    if name.startswith("gradient"):
        assert numbers["updates"] == int(name.split()[-1]) + (40 if "online" in name else 0), numbers["updates"]
        assert any(layer["gradient"]["not_finite"] for layer in numbers["layers"].values()) or "online" in name
    for row in (out / "metrics.jsonl").read_text().splitlines():
        json.loads(row)
    if checkpoints.names(out / checkpoints.FOLDER):
        assert checkpoints.newest(out, print) is not None
    return Counter({f"halted: {name.partition(':')[0]}": 1})
