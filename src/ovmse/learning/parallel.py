"""Seeds run side by side: one on each core of a CPU, batch after batch, or all as one batch on an accelerator.

The states of all seeds are a list of batches. A batch's arrays have a leading axis, the seeds that run at the same
time; one compiled program serves every batch. What is small can be joined into one array over all seeds, and split
again.

Where there are two cores for every seed, both run the seed's whole program, each with the seed's state, and share the
work of what is `over_cores`.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ovmse.learning.numbers import numbers_of, with_numbers
from ovmse.system.clock import waiting_for

AXIS = "seeds"
CORES = "cores"
CORES_PER_SEED = 2  # at most: a batch is computed in as many shares, see `ovmse.learning.update`
# On a CPU the matrix products are library calls, so that LLVM's costlier passes make nothing but compilation slower:
# at level 1 SMAX compiles in a third of the time, and updates are as fast. Who asks JAX for level 0 gets that.
CPU_OPTIONS = {"xla_backend_optimization_level": 1}
# Cores that share a seed wait for each other, however long the process is stopped; XLA would warn, and then end it.
PATIENCE = {"xla_cpu_collective_call_warn_stuck_seconds": 10**8}

SeedBatches = list[Any]
"""A tree of arrays per batch, each with the leading axis of `seeds_per_batch` seeds."""


def batched() -> bool:
    """Whether seeds run as one batch (an accelerator) rather than one on each core."""
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


def cores_per_seed(seeds: int) -> int:
    """How many cores work on each of that many seeds; every one of them holds the seed's state."""
    return 1 if batched() else min(CORES_PER_SEED, jax.local_device_count() // devices_for(seeds))


def over_cores(function: Callable[[PyTree], PyTree], parts: PyTree) -> PyTree:
    """``function(parts)``, which treats each place of the leading axis alone, in equal shares by the cores of a seed.

    Every core gets all results. What does not divide evenly is left to every core.
    """
    cores = jax.sharding.get_abstract_mesh().shape.get(CORES, 1)
    share, left = divmod(len(jax.tree.leaves(parts)[0]), cores)
    if cores == 1 or left:
        return function(parts)
    first = share * jax.lax.axis_index(CORES)
    mine = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, share), parts)
    return jax.tree.map(lambda x: jax.lax.all_gather(x, CORES, tiled=True), function(mine))


def padded_seeds(seeds: int) -> int:
    """Seeds rounded up to what divides evenly over the devices; the extra ones are run and ignored."""
    devices = devices_for(seeds)
    return -(-seeds // devices) * devices


def seeds_per_batch(seeds: int) -> int:
    """How many seeds run at the same time."""
    return padded_seeds(seeds) if batched() else devices_for(seeds)


def split(tree: PyTree, seeds: int) -> SeedBatches:
    """The batches of a tree whose arrays have all seeds (`padded_seeds`) on their leading axis, each on its device."""
    along, size = (
        jax.sharding.NamedSharding(_mesh(seeds), jax.sharding.PartitionSpec("devices")),
        seeds_per_batch(seeds),
    )
    parts = [jax.tree.map(lambda x: x[i : i + size], tree) for i in range(0, padded_seeds(seeds), size)]  # noqa: B023
    return jax.device_put(parts, along)


def join(batches: SeedBatches) -> PyTree:
    """The batches' trees as one, on the host, with all seeds on the leading axis. Random keys stay on the device."""

    def concatenate(*parts: Any) -> Any:
        if jax.dtypes.issubdtype(parts[0].dtype, jax.dtypes.prng_key):
            return jnp.concatenate(parts)
        return np.concatenate([np.asarray(part) for part in parts])

    return jax.tree.map(concatenate, *batches)


def shared(tree: PyTree, seeds: int) -> PyTree:
    """Host arrays for all devices that so many seeds use; on a CPU aligned ones stay where they are, held once."""
    everywhere = jax.sharding.NamedSharding(_mesh(seeds), jax.sharding.PartitionSpec())
    return jax.device_put(tree, everywhere, may_alias=True)


def over_seeds(
    function: Callable[..., PyTree], seeds: int, keep: bool = False, settings: tuple[Any, ...] = ()
) -> "Program":
    """Map ``function(*settings, state, *shared)`` over all seeds: the result takes ``(batches of states, *shared)``.

    Every seed gets the shared arguments as they are. A state's memory is given up to the results unless `keep` is set.
    With batches of something `beside` the states, the function is ``function(*settings, state, beside, *shared)``.
    The numbers of the settings, dataclasses, are arguments of the compiled program (`ovmse.learning.numbers`).
    A call does not wait for its results, so that each device goes on alone through the batches.
    """
    along, whole = jax.sharding.PartitionSpec("devices"), jax.sharding.PartitionSpec()

    def one(numbers: dict[str, Array], state: PyTree, beside: PyTree, *shared: Any) -> PyTree:
        states = (state,) if beside is None else (state, beside)
        return function(*with_numbers(settings, numbers), *states, *shared)

    def local(states: PyTree, beside: PyTree, numbers: dict[str, Array], *shared: Any) -> PyTree:
        if batched():
            return jax.vmap(lambda state, own: one(numbers, state, own, *shared), axis_name=AXIS)(states, beside)
        alone = one(numbers, *jax.tree.map(lambda x: x[0], (states, beside)), *shared)
        return jax.tree.map(lambda x: x[None], alone)

    def program(states: PyTree, beside: PyTree, *shared: Any) -> PyTree:
        specs = (along, along, *(whole for _ in shared))
        mapped = jax.shard_map(local, mesh=_mesh(seeds), in_specs=specs, out_specs=along, check_vma=False)
        return mapped(states, beside, *shared)

    donated = () if keep else (0,)
    compiled = jax.jit(program, donate_argnums=donated, compiler_options=_options(seeds))
    # as JAX describes what a program gives: else the same program would have another place in the cache
    placed = jax.sharding.NamedSharding(_mesh(seeds), along if devices_for(seeds) > 1 else whole)
    return Program(compiled, numbers_of(settings), placed)


class Program:
    """A function mapped over all seeds (`over_seeds`), compiled at its first call, or before that by `compile`."""

    def __init__(self, compiled: Any, numbers: dict[str, np.ndarray], along: jax.sharding.NamedSharding):
        self._compiled, self._numbers, self._along, self._lock = compiled, numbers, along, threading.Lock()

    def __call__(self, batches: SeedBatches, *shared: Any, beside: SeedBatches | None = None) -> SeedBatches:
        """The results of all batches. Waits where another thread is about to compile the same."""
        besides = beside or [None] * len(batches)
        with waiting_for(self._lock):
            return [
                self._compiled(states, own, self._numbers, *shared)
                for states, own in zip(batches, besides, strict=True)
            ]

    def compile(self, states: PyTree, *shared: Any, beside: PyTree = None) -> None:
        """Compile it for a batch of these shapes, and shared arguments like these. Nothing is computed."""
        placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._along), (states, beside))
        with self._lock:
            self._compiled.lower(*placed, self._numbers, *shared).compile()


def _options(seeds: int) -> dict[str, int]:
    light = batched() or jax.config.read("jax_disable_most_optimizations")
    return ({} if light else CPU_OPTIONS) | (PATIENCE if cores_per_seed(seeds) > 1 else {})


def _mesh(seeds: int) -> jax.sharding.Mesh:
    shape = devices_for(seeds), cores_per_seed(seeds)
    return jax.sharding.Mesh(np.asarray(jax.local_devices()[: math.prod(shape)]).reshape(shape), ("devices", CORES))
