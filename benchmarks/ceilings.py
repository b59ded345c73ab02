"""What this machine can do at best: products of matrices at the shapes used, copying, and the cost of doing nothing.

Everything runs as the library runs: the same compiler options, one copy of the work per device, all at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.floors import Ceiling, Sizes
from benchmarks.records import Record
from benchmarks.timing import Spread, beyond_nothing, measure, spread
from ovmse.learning.parallel import batched, over_seeds, split

COPIED_BYTES = 256 * 2**20  # per device: many times a cache
SCAN_STEPS = 10_000


class Shape(NamedTuple):
    """A product [rows, k] x [k, n]. kind: forward (each [rows, n] goes back through [n, k]) or weights ([k, rows] x
    [rows, n], the gradient of the weights)."""

    name: str
    rows: int
    k: int
    n: int
    kind: str = "forward"


def used_shapes(z: Sizes, batch: int, steps: int) -> list[Shape]:
    """The products of an update on `batch` episodes of so many steps: step by step, and over whole sequences."""
    now, all_ = batch * z.n, batch * z.n * steps
    return [
        Shape("GRU, one row", now, z.h, 3 * z.h),
        Shape("GRU, all rows", all_, z.h, 3 * z.h),
        Shape("encoder, one row", now, z.inputs, z.h),
        Shape("encoder, all rows", all_, z.inputs, z.h),
        Shape("hypernetwork, all rows", batch * steps, z.s, z.e),
        Shape("mixing weights, all rows", batch * steps, z.e, z.n * z.m),
        Shape("GRU gradient, one row", now, z.h, 3 * z.h, "weights"),
        Shape("GRU gradient, all rows", all_, z.h, 3 * z.h, "weights"),
    ]


def products_per_turn(shape: Shape) -> int:
    """Operations of one iteration of `chained`: two products of the same size."""
    return 2 * 2 * shape.rows * shape.k * shape.n


def chained(shape: Shape, dtype: jnp.dtype) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(a matrix, iterations) → the matrix after so many pairs of products, each fed by the one before.

    The matrices are scaled so that numbers neither grow nor vanish.
    """
    k_there, k_back = jax.random.split(jax.random.key(0))
    forward = shape.kind == "forward"

    def run(x: jax.Array, count: jax.Array) -> jax.Array:
        if forward:
            there = jax.random.normal(k_there, (shape.k, shape.n), dtype) * shape.k**-0.5
            back = jax.random.normal(k_back, (shape.n, shape.k), dtype) * shape.n**-0.5

            def one(_: jax.Array, x: jax.Array) -> jax.Array:
                return (x @ there) @ back
        else:
            fixed = jax.random.normal(k_there, (shape.rows, shape.k), dtype) * shape.rows**-0.5

            def one(_: jax.Array, x: jax.Array) -> jax.Array:
                return fixed.T @ (fixed @ x)

        return jax.lax.fori_loop(0, count, one, x)

    return run


def on_every_device(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """``function(x, count)`` on every device at once, over the leading axis of x."""
    devices = jax.local_device_count()
    program = over_seeds(function, devices, keep=True)
    return lambda x, count: program(split(x, devices), count)


def product_rate(shape: Shape, dtype: jnp.dtype, repeats: int, seconds: float) -> Spread:
    """Operations per second of a product at one shape, all devices together."""
    devices = jax.local_device_count()
    program = on_every_device(chained(shape, dtype))
    first = (shape.rows, shape.k) if shape.kind == "forward" else (shape.k, shape.n)
    x = jnp.ones((devices, *first), dtype)

    def call(count: int) -> object:
        return program(x, jnp.int32(count))

    return spread([devices * products_per_turn(shape) / t for t in beyond_nothing(call, repeats, seconds)])


def copy_rate(repeats: int, seconds: float, n_bytes: int) -> Spread:
    """Bytes per second, read and written, of adding to an array that no cache holds, all devices together."""
    devices = jax.local_device_count()

    def run(x: jax.Array, count: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, x: x + 1.0, jnp.full((n_bytes // 4,), x)).min()

    program, x = on_every_device(run), jnp.zeros((devices,))

    def call(count: int) -> object:
        return program(x, jnp.int32(count))

    return spread([2 * devices * n_bytes / t for t in beyond_nothing(call, repeats, seconds)])


def scan_latency(repeats: int, steps: int = SCAN_STEPS) -> Spread:
    """Seconds of one step of a scan that does nothing but count."""
    program = jax.jit(lambda x, y: jax.lax.scan(lambda c, _: (c + y, c), x, None, steps))
    zero, one = jnp.zeros(()), jnp.ones(())

    def call() -> object:
        return program(zero, one)

    call()
    took = measure(call, repeats)
    return Spread(took.median / steps, took.low / steps, took.high / steps, repeats)


def dispatch_latency(repeats: int, calls: int = 200) -> Spread:
    """Seconds from calling a compiled function that does next to nothing to having its result."""
    program = jax.jit(lambda x: x + 1.0)
    x = jax.block_until_ready(program(jnp.zeros(())))

    def call() -> None:
        for _ in range(calls):
            jax.block_until_ready(program(x))

    call()
    took = measure(call, repeats)
    return Spread(took.median / calls, took.low / calls, took.high / calls, repeats)


def all_shapes(z: Sizes, batch: int, steps: int, repeats: int, seconds: float, cores: int) -> list[Record]:
    """The rate of every product of an update; on an accelerator in bfloat16 as well."""
    dtypes = [jnp.dtype(jnp.float32), *([jnp.dtype(jnp.bfloat16)] if batched() else [])]
    records = []
    for shape in used_shapes(z, batch, steps):
        for dtype in dtypes:
            rate = product_rate(shape, dtype, repeats, seconds)
            name = f"product, {shape.name}" + ("" if dtype == jnp.float32 else f" ({dtype.name})")
            sizes = f"[{shape.rows}, {shape.k}] x [{shape.k}, {shape.n}]"
            notes: dict[str, float | str] = {"dtype": dtype.name}
            records.append(Record("ceilings", name, sizes, batch, 1, cores, "FLOP/s", rate, notes=notes))
    return records


def of_machine(repeats: int, seconds: float, cores: int, copied: int = COPIED_BYTES) -> list[Record]:
    """Copying, an empty scan, an empty call."""

    def record(name: str, unit: str, value: Spread) -> Record:
        return Record("ceilings", name, "", 0, 1, cores, unit, value)

    return [
        record("memory, read and written", "B/s", copy_rate(repeats, seconds, copied)),
        record("one step of an empty scan", "s", scan_latency(repeats)),
        record("an empty compiled call", "s", dispatch_latency(repeats)),
    ]


def ceiling(records: list[Record]) -> Ceiling:
    """The ceiling that shares refer to: the best median of any float32 product, the strict choice, and copying."""
    products = [r.value.median for r in records if r.unit == "FLOP/s" and r.notes["dtype"] == "float32"]
    return Ceiling(max(products), max(r.value.median for r in records if r.unit == "B/s"))
