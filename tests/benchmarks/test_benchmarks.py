"""The benchmark: its floors against counting by hand and against the traced programs; every part on a tiny size."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import (
    __main__ as command,
    ceilings,
    chunks,
    compiling,
    floors,
    options,
    programs,
    records,
    rollout,
    scaling,
    sizes,
    tables,
    timing,
    update,
    workers,
)
from benchmarks.floors import Ceiling, Floor, Sizes
from benchmarks.jobs import Process, Setting
from benchmarks.process import all_jobs
from benchmarks.records import Ratio, Record
from rich.console import Console
from support.episodes import random_episode, random_team, replay_of, small_run

from ovmse import envs
from ovmse.config import Config, LearnerConfig
from ovmse.core.networks import unroll
from ovmse.data.dataset import Dataset
from ovmse.learning import learner, replay
from ovmse.learning.parallel import shared
from ovmse.learning.phases import begin
from ovmse.methods.losses import CQL, SquaredError
from ovmse.methods.method import Method
from ovmse.system.clock import Chunk, Clock

pytestmark = pytest.mark.slow

TINY = sizes.battle_spec(2, 2, 6)._replace(obs_size=3, state_size=5)
SMALL = LearnerConfig(hidden=7, embedding=4, hyper=6)
Z = Sizes(n=2, a=7, inputs=3, s=5, h=7, m=4, e=6, mixes=True)
SETTING = Setting(options.Options(repeats=2, seconds=1e-3), Ceiling(1e9, 1e9), cores=1)


def traced_products(jaxpr) -> int:
    """Operations of all matrix products of a jaxpr, loops unrolled; of alternatives the most expensive one."""
    total = 0
    for eqn in jaxpr.eqns:
        name, inner = eqn.primitive.name, list(jaxprs_in(eqn.params))
        if name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            left = eqn.invars[0].aval.shape
            total += 2 * int(np.prod(eqn.outvars[0].aval.shape)) * int(np.prod([left[d] for d in contract]))
        elif name == "cond":
            total += max(map(traced_products, inner))
        else:
            assert name != "while" or not any(map(traced_products, inner)), "a loop of unknown length multiplies"
            total += eqn.params.get("length", 1) * sum(map(traced_products, inner))
    return total


def jaxprs_in(params):
    """The jaxprs among an equation's parameters."""
    for value in jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
        if hasattr(value, "eqns"):
            yield value
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr


def test_the_walker_counts_products_in_loops():
    def f(x):
        return jax.lax.scan(lambda c, _: (c @ jnp.ones((3, 3)), None), x, None, 5)[0] @ jnp.ones((3, 4))

    assert traced_products(jax.make_jaxpr(f)(jnp.ones((2, 3))).jaxpr) == 5 * 2 * 2 * 3 * 3 + 2 * 2 * 3 * 4


def test_layers_by_hand():
    agent, mixer = floors.agent_layers(Z), floors.mixer_layers(Z)
    assert agent.fed == 2 * (2 * 3 * 7)  # two agents, 3 → 7
    assert agent.inner == 2 * (2 * 7 * 21 + 2 * 7 * 21 + 2 * 7 * 7)  # both products of the GRU, head 7 → 7
    assert mixer.fed == 2 * 5 * 6 + 2 * 5 * 4 + 2 * 5 * 6 + 2 * 5 * 4  # w1, b1, w2, b2
    assert mixer.inner == 2 * 6 * 8 + 2 * 6 * 4 + 2 * 4 * 1 + 2 * 2 * 4 + 2 * 4  # to W1, w2, b2; q·W1, ·w2
    assert agent.backward == agent.fed + 2 * agent.inner
    assert floors.regulariser_layers(Z, "joint", 10).inner == 10 * (2 * 2 * 4 + 2 * 4)
    assert floors.regulariser_layers(Z, "counterfactual", 10).inner == (2 * 7) * 4 * 4
    assert floors.regulariser_layers(Z, "per_agent", 10).forward == 0
    vdn = floors.sizes(TINY, dataclasses.replace(SMALL, mixer="vdn"))
    assert floors.mixer_layers(vdn).forward == floors.regulariser_layers(vdn, "counterfactual", 10).forward == 0


def test_an_update_by_hand():
    agent, mixer = floors.agent_layers(Z), floors.mixer_layers(Z)
    rows, steps = 13, 11  # two episodes
    expected = 2 * rows * agent.forward + steps * agent.backward + steps * (2 * mixer.forward + mixer.backward)
    assert floors.update_products(Z, steps, 2) == expected
    assert floors.sizes(TINY, SMALL) == Z


