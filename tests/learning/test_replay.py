"""The replay against plain Python lists: what is stored, what is dropped, what is drawn and read."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from support.episodes import SPEC, as_jax, random_episode, stack, write_dataset

from ovmse.learning import replay as replays

T = SPEC.episode_limit
insert = jax.jit(replays.insert)
read = jax.jit(replays.read, static_argnums=2)


def live(replay):
    """The slots of the stored episodes, oldest first."""
    index = replay.index
    return [k % len(index.start) for k in range(int(index.oldest), int(index.written))]


def assert_holds(replay, slot, episode, memory):
    """What is read from a slot is exactly that episode; its padding is not valid."""
    length = int(episode.valid.sum())
    found, remembered = read(replay, jnp.int32(slot), T)
    np.testing.assert_array_equal(found.valid, episode.valid)
    for name in ("obs", "state", "avail"):
        np.testing.assert_array_equal(getattr(found, name)[: length + 1], getattr(episode, name)[: length + 1])
    for name in ("action", "reward", "terminal"):
        np.testing.assert_array_equal(getattr(found, name)[:length], getattr(episode, name)[:length])
    np.testing.assert_array_equal(remembered[:length], memory[:length])


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, T), min_size=1, max_size=40), seed=st.integers(0, 2**31 - 1))
def test_a_ring_behaves_like_a_list_that_forgets_its_oldest_episodes(lengths, seed):
    rng = np.random.default_rng(seed)
    replay, stored = replays.empty(SPEC, replays.size_of(SPEC, 16)), []
    rows = len(replay.offline_value)
    for length in lengths:
        episode, memory = random_episode(rng, length, padding=9.0), rng.normal(size=T).astype(np.float32)
        replay = insert(replay, as_jax(episode), jnp.asarray(memory))
        stored.append((episode, memory))
        slots = live(replay)
        kept = stored[len(stored) - len(slots) :]
        for slot, (e, m) in zip(slots, kept, strict=True):
            assert_holds(replay, slot, e, m)
        # an episode is dropped only where rows are short: the next one to keep would not have fitted beside the
        # rows that the newest block clears and the rest of the ring that it skips
        used = sum(int(e.valid.sum()) + 1 for e, _ in kept)
        if len(kept) < len(stored):
            dropped = int(stored[-len(kept) - 1][0].valid.sum()) + 1
            assert used + dropped + 2 * T > rows
    assert int(replay.index.written) == len(lengths)


def test_long_episodes_fill_the_promised_steps():
    rng = np.random.default_rng(0)
    replay = replays.empty(SPEC, replays.size_of(SPEC, 5 * T))
    for _ in range(30):
        replay = insert(replay, as_jax(random_episode(rng, T)), jnp.zeros(T))
    assert int(sum(replay.index.length[slot] for slot in live(replay))) >= 5 * T


def test_one_step_episodes_fill_half_of_the_promised_steps():
    """Each takes a row for its step and one for what came after: the worst case that `size_of` names."""
    rng = np.random.default_rng(0)
    replay = replays.empty(SPEC, replays.size_of(SPEC, 5 * T))
    for _ in range(80):
        replay = insert(replay, as_jax(random_episode(rng, 1)), jnp.zeros(T))
    assert int(sum(replay.index.length[slot] for slot in live(replay))) >= 5 * T // 2


def test_inserting_many_equals_inserting_one_by_one():
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, n) for n in (3, 6, 1, 4, 6, 2, 6)]
    memory = jnp.asarray(rng.normal(size=(7, T)), jnp.float32)
    won = jnp.array([True, False, True, True, False, False, True])
    one_by_one = replays.empty(SPEC, replays.size_of(SPEC, 16))
    for e, m, w in zip(episodes, memory, won, strict=True):
        one_by_one = insert(one_by_one, as_jax(e), m, w)
    together = jax.jit(replays.insert_all)(replays.empty(SPEC, replays.size_of(SPEC, 16)), stack(episodes), memory, won)
    slots = live(together)
    np.testing.assert_array_equal(together.index.won[np.array(slots)], won[-len(slots) :])
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_shorter_reading_is_the_beginning_of_a_longer_one():
    rng = np.random.default_rng(0)
    replay = insert(
        replays.empty(SPEC, replays.size_of(SPEC, 16)), as_jax(random_episode(rng, 3)), jnp.arange(float(T))
    )
    short, long = read(replay, jnp.int32(0), 4), read(replay, jnp.int32(0), T)
    for a, b in zip(jax.tree.leaves(short), jax.tree.leaves(long), strict=True):
        np.testing.assert_array_equal(a, b[: len(a)])


def test_draws_are_uniform_over_the_stored_episodes():
    rng = np.random.default_rng(0)
    replay = replays.empty(SPEC, replays.size_of(SPEC, 16))
    for length in (6, 1, 4, 2, 3, 5, 1, 2, 1, 4):
        replay = insert(replay, as_jax(random_episode(rng, length)), jnp.zeros(T))
    slots = live(replay)
    assert 2 < len(slots) < 10
    drawn = np.asarray(replays.draw(replay.index, jax.random.key(0), 5000))
    assert set(drawn) == set(slots)
    assert stats.chisquare([int((drawn == slot).sum()) for slot in slots]).pvalue > 1e-3


def test_a_dataset_becomes_a_full_replay(tmp_path):
    rng = np.random.default_rng(0)
    lengths = (3, 6, 1, 5)
    episodes = [random_episode(rng, n, ends="terminal" if n < T else "truncated") for n in lengths]
    won = [True, False, False, True]
    dataset = write_dataset(tmp_path / "data", SPEC, episodes, won)
    replay = replays.from_flat(dataset.flat, dataset.spec)
    np.testing.assert_array_equal(replay.index.won, won)
    np.testing.assert_array_equal(replay.index.length, lengths)
    for slot, episode in enumerate(episodes):
        assert_holds(replay, slot, episode, np.zeros(T))
    drawn = np.asarray(replays.draw(replay.index, jax.random.key(0), 4000))
    assert stats.chisquare(np.bincount(drawn, minlength=4)).pvalue > 1e-3
    for name, array in replays.to_flat(replay, range(4)).items():  # and a dataset again
        np.testing.assert_array_equal(array, getattr(dataset, name), err_msg=name)


@pytest.mark.parametrize(("n_actions", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_actions_take_the_smallest_type_that_holds_them(n_actions, dtype):
    assert replays.action_dtype(n_actions) == dtype


def test_the_memory_estimate_counts_every_array():
    replay = replays.empty(SPEC, replays.size_of(SPEC, 100))
    stored = sum(x.nbytes for x in (*replay.rows, replay.offline_value))
    assert stored == replays.row_bytes(SPEC) * replays.size_of(SPEC, 100)
