"""Which agents have which network: all share one, each has its own, or the agents of a kind share one."""

import re
from collections.abc import Hashable, Iterable, Sequence

from ovmse.core.errors import UserError
from ovmse.core.literals import Parameters
from ovmse.core.types import EnvSpec

BY_NAMES = "names"
"""The word for kinds by what agents are called."""
HOW = "Name them, a word for each agent in order: --kinds scout,scout,truck; or by what they are called: --kinds names."


def numbered(kinds: Iterable[Hashable]) -> tuple[int, ...]:
    """The kind of each agent as a number, from 0 in the order in which kinds first come."""
    number: dict[Hashable, int] = {}
    return tuple(number.setdefault(kind, len(number)) for kind in kinds)


def kinds_of(own: Iterable[Hashable]) -> tuple[int, ...]:
    """The kinds of agents by what each of them has, its features and actions; empty where all have the same."""
    found = numbered(own)
    return found if len(set(found)) > 1 else ()


def names_of(spec: EnvSpec, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """What the agents are called: as given, or as the environment has it, or by their numbers."""
    return tuple(names or spec.agents or (f"agent_{i}" for i in range(spec.n_agents)))


def by_name(names: Iterable[str]) -> tuple[int, ...]:
    """Agents whose names differ in a number at the end alone, such as ``scout_0`` and ``scout_1``, are of a kind."""
    return numbered(re.sub(r"[\W_]*\d+$", "", name) for name in names)


def settled(parameters: Parameters, kinds: str | None, spec: EnvSpec, names: Sequence[str] | None = None) -> str | None:
    """The kinds as a word for each agent, whatever they were given by; None where parameters go by no kinds.

    Args:
        parameters: who shares parameters.
        kinds: a word for each agent, or `BY_NAMES`; None: agents with the same features and actions are of a kind, as
            the environment, or else the dataset, has it in ``spec.kinds``.
        spec: the environment.
        names: what a dataset calls the agents; None: as the environment does.

    Raises:
        UserError: where nothing tells agents apart, or there are not as many words as agents.
    """
    if parameters != "per_kind":
        return None
    called = names_of(spec, names)
    if kinds is not None and kinds != BY_NAMES:
        network_of_agents(parameters, kinds, spec.n_agents, called)
        return kinds
    found = by_name(called) if kinds == BY_NAMES else spec.kinds
    if len(set(found)) < 2:
        listed = ", ".join(called)
        why = f"their names differ in numbers alone: {listed}" if kinds else "all have the same features and actions"
        raise UserError(f"--parameters per_kind: {spec.name}: no agents of different kinds; {why}. {HOW}")
    return ",".join(map(str, found))


def network_of_agents(
    parameters: Parameters, kinds: str | None, n_agents: int, names: Sequence[str] = ()
) -> tuple[int, ...] | None:
    """The number of each agent's network, from 0; None where all share one. kinds: as `settled` has them.

    Raises `UserError` where there are not as many words as agents.
    """
    words = network_names(parameters, kinds, n_agents, names)
    return None if words is None else numbered(words)


def network_names(
    parameters: Parameters, kinds: str | None, n_agents: int, names: Sequence[str] = ()
) -> tuple[str, ...] | None:
    """What each agent's network is called: by its kind or its number; None where all share one. See above."""
    if parameters == "shared":
        return None
    if parameters == "per_agent":
        return tuple(map(str, range(n_agents)))
    words = tuple((kinds or BY_NAMES).split(","))
    if len(words) != n_agents or not all(re.fullmatch(r"[\w-]+", word) for word in words):
        called = f": {', '.join(names)}" if names else ""
        raise UserError(
            f"--kinds: expected {n_agents} words, one for each agent{called}; got {len(words)}: {kinds!r}. {HOW}"
        )
    return words