def test_parameters_and_rows_are_counted_as_they_are():
    team = random_team(0, TINY, config=SMALL)
    assert floors.parameters(Z) == sum(x.size for x in jax.tree.leaves(eqx.filter(team, eqx.is_array)))
    row = replay.row_bytes(TINY)
    assert floors.update_bytes(Z, row, 11, 2) == 7 * 4 * floors.parameters(Z) + 13 * row
    rows = jax.tree.leaves(jax.eval_shape(lambda: replay.empty(TINY, 50)).rows)
    assert row == sum(x.dtype.itemsize * int(np.prod(x.shape[1:])) for x in rows) + 4  # and the memory
    assert floors.stored_bytes(TINY, 10) == 10 * row


def test_acting_costs_what_the_agents_network_traces_to():
    rng = np.random.default_rng(0)
    episode = jax.tree.map(jnp.asarray, random_episode(rng, 6, TINY))
    team = random_team(0, TINY, config=SMALL)
    traced = traced_products(jax.make_jaxpr(lambda e: unroll(team.agent, e).q)(episode).jaxpr)
    dense = Z._replace(inputs=Z.inputs + Z.n + Z.a)
    assert 7 * floors.acting_products(Z) <= traced <= 7 * floors.acting_products(dense)


@pytest.mark.parametrize("loss", [SquaredError(), CQL()])
def test_the_floor_of_an_update_is_what_its_gradient_traces_to(loss):
    episodes = [jax.tree.map(jnp.asarray, random_episode(np.random.default_rng(i), 6, TINY)) for i in range(3)]
    teams = random_team(0, TINY, config=SMALL), random_team(1, TINY, config=SMALL)

    def total(team, slow):
        def of(episode):
            key = jax.random.key(0)
            objective, one = (
                learner.Objective(loss, lambda y, m: y),
                learner.Batch(episode, jnp.zeros(6), jnp.ones(6, bool)),
            )
            return learner.episode_loss(SMALL, objective, team, slow, one, key)[0].loss

        return sum(map(of, episodes))

    traced = traced_products(jax.make_jaxpr(lambda teams: eqx.filter_grad(total)(*teams))(teams).jaxpr)
    steps, mixed = 3 * 6, 4 * 3 * 6 * floors.mixing(Z)  # sums of few terms, which need not be matrix products
    with_one_hot = Z._replace(inputs=Z.inputs + Z.n + Z.a)
    assert floors.update_products(Z, steps, 3) - mixed <= traced
    assert traced <= floors.update_products(with_one_hot, steps + 3, 0)  # a gradient at the last row, too


def test_a_floor_takes_as_long_as_its_larger_part():
    assert Floor(10.0, 4.0).seconds(Ceiling(5.0, 1.0)) == 4.0
    assert Floor(10.0, 4.0).seconds(Ceiling(1.0, 4.0)) == 10.0


def test_the_maps_have_the_environments_sizes():
    for name in ("3m", "27m_vs_30m"):
        spec = envs.make(f"smax:{name}").spec
        assert sizes.map_spec(name, 100) == spec._replace(version="1", settings={})


def test_a_synthetic_dataset_is_a_dataset(tmp_path):
    lengths = sizes.battle_lengths(20, 6)
    flat = sizes.random_flat(TINY, lengths)
    written = replay_of(Dataset.write(tmp_path / "data", spec=TINY, **flat, behaviour="test"))
    made = programs.data_of(sizes.synthetic(TINY, lengths), seeds=1)
    for own, theirs in zip(jax.tree.leaves(made), jax.tree.leaves(written), strict=True):
        np.testing.assert_array_equal(own, theirs)
    held = programs.held(TINY, written, None)["dataset"]
    assert held["steps"] == lengths.sum() and held["step_bytes"] == lengths.sum() * replay.row_bytes(TINY)
    assert held["bytes"] > held["step_bytes"]


def test_padding_is_what_is_computed_over_what_is_there():
    spec = TINY._replace(episode_limit=60)  # in fewer steps all batches would be computed at one length
    method, config = Method(offline_loss=SquaredError()), programs.config_for(spec, batch=8, seeds=1)

    def padding(lengths):
        return programs.padding(config, spec, method, programs.data_of(sizes.synthetic(spec, np.array(lengths)), 1))

    assert padding([60, 60]) == 1.0
    assert 1.0 < padding([10, 60]) < 61 / 36  # of which all would be as long as the longest


