"""The rollback guard: what it decides from rows, what it changes in a state, and whole runs that are made to fail."""

import json
import signal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import (
    SMALL,
    SPEC,
    as_jax,
    random_episode,
    random_team,
    replay_of,
    small_run,
    write_dataset,
    write_two_step,
)

from ovmse.cli.main import main
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.schedules import constant
from ovmse.learning import learner, phases, replay as replays
from ovmse.learning.parallel import over_seeds, seeds_per_batch, split
from ovmse.learning.phases import begin
from ovmse.methods import METHODS
from ovmse.methods.losses import CQL
from ovmse.methods.method import Method
from ovmse.methods.targets import TD
from ovmse.runs.saved_config import read_config
from ovmse.system import pytree_files
from ovmse.system.signals import Interrupted
from ovmse.training import rollback
from ovmse.training.display import Display
from ovmse.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_length")]


def rows_of(scores, wins=True, seed=0):
    """Online rows with these scores, evaluated every 100 environment steps."""
    return [
        {
            "phase": "online",
            "seed": seed,
            "env_steps": 100 * k,
            "updates": 10 * k,
            "win_rate": score if wins else None,
            "return": score,
        }
        for k, score in enumerate(scores)
    ]


def rolled_back_at(scores, margin=0.1, patience=2, wins=True):
    """The evaluations after which the guard acts, as a run would ask it; the last evaluation ends the run."""
    config = Config(guard_margin=margin, guard_patience=patience)
    past = []
    for k, row in enumerate(rows_of(scores, wins)):
        rollback.check_rollback(config, past, [row], over=k == len(scores) - 1)
        past.append(row)
    return [k for k, row in enumerate(past) if row["rolled_back"]]


# What it decides


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        ([0.5, 0.5, 0.6, 0.45, 0.5, 0.5], {}, []),
        ([0.5, 0.3, 0.3, 0.5, 0.5, 0.5], {}, [2]),  # two in a row
        ([0.5, 0.3, 0.5, 0.3, 0.5, 0.3, 0.5], {}, []),  # never two in a row
        ([0.5, 0.4, 0.4, 0.4, 0.4], {}, []),  # the margin below is not more than the margin below
        ([0.5, 0.39, 0.39, 0.4, 0.4], {}, [2]),
        ([0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5], {}, [2, 4]),  # counted anew after each return
        ([0.5, 0.1, 0.1, 0.1, 0.1], {"patience": 1}, [1, 2, 3]),
        ([0.5, 0.1, 0.1, 0.1, 0.1], {"patience": 3}, [3]),
        ([0.5, 0.5, 0.1, 0.1], {}, []),  # at the end there is nothing left to learn
        ([0.0, 0.0, 0.0, 0.0], {}, []),  # nothing was there to lose
        ([10.0, 8.9, 8.9, 10.0], {"wins": False}, [2]),  # without wins the margin is a share of |return|
        ([10.0, 9.1, 9.1, 10.0], {"wins": False}, []),
        ([-10.0, -10.9, -10.9, -10.0], {"wins": False}, []),
        ([-10.0, -11.1, -11.1, -10.0], {"wins": False}, [2]),
    ],
)
def test_the_guard_acts_where_the_score_stays_below(scores, settings, expected):
    assert rolled_back_at(scores, **settings) == expected


def test_each_seed_is_judged_by_its_own_rows():
    config = Config(seeds=2, guard_margin=0.1)
    past = [*rows_of([0.5, 0.1], seed=0), *rows_of([0.2, 0.2], seed=1)]
    past = [row | {"rolled_back": False} for row in past]
    rows = [{**rows_of([0, 0, 0.1], seed=seed)[-1]} for seed in (0, 1)]
    assert [row["seed"] for row in rollback.check_rollback(config, past, rows, over=False)] == [0]
    assert [row["rolled_back"] for row in rows] == [True, False]
    assert np.concatenate(rollback.flags(config, [rows[1]]))[:2].tolist() == [False, True]
    told = rollback.events(config, [*past, *rows])
    assert told["seeds"] == [
        {"seed": 0, "before": 0.5, "rollbacks": [{"env_steps": 200, "updates": 20, "score": 0.1}]},
        {"seed": 1, "before": 0.2, "rollbacks": []},
    ]
    assert [x["below"] for x in rollback.verdicts(config, [*past, *rows])] == [True, False]


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("jsrl", "new networks"),
        ("scratch", "no offline phase"),
        ("rlpd", "no offline phase"),
        ("offline", "nothing online"),
    ],
)
def test_methods_without_a_policy_to_return_to_are_refused(method, says):
    rollback.check(Config(method=method), METHODS[method])  # without a guard nothing is refused
    with pytest.raises(UserError, match=says):
        rollback.check(Config(method=method, guard_margin=0.1), METHODS[method])


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.5, float("nan")])
def test_a_margin_is_a_share_above_zero(margin):
    with pytest.raises(UserError, match="guard-margin must be above 0"):
        Config(guard_margin=margin)


