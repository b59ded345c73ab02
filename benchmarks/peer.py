"""The online phase beside the scheme of JaxMARL's recurrent QMIX (`benchmarks.yardstick`), in turns, on one core.

Three comparisons: equal sizes and equal reuse, each at its own defaults, and one gradient update on equal batches
without padding. Teams are fresh and act at random, so that battles last as long for both.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import programs, yardstick
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.programs import Progress
from benchmarks.records import Ratio, Record
from benchmarks.sizes import dataset_episodes, full_lengths, synthetic
from benchmarks.timing import interleaved, ratios, spread
from benchmarks.yardstick import PUBLISHED, Scheme
from ovmse import envs
from ovmse.config import Config
from ovmse.envs.protocol import Environment
from ovmse.learning.parallel import CPU_OPTIONS
from ovmse.learning.replay import row_bytes
from ovmse.methods import METHODS
from ovmse.methods.losses import SquaredError
from ovmse.methods.method import Method

MAPS = ("3m", "2s3z", "5m_vs_6m")
ENDLESS = 2**30  # environment steps of a schedule that stands still: the first, random actions
REPLAY_ENV_STEPS = 50_000  # several times a cache, as the yardstick's ring is
FEW = 3  # repeats of a cycle with large networks, which takes many seconds
OWN, YARDSTICK = "ovmse", "yardstick"
XLA_OPTIONS: dict[str, dict[str, Any] | None] = {"XLA's defaults": None, "the library's options": CPU_OPTIONS}
"""How the yardstick is compiled; the faster of them counts."""
WHAT = {"played": "env step", "trained": "trained step"}


class Side(NamedTuple):
    """Something to be timed. run: does so many units of work; done: what is behind it."""

    run: Callable[[int], Any]
    done: Callable[[], Progress]


class Turn(NamedTuple):
    """One turn: seconds of the wall clock and of the processor, environment steps, and steps learnt from."""

    wall: float
    cpu: float
    played: float
    trained: float


def watched(side: Side, turns: list[Turn]) -> Callable[[int], None]:
    """The side as a call that notes its turns."""

    def call(units: int) -> None:
        before = side.done()
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(side.run(units))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        turns.append(Turn(wall, cpu, *(b - a for a, b in zip(before, side.done(), strict=True))))

    return call


def in_turns(setting: Setting, sides: dict[str, Side]) -> dict[str, list[Turn]]:
    """The sides' turns, A, B, A, B, …"""
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    calls = {name: watched(side, turns[name]) for name, side in sides.items()}
    interleaved(calls, setting.options.repeats, setting.options.seconds)
    return {name: found[-setting.options.repeats :] for name, found in turns.items()}


def per(turns: list[Turn], clock: str, what: str) -> list[float]:
    """Seconds of a clock (wall, cpu) per step (played, trained), by turn."""
    return [getattr(turn, clock) / getattr(turn, what) for turn in turns]


def compared(
    setting: Setting, env: str, label: str, sides: dict[str, Side], kinds: tuple[str, ...] = ("played", "trained")
) -> list[Record | Ratio]:
    """Records of the library and of the yardstick as compiled faster, and of the latter over the former."""
    turns = in_turns(setting, sides)
    peers = [name for name in sides if name != OWN]
    best = min(peers, key=lambda name: spread(per(turns[name], "cpu", kinds[-1])).median)
    found: list[Record | Ratio] = []
    for name, side in ((OWN, OWN), (YARDSTICK, best)):
        reuse = [turn.trained / turn.played for turn in turns[side] if turn.played]
        notes: dict[str, float | str] = {"trained_per_played_step": spread(reuse).median} if reuse else {}
        notes |= {} if name == OWN else {"compiled_with": best}
        for kind in kinds:
            for clock in ("cpu", "wall"):
                value = spread(per(turns[side], clock, kind))
                what = f"{name}, {label}, {clock} per {WHAT[kind]}"
                found.append(Record("peer", what, env, 32, 1, setting.cores, "s", value, notes=notes))
    for kind in kinds:
        for clock in ("cpu", "wall"):
            more = ratios(per(turns[best], clock, kind), per(turns[OWN], clock, kind))
            what = f"{YARDSTICK} ÷ {OWN}, {label}, {clock} per {WHAT[kind]}"
            found.append(Ratio("peer", what, env, setting.cores, more, ""))
    return found


