"""Episodes laid end to end: each is there once, no lane is too long, and no loss sees more than its own episode."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.episodes import SMALL, SPEC, as_jax, random_episode, random_team, replay_of, write_dataset

from ovmse.config import Config
from ovmse.core.types import Episode
from ovmse.core.values import next_of_policy
from ovmse.learning import learner, lengths, packing
from ovmse.learning.lengths import GROUP_EPISODES, GROUP_ROWS, group_size, lane_count, longest_lane
from ovmse.methods import METHODS
from ovmse.methods.losses import SquaredError
from ovmse.methods.method import Method
from ovmse.methods.targets import TD, double_q

T = SPEC.episode_limit
CONFIG = Config(env=SPEC.name, batch_episodes=16)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize(("batch", "lanes"), [(12, 4), (12, 12), (7, 3), (2, 3)])
def test_every_episode_lies_in_one_lane_from_its_first_row_to_its_last(batch, lanes, data):
    length = data.draw(st.lists(st.integers(1, 30), min_size=batch, max_size=batch))
    order, packed, (episode, row, valid) = jax.tree.map(np.asarray, laid_out(jnp.asarray(length), lanes))
    assert sorted(order.tolist()) == list(range(batch))
    np.testing.assert_array_equal(packed.length, np.asarray(length)[order])
    assert packed.rows.max() == packed.rows[0] <= -(-batch // lanes) * (max(length) + 1)
    lie = [pair for lane, n in enumerate(packed.rows) for pair in zip(episode[lane, :n], row[lane, :n], strict=True)]
    assert lie == [(e, r) for e, n in enumerate(packed.length) for r in range(n + 1)]
    inside = np.arange(valid.shape[1]) < packed.rows[:, None]
    np.testing.assert_array_equal(valid, inside & (row < packed.length[episode])[:, :-1])
    assert valid.sum() == sum(length)


@partial(jax.jit, static_argnums=1)
def laid_out(length, lanes):
    order, packed = packing.pack(length, lanes)
    return order, packed, packing.places(packed, jnp.arange(lanes), 31 * len(length))


def test_the_longest_episodes_lie_beside_each_other():
    order, packed = packing.pack(jnp.asarray([1, 9, 4, 3, 9, 2]), 2)
    np.testing.assert_array_equal(packed.rows, [17, 17])  # 10 + 5 + 2 and 10 + 4 + 3
    assert set(np.asarray(order)[:3].tolist()) in ({1, 2, 0}, {4, 3, 5}, {4, 2, 0}, {1, 3, 5})


def test_only_priorities_and_parts_of_ones_own_need_whole_episodes():
    whole = {name for name, method in METHODS.items() if method.whole_episodes}
    assert whole == {name for name, method in METHODS.items() if method.priority is not None} == {"balanced", "otc"}

    def mine(inputs):
        return inputs.values.q_tot

    class Mine:
        laid_end_to_end = True

        def __call__(self, inputs):
            return inputs.values.q_tot

    assert Method(online_target=TD(), online_loss=mine).whole_episodes
    assert not Method(online_target=TD(), online_loss=Mine()).whole_episodes
    assert Method(online_target=lambda y, offline, progress: y).whole_episodes


def laid(episodes):
    """Episodes end to end by hand: of each its steps, its final row, and one step that is not valid to the next."""
    parts = []
    for e in episodes:
        n = int(e.valid.sum())
        rows = {name: getattr(e, name)[: n + 1] for name in ("obs", "state", "avail")}
        steps = {name: np.concatenate([getattr(e, name)[:n], getattr(e, name)[:1]]) for name in Episode._fields[3:]}
        steps["valid"][-1] = False
        parts.append(rows | steps)
    joined = {name: np.concatenate([p[name] for p in parts]) for name in Episode._fields}
    return Episode(**{name: x if name in ("obs", "state", "avail") else x[:-1] for name, x in joined.items()})


OBJECTIVES = {
    f"{name}, {phase}": (method, loss, parts)
    for name, method in METHODS.items()
    if not method.whole_episodes
    for phase, loss, parts in (
        ("offline", method.offline_loss, method.parts),
        ("online", method.online_loss if method.online_target else None, method.parts_online),
    )
    if loss is not None
}
ONE_OF_A_KIND = {repr((loss, parts, method.next_value)): name for name, (method, loss, parts) in OBJECTIVES.items()}


@pytest.mark.parametrize("td_lambda", [0.0, 0.6])
@pytest.mark.parametrize("name", sorted(ONE_OF_A_KIND.values()))
def test_a_lane_loses_what_its_episodes_lose(name, td_lambda):
    method, loss, parts = OBJECTIVES[name]
    team, slow = (random_team(seed, **dataclasses.asdict(parts)) for seed in (0, 1))
    config = dataclasses.replace(SMALL, td_lambda=td_lambda, gamma=0.9)
    next_value = double_q if method.next_value is next_of_policy else method.next_value  # that one draws at random
    objective = learner.Objective(loss, jnp.maximum, next_value, within_return=True)
    rng = np.random.default_rng(0)
    made = [
        random_episode(rng, 3, padding=9.0),
        random_episode(rng, T, ends="truncated"),
        random_episode(rng, 1, padding=9.0),
        random_episode(rng, 2, ends="truncated", padding=9.0),
    ]
    memory = [rng.normal(size=T).astype(np.float32) for _ in made]

    @jax.jit
    def losses(episode, memory):
        from_data = jnp.ones(memory.shape, bool)
        one = learner.Batch(as_jax(episode), jnp.asarray(memory), from_data)
        return learner.episode_loss(config, objective, team, slow, one, jax.random.key(0))[0]

    each = [losses(e, m) for e, m in zip(made, memory, strict=True)]
    along = np.concatenate([np.append(m[: int(e.valid.sum())], 99.0) for e, m in zip(made, memory, strict=True)])[:-1]
    together = losses(laid(made), along.astype(np.float32))
    for field, found in together._asdict().items():
        assert float(found) == pytest.approx(sum(float(getattr(x, field)) for x in each), rel=1e-4, abs=1e-4), field


# In how many lanes, and at which lengths


@given(batch=st.integers(1, 300), n_agents=st.integers(1, 30))
def test_groups_divide_the_batch_and_fit_a_cache(batch, n_agents):
    group = group_size(batch, n_agents)
    assert batch % group == 0 and group >= min(4, batch)
    smaller = [d for d in range(4, group) if batch % d == 0]
    assert (group * n_agents <= GROUP_ROWS and 4 * group <= batch) or not smaller
    lanes = lane_count(batch, n_agents, whole_episodes=False)
    assert batch % lanes == 0 and lanes % group == 0
    assert lanes == batch or batch // lanes * group * n_agents <= GROUP_EPISODES
    assert lane_count(batch, n_agents, whole_episodes=True) == batch
    assert lanes // group % 2 == batch // group % 2  # what two cores can share stays so


def test_an_accelerator_computes_the_batch_at_once(monkeypatch):
    monkeypatch.setattr(lengths, "batched", lambda: True)
    assert group_size(32, 5) == lane_count(32, 5, whole_episodes=False) == 32


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, n) for n in (3, 5, 1, 5, 2, 4, 4, 1, 3, 2)]
    return replay_of(write_dataset(tmp_path_factory.mktemp("lengths") / "data", SPEC, episodes))


@pytest.mark.parametrize("loss", [SquaredError(), lambda inputs: inputs.values.q_tot], ids=["packed", "whole"])
def test_batches_are_computed_at_a_few_lengths_of_which_the_last_is_always_enough(loss, data, monkeypatch):
    method = Method(offline_loss=loss, online_target=TD())
    alone = lengths.offline_lengths(CONFIG, SPEC, method, data)
    monkeypatch.setattr(lengths, "SHORT", 0)
    offline = lengths.offline_lengths(CONFIG, SPEC, method, data)
    online = lengths.online_lengths(CONFIG, SPEC, method, data)
    unknown = lengths.online_lengths(CONFIG, SPEC, method)
    most = 2 * (T + 1) - 1 if loss == SquaredError() else T
    assert offline[-1] == longest_lane(CONFIG, SPEC, method, 5) == (11 if loss == SquaredError() else 5)
    assert online[-1] == unknown[-1] == longest_lane(CONFIG, SPEC, method, T) == most
    assert alone == offline[-1:]
    for found in (offline, online, unknown):
        assert found == sorted(set(found)) and found[0] >= 1 and 1 < len(found) <= 7


def test_most_batches_of_battles_are_computed_with_little_padding(data):
    """On 1,000 batches of unlike episodes: at most 1.11 rows for a real one, or 1.04 were any length free; and two
    cores, of which one waits for the other, take little more than half of the rows each."""
    rng = np.random.default_rng(3)
    length = np.clip(np.rint(rng.triangular(12, 25, 55, 2_000)), 1, 100).astype(np.int32)
    long = data._replace(index=data.index._replace(length=length))
    spec, config = SPEC._replace(episode_limit=100), dataclasses.replace(CONFIG, batch_episodes=32)
    method = Method(offline_loss=SquaredError())
    choices = np.asarray(lengths.offline_lengths(config, spec, method, long))
    drawn = rng.choice(length, (1_000, 32))
    needed, real = lengths.needed_steps(config, spec, method, drawn), (drawn + 1).sum()
    assert needed.shape == (1_000, 2)
    rows = group_size(32, spec.n_agents) * (choices[np.searchsorted(choices, needed)] + 1)
    assert group_size(32, spec.n_agents) * (needed + 1).sum() / real < 1.04 and rows.sum() / real < 1.11
    assert rows.max(axis=1).sum() / real < 0.6


def test_one_by_one_reads_as_stored():
    at = packing.one_by_one(jnp.asarray([2, 1]), 3)
    np.testing.assert_array_equal(at.row, [[0, 1, 2, 2], [0, 1, 1, 1]])
    np.testing.assert_array_equal(at.valid, [[True, True, False], [True, False, False]])
    np.testing.assert_array_equal(at.episode, [[0] * 4, [1] * 4])
