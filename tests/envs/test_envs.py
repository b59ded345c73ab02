"""Environments: the games' known answers, SMAX's endings and sizes, names, and what `check` catches."""

import itertools
import subprocess
import sys
import types
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from support.junction import Junction
from support.places import ROOT

from ovmse import envs
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.guarded import EnvFault, GuardedEnv
from ovmse.envs.matrix import GAMES, MatrixGame

SIZES = {
    "3m": (75, 72, 8),
    "2s3z": (127, 120, 10),
    "3s_vs_5z": (101, 96, 10),
    "5m_vs_6m": (140, 132, 11),
    "6h_vs_8z": (179, 168, 13),
    "3s5z_vs_3s6z": (218, 204, 14),
    "10m_vs_11m": (270, 252, 16),
    "27m_vs_30m": (738, 684, 35),
}


def play_all(env, plan):
    """The return of a fixed plan of joint actions, and the last result."""
    state, _ = env.reset(jax.random.key(0))
    total = 0.0
    for action in plan:
        state, _, result = env.step(jax.random.key(0), state, jnp.asarray(action))
        total += float(result.reward)
        if result.terminal:
            break
    return total, result


# Matrix games


@pytest.mark.parametrize(("game", "best"), [("climbing", 11.0), ("penalty", 10.0), ("two_step", 8.0)])
def test_optimum_by_brute_force(game, best):
    env = envs.make(f"matrix:{game}")
    joint = list(itertools.product(range(env.spec.n_actions), repeat=2))
    results = {plan: play_all(env, plan) for plan in itertools.product(joint, repeat=env.spec.episode_limit)}
    assert max(total for total, _ in results.values()) == best == env.optimal_return
    for total, result in results.values():
        assert result.terminal and not result.truncated
        assert bool(result.won) == (total == best)


def test_two_step_game_needs_three_coordinated_choices():
    env = envs.make("matrix:two_step")
    assert play_all(env, [(1, 0), (1, 1)])[0] == 8
    assert play_all(env, [(1, 0), (0, 1)])[0] == 1
    assert play_all(env, [(0, 1), (1, 1)])[0] == 7  # agent 1's first action does not matter
    np.testing.assert_array_equal(env.optimal_values[0], [[7, 7], [8, 8]])


def test_matrix_observations_tell_the_stage_and_vanish_at_the_end():
    env = envs.make("matrix:two_step")
    state, observation = env.reset(jax.random.key(0))
    assert observation.state.tolist() == [1, 0, 0]
    state, observation, result = env.step(jax.random.key(0), state, jnp.array([1, 0]))
    assert observation.obs.tolist() == [[0, 0, 1]] * 2
    assert not result.terminal and not result.won
    _, observation, result = env.step(jax.random.key(0), state, jnp.array([0, 0]))
    assert not observation.state.any() and result.terminal


@given(st.floats(-1e4, 0, allow_nan=False))
@settings(max_examples=20, deadline=None)
def test_penalty_game_is_symmetric_and_its_optimum_ignores_the_penalty(k):
    env = envs.make("matrix:penalty", penalty=k)
    np.testing.assert_array_equal(env.optimal_values[0], env.optimal_values[0].T)
    assert env.optimal_values[0, 0, 2] == k
    assert env.optimal_return == 10
    assert env.spec.settings == {"penalty": k}


# SMAX


def rollout(env, seed, policy, n_steps):
    """One episode of `n_steps`, played on after its end: the first observation, observations, results, alive units."""
    key, first = jax.random.split(seed)
    state, observation = env.reset(first)

    def step(carry, key):
        state, observation = carry
        act, move = jax.random.split(key)
        state, observation, result = env.step(move, state, policy(act, observation.avail))
        return (state, observation), (observation, result, state.state.unit_alive)

    _, rows = jax.lax.scan(step, (state, observation), jax.random.split(key, n_steps))
    return observation, *rows


def shoot_or_hold(key, avail):
    """Shoot, all at the first enemy in range, else stay (action 4) and let them come."""
    action = jnp.arange(avail.shape[-1])
    preference = jnp.where(action > 4, 20 - action, action == 4)
    return jnp.argmax(jnp.where(avail, preference, -1.0), axis=-1)


def anything(key, avail):
    return jax.random.categorical(key, jnp.where(avail, 0.0, -jnp.inf))


