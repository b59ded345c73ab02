"""The clock: what counts as compiling."""

import threading
import time

import jax
import jax.numpy as jnp

from ovmse.system.clock import Clock, waiting_for


def test_the_wait_for_another_threads_compiler_counts_as_compiling():
    clock, compiler = Clock(), threading.Lock()
    compiler.acquire()
    threading.Timer(0.2, compiler.release).start()
    with clock.measure("online") as chunk, waiting_for(compiler):
        time.sleep(0.05)
    assert 0.1 < chunk.compiling < chunk.seconds
    assert not compiler.locked()


def test_what_another_thread_compiles_does_not():
    clock = Clock()
    other = threading.Thread(target=lambda: jax.jit(lambda x: x * 3 + 1).lower(jnp.ones(7)).compile())
    with clock.measure("online") as chunk:
        other.start()
        other.join()
    assert chunk.seconds > 0 and chunk.compiling == 0
