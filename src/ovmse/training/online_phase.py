"""The online phase as the loop runs it: turns of play and learning."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ovmse.config import Config
from ovmse.envs.protocol import is_host
from ovmse.learning import finiteness
from ovmse.learning.lengths import online_lengths
from ovmse.learning.parallel import SeedBatches, any_over_seeds, over_seeds, seeds_per_batch
from ovmse.learning.phases import Phase, SeedState, learn_online
from ovmse.learning.play import Actor
from ovmse.learning.replay import Replay
from ovmse.learning.rollout import Rollout, rollout_shapes
from ovmse.methods.method import Method
from ovmse.system.clock import Chunk
from ovmse.training import online_log
from ovmse.training.loop import PhaseLoop
from ovmse.training.online_log import Turn
from ovmse.training.run import Run, env_steps, halt_causes, teams_of, updates_of

TURNS_AHEAD = 4  # turns of play and learning that are handed to the devices at once


def online_phase(run: Run) -> PhaseLoop:
    """The phase, counted in environment steps; a seed that has got to a mark waits for the others."""
    config, spec, method = run.task.config, run.task.spec, run.task.method
    lengths, collect, env = online_lengths(config, spec, method, run.data), run.collect, run.task.env
    ahead = run.ahead
    assert collect is not None and env is not None

    def learn_some(
        config: Config, method: Method, state: SeedState, played: Rollout, data: Replay | None, mark: Array
    ) -> SeedState:
        # a seed that waits is a loop of no turn, where a branch would copy the replay
        goes_on = any_over_seeds((state.env_steps < mark) & finiteness.is_well(state.sums.halt))
        one_turn = goes_on.astype(jnp.int32)
        return jax.lax.fori_loop(
            0, one_turn, lambda _, state: learn_online(config, spec, method, state, played, data, lengths), state
        )

    learn = over_seeds(learn_some, config.seeds, settings=(config, method))
    played_turns: list[Turn] = []

    def compile_learn(state: SeedState) -> None:
        played = rollout_shapes(spec, seeds_per_batch(config.seeds), config.episodes_per_collect)
        learn.compile(state, run.data, np.int32(0), beside=played)

    def as_actor(state: SeedState) -> Actor:
        return Actor(teams_of(method, state), state.key, state.env_steps, state.episodes)

    def play_and_learn(place: int, state: Any, mark: int) -> Any:
        """One turn of the seeds of one batch."""
        before = jnp.copy(state.env_steps)
        if ahead is None:
            [played] = collect([as_actor(state)], 0, None)
        else:
            with run.clock.measure("waiting_for_play"):
                played = ahead.next(place, as_actor(state))
        [state] = learn([state], run.data, np.int32(mark), beside=[played._replace(measures={})])
        if ahead is not None:
            ahead.learned(place, as_actor(state), np.asarray(state.env_steps > before))
        if run.online_logs:
            played_turns.append((place, played, before, jnp.copy(state.env_steps)))
        return state

    def advance(states: SeedBatches, mark: int, until: int, chunk: Chunk) -> SeedBatches:
        steps = steps_before = env_steps(run, states)
        updates_before, turns = updates_of(run, states), 1
        while steps.min() < until and not halt_causes(run, states).any():
            for _ in range(turns):
                states = [play_and_learn(place, state, mark) for place, state in enumerate(states)]
            was, steps = steps, env_steps(run, states)
            online_log.keep(run.online_logs, played_turns)
            # as many turns more as the seeds need by the last ones' pace, so that no device waits for another
            turns = int(np.clip((until - steps.min()) * turns / max(1, (steps - was).max()), 1, TURNS_AHEAD))
        chunk.env_steps = int((steps - steps_before).sum())
        chunk.updates = int((updates_of(run, states) - updates_before).sum())
        return states

    return PhaseLoop(
        name=Phase.ONLINE,
        budget=config.online_env_steps,
        evaluate_every=config.evaluate_every_env_steps,
        first=200,
        done=lambda states: int(env_steps(run, states).min()),
        advance=advance,
        compile=None if is_host(env) else compile_learn,
    )
