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


def test_what_a_part_compiles_counts_once_and_is_no_part_of_its_time():
    clock = Clock()
    with clock.measure("online") as whole, clock.measure("playing") as part:
        jax.jit(lambda x: x * 5 + 2).lower(jnp.ones(11)).compile()
        time.sleep(0.05)
    summary = clock.summary()
    assert summary["compile_s"] == round(whole.compiling, 3) > 0
    assert 0.05 <= summary["playing_s"] == round(part.busy, 3) < summary["online_s"]