# What it changes


def test_only_the_flagged_seed_returns_and_its_replay_stays(tmp_path):
    config = Config(env=SPEC.name, seeds=3, online_env_steps=100, replay_env_steps=60, batch_episodes=4, learner=SMALL)
    method = Method(offline_loss=CQL(), online_target=TD(), offline_share=constant(0.5), priority=lambda inputs: 1.0)
    rng = np.random.default_rng(0)
    data = as_jax(replay_of(write_dataset(tmp_path / "data", SPEC, [random_episode(rng, n) for n in (3, 6, 2)])))
    episode = as_jax(random_episode(rng, 4))

    def under_way(offline, online, key):
        state = phases.handover(config, SPEC, method, begin(learner.restart(SMALL, offline), key), data)
        moved = learner.restart(SMALL, online)._replace(updates=jnp.int32(30), target=offline)
        moved = moved._replace(optimiser=jax.tree.map(lambda x: x + 1, moved.optimiser))
        replay = replays.insert(state.replay, episode, jnp.full(SPEC.episode_limit, 2.0))
        counts = {"env_steps": jnp.int32(4), "episodes": jnp.int32(1)}
        return state._replace(learner=moved, replay=replay, priority=state.priority * 3, **counts)

    each = [under_way(random_team(i), random_team(i + 10), jax.random.key(i)) for i in range(3)]
    slots = -(-3 // seeds_per_batch(3)) * seeds_per_batch(3)
    states = jax.tree.map(lambda *x: jnp.stack(x), *[each[i % 3] for i in range(slots)])
    back = over_seeds(lambda state, flag: rollback.send_back(config, state, flag), 3, keep=True)
    rounds = back(split(states, 3), beside=rollback.flags(config, [{"seed": 1}]))
    after = jax.tree.map(lambda *x: jnp.concatenate(x), *rounds)
    for i, before in enumerate(each):
        found = jax.tree.map(lambda x: x[i], after)  # noqa: B023
        if i != 1:
            assert eqx.tree_equal(found, before)
            continue
        assert eqx.tree_equal(found.learner.team, random_team(1)) and eqx.tree_equal(
            found.learner.target, random_team(1)
        )
        assert all((x == 0).all() for x in jax.tree.leaves(found.learner.optimiser))
        assert (found.priority == 1).all() and int(found.learner.updates) == 30
        for name in ("replay", "offline_team", "env_steps", "episodes", "data_offline_value"):
            assert eqx.tree_equal(getattr(found, name), getattr(before, name)), name
        assert (jax.random.key_data(found.key) == jax.random.key_data(before.key)).all()


# Whole runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("guard")
    write_two_step(path / "data")
    return path


def misled(folder, name, **changes):
    settings = {"offline_updates": 100, "online_env_steps": 160, "updates_per_collect": 8, "seeds": 3}
    return small_run(
        folder / name, method="support.misled:MISLED", data=str(folder / "data"), **{**settings, **changes}
    )


@pytest.fixture(scope="module")
def unguarded(folder):
    return train(misled(folder, "unguarded"))


@pytest.fixture(scope="module")
def guarded(folder):
    return train(misled(folder, "guarded", guard_margin=0.5))


def online(result, name, seed):
    """One seed's online column."""
    return [row[name] for row in result.rows if row["seed"] == seed and row["phase"] == "online"]


def assert_same_run(found, expected):
    for a, b in zip(jax.tree.leaves(found.teams), jax.tree.leaves(expected.teams), strict=True):
        np.testing.assert_array_equal(a, b)
    timeless = [[{k: v for k, v in row.items() if k != "wall_s"} for row in run.rows] for run in (found, expected)]
    assert timeless[0] == timeless[1]


def test_what_fell_comes_back_with_the_guard_and_stays_below_without(guarded, unguarded):
    for seed in (0, 2):  # the offline phase wins the game in these
        assert online(unguarded, "win_rate", seed) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        assert online(guarded, "win_rate", seed) == [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
        assert online(guarded, "rolled_back", seed) == [False, False, True, False, False, False]
        assert online(unguarded, "rolled_back", seed) == [None] * 6
    offline = pytree_files.restore(guarded.out / "offline.safetensors", guarded.teams)
    for now, then in zip(jax.tree.leaves(guarded.teams), jax.tree.leaves(offline), strict=True):
        np.testing.assert_array_equal(now[::2], then[::2])  # with a fresh optimiser no gradient is no change


def test_a_seed_that_lost_nothing_is_left_alone(guarded, unguarded):
    assert online(guarded, "rolled_back", 1) == [False] * 6 and online(guarded, "win_rate", 1) == [0.0] * 6
    assert online(guarded, "loss", 1) == online(unguarded, "loss", 1)
    for a, b in zip(jax.tree.leaves(guarded.teams), jax.tree.leaves(unguarded.teams), strict=True):
        np.testing.assert_array_equal(a[1], b[1])


def test_the_monitor_sees_it(guarded):
    for seed in (0, 2):
        drift, same = online(guarded, "monitor_drift", seed), online(guarded, "monitor_agreement", seed)
        assert drift[0] == 0.0 and same[0] == 1.0  # at the handover
        assert same[2] < 0.8 and drift[2] != 0.0
        assert drift[3:] == [0.0] * 3 and same[3:] == [1.0] * 3  # back at the offline policy


def test_the_run_says_what_the_guard_did(guarded, unguarded):
    found = json.loads((guarded.out / "guard.json").read_text())
    assert (found["score"], found["margin"], found["patience"]) == ("win_rate", 0.5, 2)
    rollback = {"env_steps": 64, "updates": 164, "score": 0.0}
    assert [seed["rollbacks"] for seed in found["seeds"]] == [[rollback], [], [rollback]]
    summary = json.loads((guarded.out / "summary.json").read_text())
    assert [seed["below"] for seed in summary["guard"]] == [False, False, False]
    assert "guard" not in json.loads((unguarded.out / "summary.json").read_text())
    assert not (unguarded.out / "guard.json").exists()


class StopAt(Display):
    """Presses Ctrl-C after so many environment steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.now = steps, ""

    def phase(self, name, done, total, unit):
        self.now = name

    def advance(self, done, clock, evaluations=0):
        if self.now == "online" and done == self.steps:
            signal.raise_signal(signal.SIGINT)


def test_a_run_stopped_while_the_guard_counts_ends_like_an_undisturbed_one(folder, guarded):
    wanted = misled(folder, "stopped", guard_margin=0.5)
    for steps, resume in ((32, False), (64, True)):  # after the first evaluation below, and just after the return
        with pytest.raises(Interrupted):
            train(wanted, StopAt(steps), resume=resume)
    assert_same_run(train(wanted, resume=True), guarded)
    assert (wanted.out / "guard.json").read_bytes() == (guarded.out / "guard.json").read_bytes()


def test_the_safe_teams_are_the_offline_ones_where_the_last_are_below(folder, capsys):
    """With a patience that the run does not reach, the last teams stay below: 0 and 2 are replaced, 1 is not."""
    out = train(misled(folder, "impatient", guard_margin=0.5, guard_patience=50)).out
    assert [seed["below"] for seed in json.loads((out / "summary.json").read_text())["guard"]] == [True, False, True]
    scores = {}
    for teams in ("safe", "last", "offline"):
        assert main(["evaluate", str(out), "--episodes", "8", "--trust-code", "--teams", teams]) == 0
        rows = json.loads((out / "evaluation.json").read_text())
        scores[teams] = [(row["team"], row["win_rate"]) for row in rows]
    assert scores["last"] == [("last", 0.0)] * 3
    assert [won for _, won in scores["offline"]] == [1.0, 0.0, 1.0]
    assert scores["safe"] == [("offline", 1.0), ("last", 0.0), ("offline", 1.0)]
    assert main(["report", str(out)]) == 0
    text = (out / "report.html").read_text()
    assert "The guard returned no seed. Below it by more than the guard" in text and "seed 0, 2" in text


def test_a_run_without_a_guard_has_no_safe_teams(unguarded, capsys):
    assert main(["evaluate", str(unguarded.out), "--trust-code", "--teams", "safe"]) == 2
    assert "no verdict of a guard" in capsys.readouterr().err


def test_the_report_shows_it(guarded):
    assert main(["report", str(guarded.out)]) == 0
    text = (guarded.out / "report.html").read_text()
    said = "The guard returned seed 0 after 64 environment steps; seed 2 after 64 environment steps"
    assert said in text.replace("\xa0", " ")
    assert "back to the offline policy" in text  # the mark's legend


def test_an_older_run_has_no_guard(folder, guarded):
    older = folder / "older"
    older.mkdir()
    found = json.loads((guarded.out / "config.json").read_text())
    for name in ("guard_margin", "guard_patience"):
        del found[name]
    (older / "config.json").write_text(json.dumps(found))
    config = read_config(older, trusted=True)
    assert config.guard_margin is None and config.guard_patience == 2