LIMIT = 17  # steps; some battles are decided before, some are not
SHOOTERS = 128  # battles by `shoot_or_hold`, followed by as many at random


@pytest.fixture(scope="module")
def battles():
    """First observations, observations, results and alive units of battles; the first axis is the battle."""
    env = envs.make("smax:3m", max_steps=LIMIT)

    def one(key, shoots):
        def policy(key, avail):
            return jnp.where(shoots, shoot_or_hold(key, avail), anything(key, avail))

        return rollout(env, key, policy, LIMIT)

    keys, shoots = jax.random.split(jax.random.key(0), 2 * SHOOTERS), jnp.arange(2 * SHOOTERS) < SHOOTERS
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys, shoots))


@pytest.mark.slow
def test_a_won_battle_returns_20_and_any_other_at_most_10(battles):
    _, _, result, alive = battles
    lengths = np.argmax(result.terminal | result.truncated, axis=1) + 1
    n_won = 0
    for reward, won, end, units in zip(result.reward, result.won, lengths, alive, strict=True):
        assert not won[: end - 1].any()
        total = reward[:end].sum()
        if won[end - 1]:
            n_won += 1
            assert total == pytest.approx(20, abs=1e-3)
            assert not units[end - 1, 3:].any() and units[end - 1, :3].any()
        else:
            assert 0 <= total <= 10 + 1e-3
    assert 0 < n_won < SHOOTERS


def test_terminal_means_that_a_side_is_dead_and_truncated_that_none_is(battles):
    _, _, result, alive = battles
    dead_side = ~alive[:, :, :3].any(-1) | ~alive[:, :, 3:].any(-1)
    np.testing.assert_array_equal(result.terminal, dead_side)
    np.testing.assert_array_equal(result.truncated[:, -1], ~dead_side[:, -1])
    assert not result.truncated[:, :-1].any()
    assert 0 < result.truncated.sum() < len(alive)


def test_observations_and_state_are_of_order_one(battles):
    first, observation, _, _ = battles
    for rows in (first, observation):
        assert np.abs(rows.obs).max() <= 1.0 + 1e-5
        assert rows.state.min() >= 0.0 and rows.state.max() <= 1.0 + 1e-5
    units = first.state[:, :60].reshape(-1, 6, 10)
    assert (units[:, :, 0] == 1).all()  # health
    assert (np.abs(units[:, :3, 1] - 0.25) < 0.1).all()  # the allies start a quarter in from the left
    assert (np.abs(units[:, 3:, 1] - 0.75) < 0.1).all()


def test_dead_agents_may_only_stop(battles):
    _, observation, _, alive = battles
    dead = ~alive[:, :, :3]
    assert dead.any()
    assert (observation.avail[dead] == np.eye(8, dtype=bool)[4]).all()
    assert (observation.obs[dead] == 0).all()
    assert observation.avail[~dead][:, :5].all()


@pytest.mark.slow
def test_time_limit_is_not_terminal_and_steps_compile_once():
    env = envs.make("smax:3m", max_steps=2)
    step, key, hold = jax.jit(env.step), jax.random.key(0), jnp.full(3, 4)
    state, _ = env.reset(key)
    state, _, first = step(key, state, hold)
    state, _, last = step(key, state, hold)
    assert step._cache_size() == 1
    assert not first.truncated and last.truncated
    assert not (first.terminal or last.terminal or last.won)


@pytest.mark.slow
def test_smax_settings_reach_the_game():
    rules = {"reward_scale": 1, "enemy_shoots": False, "walls_cause_death": False, "attack_mode": "random"}
    env = envs.make("smax:3m", **rules)
    assert env.spec.settings.items() >= rules.items()
    play = jax.jit(lambda key: rollout(env, key, shoot_or_hold, 100))
    _, _, result, alive = play(jax.random.key(0))
    assert alive[:, :3].all()  # neither enemies nor walls kill
    assert result.won.any()
    assert result.reward[: int(np.argmax(result.won)) + 1].sum() == pytest.approx(2, abs=1e-4)


@pytest.mark.parametrize("name", ["smax:3m", "smax:smacv2_5_units"])
@pytest.mark.slow
def test_types_after_reset_equal_types_after_step(name):
    env = envs.make(name)
    key, action = jax.random.key(0), jnp.zeros(env.spec.n_agents, jnp.int32)
    state, observation = jax.eval_shape(env.reset, key)
    later, later_view, _ = jax.eval_shape(env.step, key, state, action)

    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    assert types((state, observation)) == types((later, later_view))


