"""Seeds run inside one compiled program: side by side on the cores of a CPU, as one batch on an accelerator."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

AXIS = "seeds"
# On a CPU the matrix products are library calls, so that LLVM's costlier passes make nothing but compilation slower:
# at level 1 SMAX compiles in a third of the time, and updates are as fast.
CPU_OPTIONS = {"xla_backend_optimization_level": 1}


def use_all_cores() -> None:
    """Let JAX see each core of a CPU as a device; after JAX's first computation it is too late, and nothing changes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        return


def batched() -> bool:
    """Whether seeds run as one batch (an accelerator) rather than one after the other on each core."""
    return jax.default_backend() != "cpu"


def any_over_seeds(flags: Array) -> Array:
    """Whether a flag is set in any seed of the batch, so that a branch on it stays a branch."""
    return max_over_seeds(jnp.any(flags).astype(jnp.int32)).astype(bool)


def max_over_seeds(number: Array) -> Array:
    """The largest of a number over the seeds of the batch."""
    return jax.lax.pmax(number, AXIS) if batched() else number


def devices_for(seeds: int) -> int:
    """How many devices that many seeds use."""
    return min(seeds, jax.local_device_count())


def slots(seeds: int) -> int:
    """Seeds rounded up to what divides evenly over the devices; the extra ones are run and ignored."""
    devices = devices_for(seeds)
    return -(-seeds // devices) * devices


def over_seeds(function: Callable[..., tuple[PyTree, PyTree]], seeds: int) -> Callable[..., tuple[PyTree, PyTree]]:
    """Map ``function(state, *shared) → (state, out)`` over the leading axis of `state`, as one compiled program.

    Every seed gets the shared arguments as they are. The old state's memory is given up to the new one.
    """
    local = _as_batch if batched() else _one_by_one
    return _program(lambda states, *shared: local(lambda state: function(state, *shared), states), seeds, (0,))


def each_seed(function: Callable[..., PyTree], seeds: int) -> Callable[..., PyTree]:
    """Map ``function(state, *shared) → out`` over the leading axis of `state`; the state stays."""

    def local(states: PyTree, *shared: Any) -> PyTree:
        if batched():
            return jax.vmap(lambda state: function(state, *shared), axis_name=AXIS)(states)
        return jax.lax.map(lambda state: function(state, *shared), states)

    return _program(local, seeds, ())


def _program(local: Callable[..., PyTree], seeds: int, donated: tuple[int, ...]) -> Callable[..., PyTree]:
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()[: devices_for(seeds)]), ("devices",))
    split, whole = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()

    def program(states: PyTree, *shared: Any) -> PyTree:
        specs = (split, *(whole for _ in shared))
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(states, *shared)

    return jax.jit(program, donate_argnums=donated, compiler_options=None if batched() else CPU_OPTIONS)


def _as_batch(function: Callable[[PyTree], tuple[PyTree, PyTree]], states: PyTree) -> tuple[PyTree, PyTree]:
    return jax.vmap(function, axis_name=AXIS)(states)


def _one_by_one(function: Callable[[PyTree], tuple[PyTree, PyTree]], states: PyTree) -> tuple[PyTree, PyTree]:
    """A loop that holds one seed's state beside all seeds' states, where `jax.lax.map` would hold them twice."""

    def step(states: PyTree, i: Array) -> tuple[PyTree, PyTree]:
        state = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), states)
        state, out = function(state)
        put = jax.lax.dynamic_update_index_in_dim
        return jax.tree.map(lambda all_, one: put(all_, one, i, 0), states, state), out

    count = jax.tree.leaves(states)[0].shape[0]
    if count == 1:
        state, out = function(jax.tree.map(lambda x: x[0], states))
        return jax.tree.map(lambda x: x[None], (state, out))
    return jax.lax.scan(step, states, jnp.arange(count))