def test_a_ratio_is_taken_turn_by_turn():
    assert timing.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == timing.Spread(3.0, 2.0, 4.0, 3)


def test_calls_are_timed_in_turns():
    seen = []
    taken = timing.interleaved({name: lambda units, name=name: seen.append(name) for name in "ab"}, 3, 1e-9)
    assert seen[-6:] == ["a", "b"] * 3
    assert all(len(seconds) == 3 and units >= 1 for seconds, units in taken.values())


def test_records_survive_json():
    record = Record("update", "plain", "3m", 32, 1, 1, "s", timing.spread([1.0, 2.0, 4.0]), 1.0, 0.5, {"steps": 3})
    ratio = Ratio("update", "a ÷ b", "3m", 2, timing.spread([2.0]), "≤ 3")
    for x in (record, ratio):
        assert records.from_json(json.loads(json.dumps(records.as_json(x)))) == x
    assert record.value == (2.0, 1.0, 4.0, 3)


def test_every_shape_of_an_update_is_measured():
    found = ceilings.all_shapes(Z, 2, 3, repeats=2, seconds=1e-4, cores=1)[:1]
    found += ceilings.of_machine(repeats=2, seconds=1e-4, cores=1, copied=2**20)
    assert {r.unit for r in found} == {"FLOP/s", "B/s", "s"}
    assert ceilings.ceiling(found).flops == found[0].value.median
    assert ceilings.products_per_turn(ceilings.Shape("", 2, 3, 5)) == 2 * (2 * 2 * 3 * 5)


SHORT = TINY._replace(episode_limit=1)  # updates are compiled for one length only
LENGTHS = np.ones(5, np.int32)


@pytest.fixture
def tiny(monkeypatch):
    """Small networks, drawn without a compilation."""

    def fresh_offline(config, spec):
        assert config.seeds == 1
        state = begin(learner.restart(SMALL, random_team(0, spec, config=config.learner)), jax.random.key(0))
        return shared([jax.tree.map(lambda x: x[None], state)], seeds=1)

    monkeypatch.setattr(programs, "Config", lambda **given: Config(learner=SMALL, **given))
    monkeypatch.setattr(programs, "fresh_offline", fresh_offline)
    monkeypatch.setattr(programs, "STORED", 2)
    monkeypatch.setattr(update, "ROUND_UPDATES", 2)


def test_updates_are_measured(tiny, monkeypatch):
    monkeypatch.setattr(update, "LOSSES", {"plain": SquaredError(), "counterfactual": CQL(form="counterfactual")})
    found = update.losses(SETTING, SHORT, LENGTHS, batch=2, kind="battles")
    plain, other, ratio = found
    assert plain.share == pytest.approx(plain.floor_seconds / plain.value.median)
    assert other.floor_seconds >= plain.floor_seconds > 0 and ratio.value.repeats == 2
    assert plain.notes["padded_over_real_rows"] == 1


def test_online_updates_with_memory_are_measured(tiny, monkeypatch):
    monkeypatch.setattr(update, "ONLINE", {"ovmse": "ovmse"})
    found = update.online(SETTING, SHORT, LENGTHS, batch=2, kind="battles")
    assert [x.name for x in found] == ["online ovmse, battles"] and found[0].share > 0


def test_seeds_are_measured_side_by_side(tiny, monkeypatch):
    monkeypatch.setattr(programs, "offline_updates", lambda *_: lambda updates: None)
    one, two, ratio = update.seeds(SETTING, SHORT, LENGTHS, batch=2, kind="full", counts=(1, 2))
    assert two.floor_seconds == pytest.approx(2 * one.floor_seconds)
    assert (one.seeds, two.seeds) == (1, 2) and ratio.name.startswith("2 seeds ÷ 1 seed")


def test_one_seed_is_measured_with_all_cores(tiny, monkeypatch):
    monkeypatch.setattr(programs, "offline_updates", lambda *_: lambda updates: None)
    monkeypatch.setattr(programs, "online_rounds", lambda *_: (lambda rounds: None, None))
    monkeypatch.setattr(envs, "make", lambda name: None)
    found = update.alone(SETTING, SHORT, LENGTHS, batch=2, kind="battles")
    assert [(r.name, r.seeds, r.cores) for r in found] == [(name, 1, 1) for name in update.ALONE]
    (ratio,) = command.across([found[0], found[0]._replace(cores=2)])
    assert ratio.goal == "≥ 1.6" and "one seed, offline update" in ratio.name