@pytest.mark.parametrize("map_name", SIZES)
def test_smax_sizes(map_name):
    spec = envs.make(f"smax:{map_name}").spec
    assert (spec.obs_size, spec.state_size, spec.n_actions) == SIZES[map_name]
    assert spec.has_win and spec.episode_limit == 100 and spec.version.startswith("jaxmarl ")


@pytest.mark.slow
def test_only_smax_is_imported_of_jaxmarl():
    """Silently, and so that jaxmarl can still be imported whole afterwards."""
    script = """
import sys
import ovmse.envs
ovmse.envs.make("smax:3m")
found = [name for name in sys.modules if name.startswith("jaxmarl")]
assert all(name.startswith(("jaxmarl.environments.smax", "jaxmarl.environments.")) for name in found), found
assert "jaxmarl" not in found and not any("overcooked" in name for name in found), found
from ovmse.envs.smax import _jaxmarl
import jaxmarl
assert jaxmarl.make and _jaxmarl()[0] is type(jaxmarl.make("HeuristicEnemySMAX"))
"""
    done = subprocess.run([sys.executable, "-c", script.replace("import jaxmarl\n", QUIET_IMPORT)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"", done.stdout


QUIET_IMPORT = "import os\nsys.__stdout__ = sys.stdout = open(os.devnull, 'w')\nimport jaxmarl\n"


# make


def test_names_can_be_made():
    listed = envs.names()
    assert {"smax:3m", "smax:smacv2_20_units", "matrix:two_step"} <= set(listed)
    for name in listed:
        env = envs.make(name)
        assert env.spec.name == name
        assert envs.make(name, **env.spec.settings).spec == env.spec


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("smax:3n", {}, r"unknown SMAX map '3n'\. Did you mean '3m'"),
        ("matrix:climb", {}, r"unknown matrix game 'climb'\. Did you mean 'climbing'"),
        ("smaks:3m", {}, r"unknown environment 'smaks:3m'.* 'smax:3m'"),
        ("3m", {}, r"unknown environment '3m'.*package\.module:attribute"),
        ("smax:", {}, r"unknown environment 'smax:'"),
        ("smax:3m", {"max_step": 3}, r"unknown setting of smax:3m 'max_step'\. Did you mean 'max_steps'"),
        ("smax:3m", {"max_steps": "3"}, r"'max_steps' of smax:3m must be int; got '3'"),
        ("smax:3m", {"max_steps": True}, r"'max_steps' of smax:3m must be int; got True"),
        ("smax:3m", {"max_steps": 0}, r"max_steps must be greater than 0"),
        ("smax:3m", {"attack_mode": "closer"}, r"unknown attack_mode 'closer'\. Did you mean 'closest'"),
        (
            "matrix:climbing",
            {"penalty": 1.0},
            r"unknown setting of matrix:climbing 'penalty'.*takes no settings",
        ),
        ("matrix:penalty", {"penalty": 1.0}, r"must be at most 0"),
        ("pettingzoo:nothing_here.at_all", {}, r"pip install 'ovmse\[pettingzoo\]'"),
        ("ovmse.envs.matrix:Nothing", {}, r"unknown attribute of ovmse\.envs\.matrix 'Nothing'"),
        ("ovmse.envs.matrix:GAMES", {}, r"must be callable"),
        ("builtins:dict", {}, r"made a dict without spec, reset, step"),
    ],
)
def test_bad_names_and_settings_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **options)


def test_own_environment_by_import_path(monkeypatch):
    module = types.ModuleType("my_lab")
    module.climb = lambda rounds=1: MatrixGame("climbing")
    monkeypatch.setitem(sys.modules, "my_lab", module)
    assert envs.make("my_lab:climb", rounds=2).spec.n_actions == 3
    with pytest.raises(UserError, match="unknown setting of my_lab:climb 'round'.*'rounds'"):
        envs.make("my_lab:climb", round=2)


LAB = """from dataclasses import dataclass
from ovmse.envs.matrix import MatrixGame
from ovmse.envs import Environment, HostEnvironment
from ovmse.core.types import StepResult
@dataclass
class SquaredLoss:
    weight: float = 1.0
def climb():
    return MatrixGame("climbing")
def penalty() -> MatrixGame:
    return MatrixGame("penalty")
def loss(x) -> float:
    return x
"""


