"""The contract of a policy: who acts, what goes in and out, by which networks, and where it came from (policy.json)."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from ovmse.core.errors import UserError
from ovmse.core.literals import MixerName
from ovmse.system.files import as_type

FROZEN = "offline."
"""What the names of the frozen team's arrays begin with, where some agents play by it."""
Size = Annotated[int, msgspec.Meta(ge=1, lt=2**20)]
"""A size as JSON may give it: no stranger's file makes anything enormous."""


@dataclass(frozen=True)
class Names:
    """What a log calls things, in the order of their axes; None where it does not say."""

    agents: list[str] | None = None
    actions: list[str] | None = None
    features: list[str] | None = None


@dataclass(frozen=True)
class Sizes:
    """N agents, A actions of an agent, O features of an observation, S features of the state, H units of memory, M and
    E units of a mixer's layers, T the most steps of an episode."""

    agents: Size
    actions: Size
    features: Size
    state: Size
    hidden: Size
    embedding: Size
    hyper: Size
    episode_limit: Size


@dataclass(frozen=True)
class AboutNetwork:
    """A network: what the names of its arrays begin with, which agents (from 0) play by it, and what it consists of."""

    prefix: str
    agents: list[int]
    critics: Size = 1
    policy: bool = False
    normalise: bool = False


@dataclass(frozen=True)
class Weights:
    """The file of the weights."""

    file: Literal["weights.safetensors"] = "weights.safetensors"
    dtype: Literal["float32"] = "float32"
    sha256: str = ""


@dataclass(frozen=True)
class Contract:
    """All that policy.json says. docs/deploy.md has its fields in words.

    features: None where nobody named them. own_actions: the numbers of the actions that each agent ever had in the
    dataset, which count as legal where nobody says; None: all. learns: what the losses trained: Q_tot, each agent's
    utilities, or a policy alone.
    """

    agents: list[str]
    actions: list[str]
    features: list[str] | None
    sizes: Sizes
    networks: list[AboutNetwork]
    mixer: MixerName
    learns: Literal["q_tot", "utilities", "policy"]
    came_from: dict[str, Any]
    weights: Weights = Weights()
    own_actions: list[list[int]] | None = None
    format: Literal[1] = 1

    def described(self) -> dict[str, Any]:
        """As JSON, with what goes in and out in shapes."""
        n, o, a, h = self.sizes.agents, self.sizes.features, self.sizes.actions, self.sizes.hidden
        arrays = {
            "observations": {
                "shape": [n, o],
                "dtype": "float32",
                "scaling": "none: as the dataset or environment has them",
            },
            "available": {"shape": [n, a], "dtype": "bool", "meaning": "legal actions, at least one for each agent"},
            "memory.hidden": {"shape": [n, h], "dtype": "float32", "first": 0},
            "memory.last_action": {"shape": [n], "dtype": "int64", "first": -1},
            "action": {"shape": [n], "dtype": "int64", "meaning": "the number of an action, from 0"},
        }
        return {**msgspec.to_builtins(self), "arrays": arrays}


def read_contract(found: Any, where: object) -> Contract:
    """A contract read from JSON. Raises `UserError` that names the field where it is none, or contradicts itself."""
    contract: Contract = as_type(found, Contract, where)
    sizes, played = contract.sizes, sorted(i for network in contract.networks for i in network.agents)
    check_names(Names(contract.agents, contract.actions, contract.features), sizes, where)
    check_own(contract.own_actions, sizes, where)
    if played != list(range(sizes.agents)):
        raise UserError(f"{where}: networks: expected each of {sizes.agents} agents to play by one; got {played}.")
    return contract


def check_names(names: Names, sizes: Sizes, where: object) -> None:
    """Raise `UserError` unless there are as many names as there are of what they name, and no two are the same."""
    for kind in ("agents", "actions", "features"):
        given, size = getattr(names, kind), getattr(sizes, kind)
        if given is not None and (len(given) != size or len(set(given)) != size):
            raise UserError(f"{where}: {kind}: expected {size} names, all different; got {given}.")


def check_own(own: list[list[int]] | None, sizes: Sizes, where: object) -> None:
    """Raise `UserError` unless every agent has actions of its own, of those that there are."""
    if own is not None and (len(own) != sizes.agents or not all(set(mine) & set(range(sizes.actions)) for mine in own)):
        raise UserError(f"{where}: own_actions: expected some of {sizes.actions} for each agent; got {own}.")


def shapes(contract: Contract) -> dict[str, tuple[int, ...]]:
    """Every array that the policy acts and judges by, by its name, as docs/parameters.md has them."""
    s = contract.sizes
    found: dict[str, tuple[int, ...]] = {}
    for network in contract.networks:
        linear = {
            "encoder": (s.hidden, s.features + s.agents + s.actions),
            "head": (network.critics * s.actions, s.hidden),
        }
        linear |= {"policy": (s.actions, s.hidden)} if network.policy else {}
        of_agent = _layers(linear) | {
            "cell.weight_ih": (3 * s.hidden, s.hidden),
            "cell.weight_hh": (3 * s.hidden, s.hidden),
        }
        of_agent |= {"cell.bias": (3 * s.hidden,), "cell.bias_n": (s.hidden,)}
        found |= {f"{network.prefix}agent.{name}": shape for name, shape in of_agent.items()}
    return found | {f"mixer.{name}": shape for name, shape in _layers(_mixer(contract.mixer, s)).items()}


def _layers(weights: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    """The arrays of linear layers, by the shapes of their weights."""
    return {f"{k}.weight": shape for k, shape in weights.items()} | {f"{k}.bias": x[:1] for k, x in weights.items()}


def _mixer(name: MixerName, s: Sizes) -> dict[str, tuple[int, int]]:
    if name == "linear":
        first = {"w.0": (s.hyper, s.state), "b.0": (s.hyper, s.state)}
        return first | {"w.1": (s.agents, s.hyper), "b.1": (1, s.hyper)}
    if name == "vdn":
        return {}
    first = {"w1.0": (s.hyper, s.state), "b1": (s.embedding, s.state), "w2.0": (s.hyper, s.state)}
    second = {"w1.1": (s.agents * s.embedding, s.hyper), "w2.1": (s.embedding, s.hyper)}
    return first | second | {"b2.0": (s.embedding, s.state), "b2.1": (1, s.embedding)}


def check_weights(contract: Contract, weights: dict[str, np.ndarray], where: object) -> None:
    """Raise `UserError` unless the arrays are those that the contract needs, finite, and of single precision."""
    for name, shape in shapes(contract).items():
        array = weights.get(name)
        if array is None or array.shape != shape or array.dtype != np.float32:
            got = "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
            raise UserError(f"{where}: {name}: expected float32{list(shape)}; got {got}.")
        if not np.isfinite(array).all():
            raise UserError(f"{where}: {name} is not finite: a team that diverged can't act.")


def parameters(contract: Contract) -> int:
    """How many numbers the weights are."""
    return sum(math.prod(shape) for shape in shapes(contract).values())