def test_play_is_measured(tiny, monkeypatch):
    monkeypatch.setattr(rollout, "EPISODES", 2)
    found = rollout.collecting(SETTING, envs.make("matrix:two_step"), episodes=2)
    assert {r.name for r in found} == {"collect", "play greedily", "environment alone"}
    assert all(r.notes["mean_length"] == 2.0 and r.notes["stepped_over_real_steps"] == 1.0 for r in found)


def test_a_phase_is_watched_chunk_by_chunk(tmp_path, monkeypatch):
    def run_phases(task, display):
        clock = Clock()
        for i in range(task.config.offline_updates):
            clock.spent["offline"] = Chunk(updates=5 * (i + 1), seconds=10.0 * (i + 1), compiling=3.0)
            display.advance(5 * (i + 1), clock)

    monkeypatch.setattr(chunks, "run_phases", run_phases)
    config = small_run(tmp_path, method="scratch", offline_updates=20)
    assert chunks.phase_chunks(config, "offline", chunks=2) == [Chunk(updates=5, seconds=10.0)] * 2
    with pytest.raises(ValueError, match="budget is too small"):
        chunks.phase_chunks(config, "offline", chunks=20)


def test_growth_is_compared_with_the_operations(tmp_path):
    def point(name, x, seconds, products):
        value = timing.spread([seconds])
        return Record("scaling", name, "", 32, 1, 1, "s", value, 0.1, 0.5, {name: x, "products": products})

    points = [point("agents", 3, 1.0, 10.0), point("agents", 9, 6.0, 30.0), point("steps", 5, 1.0, 1.0)]
    (ratio,) = scaling.excess(points)
    assert ratio.value.median == pytest.approx(2.0)
    scaling.draw(points, tmp_path / "figures" / "scaling.svg")
    assert (tmp_path / "figures" / "scaling.svg").stat().st_size > 1000


def test_compile_times_are_compared_between_maps():
    def cold(name, seconds):
        notes = {"compiling_s": seconds}
        value = timing.spread([99.0])
        return Record("compiling", "first online step, empty cache", f"smax:{name}", 32, 1, 2, "s", value, notes=notes)

    (ratio,) = compiling.growth([cold("3m", 10.0), cold("27m_vs_30m", 25.0)])
    assert ratio.value.median == 2.5


def test_every_part_has_jobs_somewhere_and_a_lone_core_has_them_all():
    lone = all_jobs(options.Options(), Process(1, single=True, whole=True))
    apart = [all_jobs(options.Options(), Process(*x)) for x in ((1, True, False), (2, False, True))]
    names = [{job.name for job in found} for found in apart]
    assert names[0] | names[1] == {job.name for job in lone}
    assert all(
        any(part in name for name in names[0] | names[1])
        for part in ("update", "rollout", "memory", "scaling", "workers")
    )


def test_the_command_line(tmp_path):
    quick = options.read(["--quick", "--maps", "2s3z"])
    assert quick.maps == ("2s3z",) and quick.batches == (32,) and "compiling" not in quick.only
    assert options.from_json(json.loads(json.dumps(options.as_json(quick)))) == quick
    with pytest.raises(SystemExit):
        options.read(["--repeats", "0"])


def test_figures_are_written_readably():
    assert tables.with_unit(timing.spread([0.0123]), "s")[0] == "12.3 ms"
    assert tables.with_unit(timing.spread([9.04e10]), "FLOP/s")[0] == "90.4 GFLOP/s"
    assert tables.with_unit(timing.spread([84000.0]), "env steps/s")[0] == "84,000 env steps/s"
    console = Console(record=True, width=200)
    tables.show(console, [Record("update", "plain", "smax:3m", 32, 1, 1, "s", timing.spread([0.5]), 0.25, 0.5)])
    text = console.export_text()
    assert "50 %" in text and " 3m " in text


def test_results_of_processes_come_together():
    value = timing.spread([1.0])
    one, two = (Record("update", "plain, full", "smax:3m", 32, 8, cores, "s", value) for cores in (1, 2))
    (ratio,) = command.across([one, two])
    assert ratio.value.median == 1.0 and ratio.goal == "≥ 1.8"


def test_collecting_by_workers_is_measured_beside_its_own_limit():
    setting = Setting(options.Options(repeats=1), Ceiling(1.0, 1.0), 1)
    [found] = workers.collecting(setting, 2, seconds=0.001, waves=1)
    assert found.notes == {"workers": 2, "most": 2000.0} and 0 < found.share < 1
    assert found.value.median == pytest.approx(2000 * found.share)
