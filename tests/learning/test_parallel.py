"""Seeds in one program: as many as asked for, each as if it ran alone, on all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ovmse.learning import parallel, replay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="tells the two CPU devices apart"),
]


def learn(state, shared):
    """A stand-in for a phase: a loop of random length on the state's own key."""
    key, total = state
    steps = jax.random.randint(key, (), 1, 6)

    def go_on(carry):
        return parallel.any_over_seeds(carry[1] < steps)

    def one(carry):
        total, t = carry
        return jnp.where(t < steps, total + jax.random.normal(jax.random.fold_in(key, t)) * shared, total), t + 1

    total, _ = jax.lax.while_loop(go_on, one, (total, jnp.int32(0)))
    return (jax.random.fold_in(key, 7), total), {"steps": steps}


def states(count):
    return jax.random.split(jax.random.key(0), count), jnp.zeros(count)


def values(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def alone(count):
    one = jax.jit(learn)
    keys, totals = states(count)
    each = [values(one((keys[i], totals[i]), jnp.float32(2.0))) for i in range(count)]
    return [np.stack(x) for x in zip(*each, strict=True)]


def test_seeds_are_rounded_up_to_the_devices():
    assert [parallel.padded_seeds(n) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 6]
    assert [parallel.devices_for(n) for n in (1, 2, 3)] == [1, 2, 2]


def test_cores_that_are_left_over_are_lent_to_the_seeds(monkeypatch):
    assert [parallel.cores_per_seed(n) for n in (1, 2, 3)] == [2, 1, 1]
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert [parallel.cores_per_seed(n) for n in (1, 2, 3, 5)] == [2, 2, 1, 1]
    monkeypatch.setattr(parallel, "batched", lambda: True)
    assert parallel.cores_per_seed(1) == 1


@pytest.mark.parametrize("count", [4, 3])
def test_cores_share_what_divides_evenly(count):
    """And where it does not each of them has all to do."""

    def squared(state, numbers):
        seen = []

        def function(part):
            seen.append(len(part[0]))
            return part[0] ** 2 + state, part[1]

        found = parallel.over_cores(function, (numbers, numbers > 1))
        assert seen == [2 if count == 4 else 3]
        return found

    given = parallel.split(jnp.ones(1), 1)
    [(square, above)] = parallel.over_seeds(squared, 1, keep=True)(given, jnp.arange(float(count)))
    np.testing.assert_array_equal(square[0], np.arange(count) ** 2 + 1.0)
    np.testing.assert_array_equal(above[0], np.arange(count) > 1)
    assert all(len(x.addressable_shards) == 2 for x in (square, above))
    for copy in square.addressable_shards:
        np.testing.assert_array_equal(copy.data, square)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_seed_is_as_if_it_ran_alone(count, batched, monkeypatch):
    """On a CPU round after round, on an accelerator as one batch."""
    monkeypatch.setattr(parallel, "batched", lambda: batched)
    slots = parallel.padded_seeds(count)
    rounds = parallel.split(states(slots), count)
    assert len(rounds) == (1 if batched else -(-count // 2))
    found = parallel.over_seeds(learn, count)(rounds, jnp.float32(2.0))
    devices = jax.tree.leaves(found)[1].sharding.device_set
    assert len(devices) == (1 if batched and count == 1 else 2)
    monkeypatch.setattr(parallel, "batched", lambda: False)
    expected = alone(slots)
    for a, b in zip(values(parallel.join(found)), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(np.unique(expected[1])) == slots  # and no two seeds are the same


@pytest.mark.parametrize("batched", [False, True])
def test_looking_at_every_seed_keeps_the_states(batched, monkeypatch):
    monkeypatch.setattr(parallel, "batched", lambda: batched)
    kept = parallel.split(states(4), 4)
    look = parallel.over_seeds(lambda state, shared: state[1] + shared, 4, keep=True)
    np.testing.assert_array_equal(parallel.join(look(kept, jnp.float32(3.0))), [3.0] * 4)
    assert not kept[0][1].is_deleted()
    # a learned state gives its memory up to the next one
    learned = parallel.over_seeds(learn, 4)
    first = [x[0] for x in learned(kept, jnp.float32(3.0))]
    learned(first, jnp.float32(3.0))
    assert first[0][1].is_deleted()


@pytest.mark.parametrize("batched", [False, True])
def test_each_seed_gets_what_lies_beside_it(batched, monkeypatch):
    monkeypatch.setattr(parallel, "batched", lambda: batched)
    add = parallel.over_seeds(lambda state, beside, shared: state + beside * shared, 3)
    found = add(parallel.split(jnp.arange(4.0), 3), jnp.float32(10.0), beside=parallel.split(jnp.arange(4.0), 3))
    np.testing.assert_array_equal(parallel.join(found), [0.0, 11.0, 22.0, 33.0])


def test_what_is_compiled_ahead_is_not_compiled_again():
    """Traced once, too, and it gives what it gives when it is called first."""
    traced = []

    def noted(state, beside, shared):
        traced.append(1)
        return learn(state, shared)[0][1] + beside

    ahead, called = (parallel.over_seeds(noted, 2) for _ in range(2))
    beside = parallel.split(jnp.arange(2.0), 2)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), parallel.split(states(2), 2)[0])
    ahead.compile(shapes, np.float32(0.0), beside=jax.eval_shape(lambda: beside[0]))
    found = ahead(parallel.split(states(2), 2), np.float32(2.0), beside=beside)
    assert len(traced) == 1
    expected = called(parallel.split(states(2), 2), np.float32(2.0), beside=beside)
    np.testing.assert_array_equal(parallel.join(found), parallel.join(expected))


def test_what_is_shared_is_held_once():
    """Both CPU devices read the very array that was handed in."""
    data = {"rows": replay.aligned((100, 7), np.dtype(np.float32)), "flags": replay.aligned((9,), np.dtype(bool))}
    found = parallel.shared(data, 2)
    for name, array in data.items():
        places = {shard.data.unsafe_buffer_pointer() for shard in found[name].addressable_shards}
        assert len(found[name].addressable_shards) == 2 and places == {array.ctypes.data}


def test_the_largest_over_the_batch(monkeypatch):
    monkeypatch.setattr(parallel, "batched", lambda: True)
    over = jax.vmap(parallel.max_over_seeds, axis_name=parallel.AXIS)
    np.testing.assert_array_equal(over(jnp.array([3, 9, 4])), [9, 9, 9])
    some = jax.vmap(parallel.any_over_seeds, axis_name=parallel.AXIS)
    np.testing.assert_array_equal(some(jnp.array([[False, False], [False, True]])), [True, True])
    np.testing.assert_array_equal(some(jnp.zeros((2, 2), bool)), [False, False])
