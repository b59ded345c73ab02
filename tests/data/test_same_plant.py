"""Where no environment tells: whether a log is of the plant that an earlier one was of."""

from dataclasses import replace

import numpy as np
import pytest
from support.episodes import SPEC, random_episode, write_dataset

from ovmse.core.errors import UserError
from ovmse.data.same_plant import as_play_of
from ovmse.data.schema import Names

NAMES = Names(agents=None, actions=tuple(f"do {i}" for i in range(SPEC.n_actions)))


def log(path, n_actions=SPEC.n_actions, names=NAMES):
    spec = SPEC._replace(n_actions=n_actions, episode_limit=4)
    made = write_dataset(path, spec, [random_episode(np.random.default_rng(0), 4, spec)])
    told = replace(made.metadata, actions=names.actions and names.actions[:n_actions])
    return replace(made, metadata=told)


def test_the_longer_horizon_counts_and_names_may_be_missing(tmp_path):
    found = as_play_of(log(tmp_path / "log"), SPEC._replace(episode_limit=9), NAMES)
    assert found.spec.episode_limit == 9 and found.metadata.names == NAMES
    as_play_of(log(tmp_path / "nameless", names=Names()), SPEC, NAMES)


def test_actions_in_another_order_are_another_plant(tmp_path):
    turned = NAMES._replace(actions=NAMES.actions[::-1])
    with pytest.raises(UserError, match="log is not of the plant of it: expected actions: do 3, .*, got do 0, "):
        as_play_of(log(tmp_path / "log"), SPEC, turned, "it")


def test_an_action_that_nobody_took_is_named(tmp_path):
    few = log(tmp_path / "log", n_actions=SPEC.n_actions - 1)
    with pytest.raises(UserError, match="import it again with --action-names 'do 0' 'do 1'"):
        as_play_of(few, SPEC, NAMES)
    with pytest.raises(UserError, match=f"import it again with --n-actions {SPEC.n_actions}"):
        as_play_of(few, SPEC)