def test_a_misspelt_environment_is_answered_with_environments_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lab_of_one.py").write_text(LAB)
    with pytest.raises(UserError, match=r"'clim'\. Did you mean 'climb'\? Known: MatrixGame, climb, penalty\.$"):
        envs.make("lab_of_one:clim")
    with pytest.raises(
        UserError, match=r"unknown attribute of ovmse\.methods\.losses 'Env'\. No class or function there"
    ):
        envs.make("ovmse.methods.losses:Env")


@pytest.mark.parametrize("name", ["{}:Env", "pettingzoo:{}"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import not_installed_anywhere", "not_installed_anywhere"),
        ("raise SystemExit(3)", "can't import"),
        ("def broken(:", "can't import"),
    ],
)
def test_a_module_in_the_current_directory_is_found_and_its_faults_are_said(name, text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = f"here_{abs(hash((name, text)))}"
    Path(f"{module}.py").write_text(text)
    with pytest.raises(UserError, match=said):
        envs.make(name.format(module))


FAULTY = """import os
from ovmse.envs.matrix import MatrixGame
class Raises:
    def __init__(self):
        raise KeyError("no such map")
class Ends:
    def __init__(self):
        raise SystemExit(3)
class Moves:
    def __init__(self):
        os.chdir("/")
        self.spec = MatrixGame("climbing").spec
    def reset_host(self, seed):
        os.chdir("/")
        raise GeneratorExit
    step_host = reset_host
"""


def test_an_environment_that_fails_leaves_or_ends_everything_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("faulty_envs.py").write_text(FAULTY)
    for name, told in {"Raises": "KeyError: 'no such map'", "Ends": "SystemExit: 3"}.items():
        with pytest.raises(UserError, match=f"^faulty_envs:{name} could not be made: {told}"):
            envs.make(f"faulty_envs:{name}")
    guarded = GuardedEnv(lambda: envs.make("faulty_envs:Moves"), 10.0)
    assert Path.cwd() == tmp_path
    with pytest.raises(EnvFault, match="reset raised GeneratorExit"):
        guarded.reset_host(0)
    assert Path.cwd() == tmp_path


# check


@pytest.mark.parametrize("name", [f"matrix:{game}" for game in GAMES] + ["smax:smacv2_5_units"])
@pytest.mark.slow
def test_check_passes_on_shipped_environments(name):
    envs.check(envs.make(name), episodes=2)


class Counter:
    """A host environment that keeps to the protocol: two agents, four steps, cut off by the limit."""

    def __init__(self, **changes):
        self.spec = EnvSpec("counter", "1", {}, 2, 3, 4, 5, 4, False)._replace(**changes)

    def reset_host(self, seed):
        self.rng, self.t = np.random.default_rng(seed), 0
        return self.view()

    def view(self):
        obs = self.rng.random((2, 4), np.float32)
        return Observation(obs, np.full(5, self.t, np.float32), np.ones((2, 3), bool))

    def step_host(self, action):
        self.t += 1
        flags = np.bool_(False), np.bool_(self.t == 4), np.bool_(False)
        return self.view(), StepResult(np.float32(action.sum()), *flags)


class Walk:
    """A JAX environment that keeps to the protocol: a walk that is over after three steps."""

    spec = EnvSpec("walk", "1", {}, 2, 3, 1, 1, 3, True)

    def reset(self, key):
        state = {"t": jnp.int32(0), "x": jax.random.uniform(key)}
        return state, self.view(state)

    def view(self, state):
        return Observation(jnp.full((2, 1), state["x"]), state["x"][None], jnp.ones((2, 3), bool))

    def step(self, key, state, action):
        noise = jax.random.uniform(key)
        state = {"t": state["t"] + 1, "x": state["x"] + noise + action.sum().astype(jnp.float32)}
        over = state["t"] == 3
        return state, self.view(state), StepResult(noise, over, jnp.array(False), over & (noise > 0.5))


def test_check_passes_on_environments_that_keep_to_the_protocol():
    envs.check(Counter())
    envs.check(Walk())


def broken_host(**parts):
    """A Counter whose `observation` or result is changed by functions of (environment, value)."""

    class Broken(Counter):
        def view(self):
            return parts.get("observation", lambda env, observation: observation)(self, super().view())

        def step_host(self, action):
            observation, result = super().step_host(action)
            return observation, parts.get("result", lambda env, result: result)(self, result)

    return Broken(**parts.get("spec", {}))


def with_entry(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


HOST_BREACHES = {
    "obs shape": (
        {"observation": lambda env, v: v._replace(obs=v.obs[:, :3])},
        r"check of counter: seed 0: reset_host: Observation.obs must have shape \(2, 4\), .*; got \(2, 3\)",
    ),
    "state dtype": (
        {"observation": lambda env, v: v._replace(state=v.state.astype(float))},
        r"reset_host: Observation.state must have dtype float32; got float64",
    ),
    "avail dtype": (
        {"observation": lambda env, v: v._replace(avail=v.avail.astype(np.uint8))},
        r"Observation.avail must have dtype bool; got uint8",
    ),
    "list": (
        {"observation": lambda env, v: v._replace(state=[0.0] * 5)},
        r"Observation.state must be an array; got list",
    ),
    "nan": (
        {"observation": lambda env, v: v._replace(obs=with_entry(v.obs, (1, 2), np.nan)) if env.t == 2 else v},
        r"step_host at step 1: Observation.obs of agent 1, feature 2, is nan",
    ),
    "no legal action": (
        {"observation": lambda env, v: v._replace(avail=with_entry(v.avail, 1, False)) if env.t == 3 else v},
        r"step_host at step 2: Observation.avail leaves agent 1 no legal action",
    ),
    "not a observation": (
        {"observation": lambda env, v: tuple(v)},
        r"expected an ovmse.core.types.Observation; got tuple",
    ),
    "both ends": (
        {"result": lambda env, o: o._replace(terminal=o.truncated)},
        r"step_host at step 3: terminal and truncated are both true",
    ),
    "endless": (
        {"result": lambda env, o: o._replace(truncated=np.bool_(False))},
        r"step 3: the episode goes on after spec.episode_limit = 4 steps; set truncated at the limit",
    ),
    "text as reward": (
        {"result": lambda env, o: o._replace(reward="1.0")},
        r"StepResult.reward must have dtype float32; got <U3",
    ),
    "reward per agent": (
        {"result": lambda env, o: o._replace(reward=np.ones(2, np.float32))},
        r"StepResult.reward must have shape \(\)",
    ),
    "infinite reward": (
        {"result": lambda env, o: o._replace(reward=np.float32(np.inf))},
        r"step 0: StepResult.reward is inf",
    ),
    "won without has_win": (
        {"result": lambda env, o: o._replace(won=o.truncated)},
        r"StepResult.won is true although spec.has_win is False",
    ),
    "won early": (
        {"result": lambda env, o: o._replace(won=np.bool_(True)), "spec": {"has_win": True}},
        r"step 0: StepResult.won is true before the episode's last step",
    ),
    "own randomness": (
        {"observation": lambda env, v: v._replace(obs=np.random.default_rng().random((2, 4), np.float32))},
        r"two episodes with seed 0 and equal actions differ: Observation.obs after reset",
    ),
    "no agents": ({"spec": {"n_agents": 0}}, r"spec.n_agents must be an int of at least 1; got 0"),
    "settings": ({"spec": {"settings": {"f": print}}}, r"spec.settings must hold JSON values only"),
    "tuple settings": ({"spec": {"settings": {"f": (1, 2)}}}, r"spec.settings must hold JSON values only"),
}


@pytest.mark.parametrize("case", HOST_BREACHES)
def test_check_names_what_a_host_environment_breaks(case):
    parts, message = HOST_BREACHES[case]
    with pytest.raises(UserError, match=message):
        envs.check(broken_host(**parts))


def test_check_takes_the_numbers_of_python_from_a_host():
    plain = {"reward": float, "terminal": bool, "truncated": bool, "won": bool}
    envs.check(broken_host(result=lambda env, o: o._replace(**{k: kind(getattr(o, k)) for k, kind in plain.items()})))


def test_check_sees_a_reused_buffer():
    buffer = np.zeros((2, 4), np.float32)

    def observation(env, v):
        buffer[:] = env.t
        return v._replace(obs=buffer)

    with pytest.raises(UserError, match=r"Observation.obs of row 0 was changed by a later step; return fresh arrays"):
        envs.check(broken_host(observation=observation))


def test_check_sees_a_host_environment_that_resets_itself():
    class Resets(Counter):
        def step_host(self, action):
            _, result = super().step_host(action)
            observation = self.reset_host(0) if result.truncated else self.view()
            return observation, result

        def view(self):
            return super().view()._replace(obs=np.zeros((2, 4), np.float32))

    with pytest.raises(UserError, match=r"every episode's last row equals its first row"):
        envs.check(Resets())


def test_check_sees_a_wrong_number_of_results():
    env = Counter()
    env.step_host = lambda action: (*Counter.step_host(env, action), {})
    with pytest.raises(UserError, match=r"step_host must return a tuple of 2 values; got 3 values"):
        envs.check(env)


def test_check_sees_a_missing_spec():
    with pytest.raises(UserError, match=r"check of object: object\.spec must be an .*EnvSpec; got None"):
        envs.check(object())


class WeakStart(Walk):
    def reset(self, key):
        state, observation = super().reset(key)
        return state | {"x": 0.5}, observation


class PythonBranch(Walk):
    def step(self, key, state, action):
        return super().step(key, state, -action if action[0] > 1 else action)


class SecondState(Walk):
    def step(self, key, state, action):
        state, observation, result = super().step(key, state, action)
        return state | {"extra": key}, observation, result


class ResetsItself(Walk):
    def step(self, key, state, action):
        state, observation, result = super().step(key, state, action)
        fresh, fresh_view = self.reset(key)
        state, observation = jax.tree.map(
            lambda new, old: jnp.where(result.terminal, new, old), (fresh, fresh_view), (state, observation)
        )
        return state, observation, result


class ImpureReset(Walk):
    def reset(self, key):
        drawn = jax.pure_callback(lambda: np.float32(np.random.default_rng().random()), jnp.float32(0))
        state = {"t": jnp.int32(0), "x": drawn}
        return state, self.view(state)


class CannotBatch(Walk):
    def step(self, key, state, action):
        state, observation, result = super().step(key, state, action)
        total = jax.pure_callback(lambda x: np.float32(x), jnp.float32(0), state["x"])
        return state | {"x": total}, observation, result


class BatchesWrongly(Walk):
    def step(self, key, state, action):
        state, observation, result = super().step(key, state, action)
        last = jax.pure_callback(
            lambda x: np.full(np.shape(x), np.max(x), np.float32),
            jnp.float32(0),
            state["x"],
            vmap_method="broadcast_all",
        )
        return state, observation._replace(state=last[None]), result


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            WeakStart,
            r"state\['x'\] is float32\[\] \(weakly typed\) after reset but float32\[\] after.*twice",
        ),
        (PythonBranch, r"jax.jit cannot trace step: TracerBoolConversionError"),
        (SecondState, r"state has the structure .* after reset, but .*extra.* after step"),
        (ResetsItself, r"state\['t'\] counts steps and is back at 0 after the last"),
        (ImpureReset, r"two episodes with seed 0 and equal actions differ: Observation.obs after reset"),
        (CannotBatch, r"step fails under jax.vmap: NotImplementedError"),
        (BatchesWrongly, r"Observation.state of step \d differs between jax.vmap and a single call"),
    ],
)
def test_check_names_what_a_jax_environment_breaks(broken, message):
    with pytest.raises(UserError, match=message):
        envs.check(broken())


def test_the_environment_of_the_documentation(monkeypatch):
    page = ROOT / "docs" / "environments.md"
    code = page.read_text().split("### Your own")[1].split("```python")[1].split("```")[0]
    module = types.ModuleType("my_lab")
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, "my_lab", module)
    env = envs.make("my_lab:Meet", limit=30)
    envs.check(env, episodes=5)
    assert envs.make(env.spec.name, **env.spec.settings).spec == env.spec


@pytest.mark.parametrize("method", ["reset_host", "step_host"])
def test_a_check_tells_what_the_environment_raised_and_where(method):
    env = Junction()

    def fails(argument):
        raise KeyError("hm")

    setattr(env, method, fails)
    with pytest.raises(UserError, match=rf"check of .*: seed 0: {method}.* raised KeyError: 'hm' \(test_envs.py, line"):
        envs.check(env)
