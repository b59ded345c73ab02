"""Checkpoints: what is saved comes back, whole or not at all, and only where it fits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SMALL, random_team

from ovmse.core.errors import UserError
from ovmse.learning import learner
from ovmse.system import pytree_files


def test_learners_and_their_keys_come_back(tmp_path):
    learners = [learner.restart(SMALL, random_team(seed)) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *learners)
    state = (stacked, jax.random.split(jax.random.key(4), 2))
    pytree_files.save(tmp_path / "state.safetensors", state)
    found = pytree_files.restore(tmp_path / "state.safetensors", jax.eval_shape(lambda: state))
    assert eqx.tree_equal(found[0], state[0])
    np.testing.assert_array_equal(jax.random.key_data(found[1]), jax.random.key_data(state[1]))
    np.testing.assert_array_equal(jax.random.uniform(found[1][0]), jax.random.uniform(state[1][0]))
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_odd_arrays_come_back(tmp_path):
    tree = {
        "nothing": jnp.zeros((0, 3)),
        "flags": jnp.array([True, False]),
        "nan": jnp.array([jnp.nan, -jnp.inf]),
        "turned": np.arange(6, dtype=np.uint16).reshape(2, 3).T,
    }
    pytree_files.save(tmp_path / "odd.safetensors", tree)
    found = pytree_files.restore(tmp_path / "odd.safetensors", tree)
    for name, array in tree.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].shape == array.shape


def test_a_scalar_comes_back(tmp_path):
    pytree_files.save(tmp_path / "scalar.safetensors", {"updates": jnp.int32(-7)})
    found = pytree_files.restore(tmp_path / "scalar.safetensors", {"updates": jnp.int32(0)})
    assert found["updates"].shape == () and int(found["updates"]) == -7


def test_names_are_paths():
    names = set(pytree_files.names(random_team(0)))
    assert {"agent.encoder.weight", "agent.cell.bias_n", "mixer.w1.0.weight", "mixer.b2.1.bias"} <= names


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    path, team = tmp_path / "team.safetensors", random_team(0)
    pytree_files.save(path, team)
    wider = eqx.tree_at(lambda t: t.agent.head.bias, team, jnp.zeros(9))
    with pytest.raises(UserError, match=r"agent.head.bias is float32\[4\], expected float32\[9\]"):
        pytree_files.restore(path, wider)
    with pytest.raises(UserError, match="unexpected arrays .*mixer"):
        pytree_files.restore(path, random_team(0, mixer="vdn"))
    with pytest.raises(UserError, match="missing"):
        pytree_files.restore(tmp_path / "other.safetensors", team)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged"):
        pytree_files.restore(path, team)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path, team = tmp_path / "team.safetensors", random_team(0)
    pytree_files.save(path, team)
    before = path.read_bytes()

    def fail(arrays, temporary):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pytree_files, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        pytree_files.save(path, random_team(1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
