"""Datasets from rules in use: who acts how, what is written down, and what is refused before anything is played."""

from dataclasses import replace

import numpy as np
import pytest

from ovmse.collection import rules
from ovmse.collection.collect import collect
from ovmse.collection.rebuild import make
from ovmse.collection.settings import Collecting
from ovmse.core.errors import UserError

RULES = """
import numpy as np

NUMBER = 1

def second(obs, avail):
    return np.full(len(avail), 1)

def fourth(obs, avail):
    return np.full(len(avail), 3)

def short(obs, avail):
    return [0]

def halves(obs, avail):
    return np.full(len(avail), 0.5)

def broken(obs, avail):
    return {}["hm"]

def leaves(obs, avail):
    raise SystemExit(4)
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A dataset of a rule of one's own, in a game of two agents with three actions each."""
    (tmp_path / "town_rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return Collecting(env="matrix:climbing", rule="town_rules:second", episodes=200, epsilon=0.3, out=tmp_path / "log")


def test_agents_follow_the_rule_but_for_a_share_at_random_and_the_dataset_says_so(asked):
    found = collect(asked)
    away = (found.action != 1).mean()
    assert away == pytest.approx(0.3 * 2 / 3, abs=0.07)  # at random, but a third of that is the rule's action again
    both = (found.action != 1).all(axis=1).mean()
    assert both == pytest.approx(away**2, abs=0.05)  # each on its own
    assert found.metadata.quality == "rule"
    assert "the rule town_rules:second; each agent acts at random with probability ε = 0.3" in found.metadata.behaviour
    assert (found.metadata.recipe["rule"], found.metadata.recipe["epsilon"]) == ("town_rules:second", 0.3)
    strict = collect(replace(asked, epsilon=0.0, episodes=3, out=asked.out.with_name("strict")))
    assert (strict.action == 1).all() and strict.metadata.episodes == 3


def test_it_is_made_again_bit_for_bit_by_who_trusts_the_rule(asked):
    collect(replace(asked, episodes=5))
    with pytest.raises(UserError, match=r"names code.*the rule 'town_rules:second'.*--trust-code"):
        make(asked.out)
    assert make(asked.out, trust_code=True).same


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("max_pressure", "unknown rule .*sumo:max_pressure.*module:function of your own"),
        ("sumo:max_presure", "unknown rule .*Did you mean 'sumo:max_pressure'"),
        ("town_rulez:second", "no module 'town_rulez'"),
        ("town_rules:third", "no attribute 'third'"),
        ("town_rules:NUMBER", "must be a function; it is a int"),
        ("town_rules:fourth", r"step 0: action 3 of agent 0 is illegal; legal: \[0, 1, 2\]"),
        ("town_rules:short", r"expected 2 whole numbers, an action for each agent; got \[0\]"),
        ("town_rules:halves", "expected 2 whole numbers"),
        ("town_rules:broken", "the rule town_rules:broken, step 0 raised KeyError: 'hm' .town_rules.py, line 19"),
        ("town_rules:leaves", "the rule town_rules:leaves, step 0 raised SystemExit: 4"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(asked, rule, message):
    with pytest.raises(UserError, match=message):
        collect(replace(asked, rule=rule, epsilon=0.0))
    assert not asked.out.exists()


def test_a_rule_has_no_other_qualities(asked):
    with pytest.raises(UserError, match="--also cuts qualities from a trained team's run"):
        collect(asked, also=("expert",))


def test_the_rules_of_signals_have_their_names():
    seen = np.zeros((1, 12), np.float32)
    seen[0, [0, 3 + 2]] = 1  # the first green, and cars that stand before the third
    assert rules.find("sumo:longest_queue")(seen, np.ones((1, 3), bool)).tolist() == [2]