def counted(run: Callable[[int], Any], unit: Progress) -> Side:
    """A side each of whose units is the same amount of work."""
    units_done = [0]

    def counting(units: int) -> Any:
        units_done[0] += units
        return run(units)

    return Side(counting, lambda: Progress(*(units_done[0] * x for x in unit)))


def yardsticks(
    scheme: Scheme, env: Environment, one: Callable[[yardstick.State], yardstick.State], unit: Progress, ways: list[str]
) -> dict[str, Side]:
    """The yardstick from a full ring on, compiled in some of the `XLA_OPTIONS`. one: a unit of its work."""
    fill = yardstick.repeated(partial(yardstick.collect, scheme, env), CPU_OPTIONS)
    filled = fill(yardstick.init(scheme, env.spec, jax.random.key(0)), scheme.windows // scheme.envs)

    def side(options: dict[str, Any] | None) -> Side:
        program, held = yardstick.repeated(one, options), [jax.tree.map(jnp.copy, filled)]

        def run(units: int) -> Any:
            held[0] = program(held[0], units)
            return held[0].loss

        return counted(run, unit)

    return {way: side(XLA_OPTIONS[way]) for way in ways}


def phases(setting: Setting, env: Environment, scheme: Scheme, config: Config, label: str) -> list[Record | Ratio]:
    """Whole cycles of the yardstick beside rounds of the online phase from scratch."""
    unit = Progress(scheme.envs * scheme.window, scheme.updates * scheme.trained_steps)
    # one compilation of the large networks is enough: nearly all of their time is in matrix products
    ways = list(XLA_OPTIONS)[: 1 if scheme is PUBLISHED else None]
    peers = yardsticks(scheme, env, partial(yardstick.cycle, scheme, env), unit, ways)
    own = Side(*programs.online_rounds(config, env, METHODS["scratch"]))
    return compared(setting, env.spec.name, label, {OWN: own, **peers})


def config_for(env: Environment, **changes: Any) -> Config:
    """The library's defaults; schedules stand still."""
    name = env.spec.name
    return Config(env=name, method="scratch", replay_env_steps=REPLAY_ENV_STEPS, online_env_steps=ENDLESS, **changes)


def equal_reuse(setting: Setting, env: Environment) -> list[Record | Ratio]:
    """Equal networks, and as many updates as make every played step be learnt from as often."""
    scheme, config = Scheme(), config_for(env)
    updates = round(scheme.reuse * config.episodes_per_collect / config.batch_episodes)
    return phases(setting, env, scheme, config_for(env, updates_per_collect=updates), "equal reuse")


def own_defaults(setting: Setting, env: Environment) -> list[Record | Ratio]:
    """The library's defaults beside the sizes that JaxMARL publishes for SMAX."""
    options = dataclasses.replace(setting.options, repeats=min(FEW, setting.options.repeats))
    return phases(setting._replace(options=options), env, PUBLISHED, config_for(env), "own defaults")


def one_update(setting: Setting, env: Environment) -> list[Record | Ratio]:
    """One gradient update on as many real steps, without padding, from a dataset and from a ring of windows."""
    scheme = Scheme()
    unit = Progress(0, scheme.trained_steps)
    peers = yardsticks(scheme, env, partial(yardstick.update, scheme), unit, list(XLA_OPTIONS))
    steps = scheme.window - 1  # an episode has one row more, as the window has
    spec = env.spec._replace(episode_limit=steps)
    lengths = full_lengths(dataset_episodes(row_bytes(spec), steps), steps)
    data = programs.data_of(synthetic(spec, lengths), seeds=1)
    config = programs.config_for(spec, batch=scheme.batch, seeds=1)
    own = counted(programs.offline_updates(config, spec, Method(offline_loss=SquaredError()), data), unit)
    return compared(setting, spec.name, "one update", {OWN: own, **peers}, kinds=("trained",))


WEIGHTS = {equal_reuse: 2.0, own_defaults: 8.0, one_update: 1.0}
"""The comparisons, and about how long each takes."""


def jobs(options: Options, process: Process) -> list[Job]:
    """On one core: every comparison on every map that has one."""
    if process.cores != 1:
        return []
    return [_job(compare, name, weight) for name in options.maps if name in MAPS for compare, weight in WEIGHTS.items()]


def _job(compare: Callable[[Setting, Environment], list[Record | Ratio]], name: str, weight: float) -> Job:
    def run(setting: Setting) -> list[Record | Ratio]:
        return compare(setting, envs.make(f"smax:{name}"))  # type: ignore[arg-type]

    return Job(f"peer, {compare.__name__.replace('_', ' ')}, {name}", run, weight)
