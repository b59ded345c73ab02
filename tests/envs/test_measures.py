"""Measures of an environment's own: what counts as one, and how each adapter comes by them."""

import numpy as np
import pytest
from support.convoy import Convoy
from support.errands import Errands
from support.junction import Junction
from support.skirmish import Skirmish

from ovmse.core.errors import UserError
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.envs.gymnasium import TupleAsParallel
from ovmse.envs.measures import checked, names_of, told
from ovmse.envs.pettingzoo import ParallelTeam
from ovmse.envs.pymarl import MultiAgentTeam
from ovmse.envs.settings import parse_settings


def test_agents_that_tell_a_measure_are_averaged():
    infos = [{"episode_measures": {"wait": 1}, "hits": 3}, {"episode_measures": {"wait": 4.0}}, {"other": "text"}]
    assert told(infos, ("hits",)) == {"wait": 2.5, "hits": 3.0}
    assert told(infos) == {"wait": 2.5}


def test_the_names_of_a_setting_are_words_with_commas_or_a_list():
    assert names_of(parse_settings(("measures=waiting_time,collisions",))["measures"]) == ("waiting_time", "collisions")
    assert names_of(parse_settings(("measures=collisions",))["measures"]) == ("collisions",)
    assert names_of(["a", "b"]) == ("a", "b") and names_of(None) == ()


@pytest.mark.parametrize("bad", [[1], {"a": "x"}, {1: 2.0}, {"": 2.0}, {"a": [1, 2]}, {"a": None}])
def test_what_is_no_number_by_a_name_is_refused(bad):
    with pytest.raises(UserError, match="episode_measures must be a mapping of names to numbers"):
        checked(bad)


def test_what_counts_as_a_number():
    values = checked({"true": np.bool_(True), "one": np.int64(1), "array": np.float32(2), "none": float("nan")})
    assert {type(x) for x in values.values()} == {float} and values["true"] == 1.0


def test_a_guard_names_a_bad_measure():
    env = GuardedEnv(Junction, 9.0)
    env._env.episode_measures = {"wait": "long"}
    with pytest.raises(EnvFault, match="'long' for 'wait'"):
        env.episode_measures  # noqa: B018


class Counting(Skirmish):
    """A `Skirmish` whose infos count its steps."""

    def step(self, actions):
        reward, over, info = super().step(actions)
        return reward, over, info | {"steps": self.t, "episode_measures": {"alive": int(sum(self.alive))}}


class Hauling(Convoy):
    """A `Convoy` in which each agent has its own toll, and one tells a load."""

    def infos(self):
        return super().infos() | {"bike": {"toll": 1.0}, "van": {"toll": 3.0, "episode_measures": {"load": self.t}}}


class Timed(Errands):
    """`Errands` that tell how long they took."""

    def _info(self):
        return {"took": self.t}


def episode(env):
    """The measures after each step of an episode in which everybody takes the last legal action."""
    seen, after = env.reset_host(1), []
    while True:
        action = seen.avail.shape[1] - 1 - np.argmax(seen.avail[:, ::-1], axis=1)
        seen, step = env.step_host(action)
        after.append(env.episode_measures)
        if step.terminal or step.truncated:
            return after


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            lambda: MultiAgentTeam(lambda seed: Counting(), name="x", version="1", measures="steps"),
            lambda n: {"steps": n, "alive": 3},
        ),
        (
            lambda: ParallelTeam(Hauling(), name="x", version="1", episode_limit=9, measures=("toll",)),
            lambda n: {"toll": 2.0, "load": n},
        ),
        (
            lambda: ParallelTeam(
                TupleAsParallel("x", Timed, "sum", True), name="x", version="1", episode_limit=9, measures="took"
            ),
            lambda n: {"took": n},
        ),
    ],
    ids=["pymarl", "pettingzoo", "gymnasium"],
)
def test_adapters_take_them_from_the_last_info(env, expected):
    made = env()
    *before, last = episode(made)
    assert not any(before) and last == expected(len(before) + 1)
    assert "measures" not in made.spec.settings  # what is measured changes no episode: datasets go on to fit
