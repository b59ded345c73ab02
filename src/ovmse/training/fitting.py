"""Fitted Q evaluation as the host runs it: fit after fit, in chunks that can be shown and stopped between."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt

from ovmse.core.types import EnvSpec
from ovmse.learning.fqe import FitSettings, Fitted, drawn_episodes, programs, seeing
from ovmse.learning.parallel import seeds_per_batch, shared, split
from ovmse.learning.replay import Replay
from ovmse.system.clock import Clock, Pace

SECONDS_PER_CHUNK = 2.0

Advance = Callable[[int, Clock], None]
"""(updates done of all fits, the clock that measured them as ``fitting``): called after each chunk."""
Fitter = Callable[[UInt[np.ndarray, "P R N"], Advance], Fitted]
"""(what each policy does at every row of the log, `Advance`) → what the fits found."""


def fitter(settings: FitSettings, spec: EnvSpec, data: Replay, policies: int) -> Fitter:
    """What fits the values of so many policies on a log, as often as it is asked to, compiled once.

    Args:
        settings: of the fits. Fit f starts from the same network and sees the same batches whatever the policy, so that
            differences between policies are not those of luck.
        spec: the log's environment.
        data: the log on the host (`from_flat`).
        policies: how many are evaluated at a time. On a CPU each core takes one.
    """
    count, updates = policies * settings.fits, settings.updates
    together = seeds_per_batch(count)
    begin, learn, estimate = programs(settings, spec, data, together)
    log, drawn = shared(seeing(data), together), drawn_episodes(settings, len(data.index.length))

    def fit(policies: UInt[np.ndarray, "P R N"], advance: Advance) -> Fitted:
        clock, pace = Clock(), Pace(SECONDS_PER_CHUNK, first=20)
        halfway: list[Any] = []
        start: list[Any] = []
        for first in range(0, count, together):  # the fits that run at the same time; the last ones may do so twice
            some = np.resize(np.arange(first, min(first + together, count)), together)
            policy, which = np.divmod(some, settings.fits)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(settings.seed), which)
            [fit], done, well = begin(split((policies[policy], keys, drawn[which]), together)), 0, jnp.bool_(True)
            for until, values in ((updates // 2, halfway), (updates, start)):
                while done < until:
                    amount = min(pace.amount(), until - done)
                    with clock.measure("fitting") as chunk:
                        [(fit, well)] = jax.block_until_ready(learn([fit], log, jnp.int32(amount)))
                        chunk.updates = amount * together
                    pace.note(amount, chunk)
                    done += amount
                    advance(first * updates + done * together, clock)
                [found] = estimate([fit], log)
                values.extend(np.where(np.asarray(well)[..., None], found, np.nan))  # what came to a halt has none
        shape = len(policies), settings.fits
        ends, halves = (np.stack(values)[:count].reshape(*shape, -1) for values in (start, halfway))
        return Fitted(ends, halves, drawn)

    return fit
