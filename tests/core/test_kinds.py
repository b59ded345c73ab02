"""Who shares a network: settled by the environment, by names or by words, and refused where it can't be."""

import pytest
from hypothesis import given, strategies as st
from support.episodes import SPEC

from ovmse.core.errors import UserError
from ovmse.core.kinds import by_name, network_names, network_of_agents, numbered, settled


def test_all_agents_share_a_network_or_each_has_its_own():
    assert network_of_agents("shared", None, 3) is None
    assert network_of_agents("per_agent", None, 3) == (0, 1, 2)
    assert network_of_agents("per_kind", "scout,truck,scout", 3) == (0, 1, 0)
    assert network_names("per_kind", "scout,truck,scout", 3) == ("scout", "truck", "scout")


def test_kinds_are_what_the_environment_tells():
    assert settled("per_kind", None, SPEC._replace(kinds=(0, 1, 0))) == "0,1,0"
    assert settled("per_agent", None, SPEC) is None and settled("shared", None, SPEC) is None


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("scout_0", "scout_1", "truck_0"), (0, 0, 1)),
        (("scout1", "truck-1", "scout12"), (0, 1, 0)),
        (("crane", "truck", "3"), (0, 1, 2)),
    ],
)
def test_names_that_differ_in_a_number_at_the_end_are_of_a_kind(names, kinds):
    assert by_name(names) == kinds
    assert settled("per_kind", "names", SPEC._replace(agents=names)) == ",".join(map(str, kinds))
    assert settled("per_kind", "names", SPEC, names) == ",".join(map(str, kinds))


@pytest.mark.parametrize(
    ("kinds", "names", "says"),
    [
        ("scout,truck", None, "expected 3 words, one for each agent: agent_0, agent_1, agent_2; got 2"),
        ("scout,,truck", ("a", "b", "c"), "one for each agent: a, b, c"),
        (None, None, "no agents of different kinds; all have the same features and actions"),
        ("names", None, "their names differ in numbers alone: agent_0, agent_1, agent_2"),
    ],
)
def test_kinds_that_cannot_be_told_are_refused(kinds, names, says):
    with pytest.raises(UserError, match=says):
        settled("per_kind", kinds, SPEC, names)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9))
def test_what_is_settled_once_stays(words):
    """A run's saved configuration is settled again when it goes on."""
    spec = SPEC._replace(n_agents=len(words), agents=tuple(str(len(words) - i) for i in range(len(words))))
    once = settled("per_kind", ",".join(words), spec)
    assert settled("per_kind", once, spec) == once
    numbers = network_of_agents("per_kind", once, len(words))
    assert [[a == b for a in words] for b in words] == [[a == b for a in numbers] for b in numbers]
    assert numbers == numbered(words) and sorted(set(numbers)) == list(range(len(set(words))))
