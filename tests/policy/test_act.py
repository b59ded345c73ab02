"""A team acts in NumPy as it does in JAX, whatever its networks: as a whole, by names, and each agent alone."""

import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from support.episodes import SMALL, SPEC, random_avail, random_episode, write_dataset
from support.policies import Greedy, seed_of, write_run

import ovmse
from ovmse.core.errors import UserError
from ovmse.core.mixers import mix, weights_at
from ovmse.core.networks import Parts, agent_step, chosen, first_hidden
from ovmse.core.padding import out_of_play
from ovmse.core.types import Observation
from ovmse.data.profile import profile
from ovmse.data.schema import Names
from ovmse.methods import METHODS
from ovmse.methods.method import Method
from ovmse.methods.signatures import LearnsInstead
from ovmse.policy import onnx_model
from ovmse.policy.load import LEARNS, read_team
from ovmse.system.files import write_json

EPISODES, STEPS = 5, 8
N, A, F, S = SPEC.n_agents, SPEC.n_actions, SPEC.obs_size, SPEC.state_size


def seen_at(rng, episodes=EPISODES):
    """What a team sees at one row of episodes side by side."""
    obs, state = rng.normal(size=(episodes, N, F)), rng.normal(size=(episodes, S))
    return Observation(obs.astype(np.float32), state.astype(np.float32), random_avail(rng, (episodes, N, A)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "run"
    write_run(folder, "ovmse")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_s_team_does_what_it_does_in_jax(name, tmp_path):
    offline, last = write_run(tmp_path / "run", name)
    team, memory, rng = ovmse.load(tmp_path / "run", seed=1), None, np.random.default_rng(1)
    jax_plays = Greedy(METHODS[name], seed_of(last, 1), seed_of(offline, 1), episodes=EPISODES)
    for _ in range(STEPS):
        seen = seen_at(rng)
        action, memory = team.act(seen.obs, seen.avail, memory)
        assert np.array_equal(action, jax_plays(seen))


def test_layer_normalisation_and_critics_are_as_in_jax(tmp_path):
    method = dataclasses.replace(METHODS["finetune"], parts=Parts(critics=3, normalise=True))
    _, last = write_run(tmp_path / "run", method)
    team, memory, rng = ovmse.load(tmp_path / "run", seed=0), None, np.random.default_rng(1)
    jax_plays = Greedy(method, seed_of(last, 0), episodes=EPISODES)
    for _ in range(STEPS):
        seen = seen_at(rng)
        action, memory = team.act(seen.obs, seen.avail, memory)
        assert np.array_equal(action, jax_plays(seen))


PER_AGENT = dataclasses.replace(SMALL, parameters="per_agent")
PER_KIND = dataclasses.replace(SMALL, parameters="per_kind", kinds="arm,cart,arm")


@pytest.mark.parametrize(
    ("name", "learner"), [("ovmse", PER_KIND), ("awac", PER_AGENT), ("reincarnation", PER_KIND), ("rlpd", PER_AGENT)]
)
def test_agents_with_networks_of_their_own_do_what_they_do_in_jax(name, learner, tmp_path):
    offline, last = write_run(tmp_path / "run", name, learner=learner)
    team, memory, rng = ovmse.load(tmp_path / "run", seed=1), None, np.random.default_rng(1)
    jax_plays = Greedy(METHODS[name], seed_of(last, 1), seed_of(offline, 1), episodes=EPISODES)
    alone = [team.agent(agent) for agent in team.names]
    memories = [None] * N
    for _ in range(STEPS):
        seen = seen_at(rng)
        action, memory = team.act(seen.obs, seen.avail, memory)
        assert np.array_equal(action, jax_plays(seen))
        for i, one in enumerate(alone):
            own, memories[i] = one.act(seen.obs[:, i], seen.avail[:, i], memories[i])
            assert np.array_equal(own, action[:, i])


def test_q_tot_is_that_of_jax_where_agents_have_networks_of_their_own_and_some_are_out_of_play(tmp_path):
    _, last = write_run(tmp_path / "run", "ovmse", learner=PER_KIND)
    team, one, seen = ovmse.load(tmp_path / "run"), seed_of(last, 0), seen_at(np.random.default_rng(2))
    absent = np.arange(EPISODES * N).reshape(EPISODES, N) % 4 == 0
    obs, avail = out_of_play(seen.obs, seen.avail, absent)
    seen = seen._replace(obs=obs, avail=avail)
    blank = jnp.broadcast_to(first_hidden(one.agent, N), (EPISODES, N, SMALL.hidden))
    _, heads = agent_step(one.agent, blank, jnp.asarray(seen.obs), jnp.zeros((EPISODES, N, A)))
    best, _ = team.act(seen.obs, seen.avail)
    weights = weights_at(one.mixer, jnp.asarray(seen.state), jnp.asarray(~absent))
    expected = mix(weights, chosen(heads.q, jnp.asarray(best)))
    found = team.values(seen.obs, seen.avail, state=seen.state)
    np.testing.assert_allclose(found.utilities, heads.q, atol=1e-5)
    np.testing.assert_allclose(found.q_tot, expected, rtol=1e-5, atol=1e-5)


def test_an_onnx_model_has_the_networks_of_all_kinds(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    write_run(tmp_path / "run", "ovmse", learner=PER_KIND)
    team, rng = ovmse.load(tmp_path / "run"), np.random.default_rng(7)
    session = onnxruntime.InferenceSession(onnx_model.build(team))
    last, hidden, memory = np.full((EPISODES, N), -1), np.zeros((EPISODES, N, SMALL.hidden), np.float32), None
    for _ in range(STEPS):
        seen = seen_at(rng)
        given = {"observations": seen.obs, "available": seen.avail, "last_action": last, "hidden": hidden}
        expected = team.values(seen.obs, seen.avail, memory).scores
        action, memory = team.act(seen.obs, seen.avail, memory)
        last, scores, hidden = session.run(["action", "scores", "next_hidden"], given)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        assert np.array_equal(last, action)


@pytest.mark.parametrize("mixer", ["qmix", "linear", "vdn"])
def test_the_values_are_those_of_jax(mixer, tmp_path):
    learner = dataclasses.replace(SMALL, mixer=mixer)
    _, last = write_run(tmp_path / "run", "ovmse", learner=learner)
    team, one, seen = ovmse.load(tmp_path / "run", seed=0), seed_of(last, 0), seen_at(np.random.default_rng(2))
    blank = jnp.broadcast_to(first_hidden(one.agent, N), (EPISODES, N, SMALL.hidden))
    _, heads = agent_step(one.agent, blank, jnp.asarray(seen.obs), jnp.zeros((EPISODES, N, A)))
    found = team.values(seen.obs, seen.avail, state=seen.state)
    np.testing.assert_allclose(found.utilities, heads.q, atol=1e-5)
    best, _ = team.act(seen.obs, seen.avail)
    weights = weights_at(one.mixer, jnp.asarray(seen.state))
    np.testing.assert_allclose(found.q_tot, mix(weights, chosen(heads.q, jnp.asarray(best))), rtol=1e-5, atol=1e-5)
    other = np.zeros_like(best)
    told = team.values(seen.obs, seen.avail, state=seen.state, action=other).q_tot
    np.testing.assert_allclose(told, mix(weights, chosen(heads.q, jnp.asarray(other))), rtol=1e-5, atol=1e-5)
    assert team.values(seen.obs, seen.avail).q_tot is None
    one_row = team.values(seen.obs[0], seen.avail[0], state=seen.state[0]).q_tot
    np.testing.assert_allclose(one_row, found.q_tot[0], rtol=1e-5)
    with pytest.raises(UserError, match=r"state: expected the shape \(5, 3\); got \(3,\)"):
        team.values(seen.obs, state=seen.state[0])


def test_a_team_without_q_tot_says_so(tmp_path):
    state, obs = np.zeros(S, np.float32), np.zeros((N, F), np.float32)
    for name, why in (("bc", "policy alone"), ("iql", "utilities alone"), ("reincarnation", "another network")):
        write_run(tmp_path / name, name)
        team = ovmse.load(tmp_path / name)
        assert (team.values(obs).utilities is None) == (name == "bc")
        with pytest.raises(UserError, match=why):
            team.values(obs, state=state)
    with pytest.raises(UserError, match="alone has no Q_tot"):
        team.agent("agent_1").values(obs[1], state=state)


def test_what_losses_learn_is_known_of_all_methods():
    losses = [loss for method in METHODS.values() for loss in (method.offline_loss, method.online_loss)]
    assert {type(loss).__name__: loss.learns for loss in losses if isinstance(loss, LearnsInstead)} == LEARNS


def test_names_and_single_agents_do_what_arrays_do(run):
    team, rng = ovmse.load(run), np.random.default_rng(3)
    alone = {name: team.agent(name) for name in team.names}
    memory = by_name = None
    memories = dict.fromkeys(team.names)
    for _ in range(STEPS):
        seen = seen_at(rng, episodes=1)
        obs, avail = seen.obs[0], seen.avail[0]
        expected, memory = team.act(obs, avail, memory)
        named = [dict(zip(team.names, x, strict=True)) for x in (obs, avail)]
        action, by_name = team.act(*named, by_name)
        assert action == dict(zip(team.names, expected.tolist(), strict=True))
        for i, name in enumerate(team.names):
            own, memories[name] = alone[name].act(obs[i], avail[i], memories[name])
            assert own == expected[i]
    assert memory.step == STEPS


def test_the_last_action_can_be_another_than_was_chosen(run):
    team, rng = ovmse.load(run), np.random.default_rng(4)
    first, then = (seen_at(rng, episodes=1).obs[0] for _ in range(2))
    chose, memory = team.act(first)
    done = (chose + 1) % A
    assert not np.allclose(team.values(then, memory=memory).scores, team.values(then, None, memory, done).scores)
    by_hand = memory._replace(last_action=done)
    assert np.array_equal(team.values(then, None, memory, done).scores, team.values(then, memory=by_hand).scores)
    assert np.array_equal(team.act(then, None, memory, chose)[0], team.act(then, None, memory)[0])


def test_who_has_left_is_not_named(run):
    team, seen = ovmse.load(run), seen_at(np.random.default_rng(5), episodes=1)
    obs, avail = seen.obs[0].copy(), seen.avail[0].copy()
    here = [0, 2]
    action, memory = team.act({team.names[i]: obs[i] for i in here}, {team.names[i]: avail[i] for i in here})
    obs[1], avail[1] = 0.0, [True, False, False, False]
    expected, after = team.act(obs, avail)
    assert action == {team.names[i]: expected[i] for i in here}
    np.testing.assert_array_equal(memory.hidden, after.hidden)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda obs, avail: (obs[:2], avail), r"observations: expected the shape \(3, 2\)"),
        (lambda obs, avail: (obs, avail[:, :3]), r"available: expected the shape \(3, 4\)"),
        (lambda obs, avail: (obs * np.array([[1], [np.nan], [1]]), avail), "agent_1 sees what is not finite"),
        (lambda obs, avail: (obs, avail & np.array([[1], [1], [0]], bool)), "agent_2 has no legal action"),
        (lambda obs, avail: (obs, avail, None, [0, 4, 0]), "agent_1 did last what is none of 0 to 3"),
        (lambda obs, avail: ({"agent_7": obs[0]}, None), "expected a dict by names"),
        (lambda obs, avail: ({"agent_0": obs[0]}, {"agent_1": avail[0]}), "available: expected a dict by names"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(run, given, says):
    seen = seen_at(np.random.default_rng(6), episodes=1)
    with pytest.raises(ValueError, match=says):
        ovmse.load(run).act(*given(seen.obs[0], seen.avail[0]))


def test_a_memory_of_other_episodes_is_refused(run):
    team, seen = ovmse.load(run), seen_at(np.random.default_rng(6))
    _, memory = team.act(seen.obs)
    with pytest.raises(ValueError, match="memory of another shape"):
        team.act(seen.obs[0], memory=memory)


def test_acting_imports_no_jax(run):
    code = f"import ovmse, sys, numpy; t = ovmse.load({str(run)!r}); t.act(numpy.zeros((3, 2)))"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print([m for m in ('jax', 'jaxtyping', 'equinox') if m in sys.modules])"],
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "[]", told.stderr


# What a run's directory tells


def test_seeds_go_by_their_numbers(tmp_path):
    _, last = write_run(tmp_path / "run", "finetune", seeds=3, seed=5)
    first = ovmse.load(tmp_path / "run")
    assert first.contract["came_from"]["seed"] == 5
    taken = ovmse.load(tmp_path / "run", seed=7).weights["agent.head.bias"]
    np.testing.assert_array_equal(taken, last.agent.head.bias[2])
    with pytest.raises(UserError, match="seeds 5 to 7; got seed 0"):
        ovmse.load(tmp_path / "run", seed=0)


def test_the_offline_and_the_safe_team_can_be_had(tmp_path):
    offline, last = write_run(tmp_path / "run", "duce")
    loaded = ovmse.load(tmp_path / "run", teams="offline")
    np.testing.assert_array_equal(loaded.weights["agent.head.bias"], offline.agent.head.bias[0])
    with pytest.raises(UserError, match="no verdict of a guard"):
        ovmse.load(tmp_path / "run", teams="safe")
    (tmp_path / "run" / "summary.json").write_text(
        '{"guard": [{"seed": 1, "below": true}, {"seed": 0, "below": false}]}'
    )
    for seed, expected in enumerate((last, offline)):
        safe = ovmse.load(tmp_path / "run", seed=seed, teams="safe")
        np.testing.assert_array_equal(safe.weights["agent.head.bias"], expected.agent.head.bias[seed])


def test_names_are_read_where_the_dataset_has_them(tmp_path):
    write_run(tmp_path / "run", "ovmse")
    names = '{"agents": ["arm", "belt", "cart"], "actions": ["stop", "go", "lift", "drop"], "features": ["x", "y"]}'
    (tmp_path / "run" / "dataset.json").write_text(f'{{"checksum": "sha256:1", "names": {names}}}')
    team = ovmse.load(tmp_path / "run")
    assert team.names == ["arm", "belt", "cart"]
    assert team.actions[team.act({name: [0.0, 1.0] for name in team.names})[0]["belt"]] in team.actions
    assert team.contract["features"] == ["x", "y"]
    (tmp_path / "run" / "dataset.json").write_text('{"names": {"agents": ["arm", "arm", "cart"]}}')
    with pytest.raises(UserError, match="names: agents: expected 3 names, all different"):
        ovmse.load(tmp_path / "run")


def test_names_go_from_a_dataset_to_the_team_that_acts(tmp_path):
    write_run(tmp_path / "run", "ovmse")
    names = Names(("arm", "belt", "cart"), ("stop", "go", "lift", "drop"), ("x", "y"))
    data = write_dataset(tmp_path / "data", SPEC, [random_episode(np.random.default_rng(0), 3)], names=names)
    write_json(tmp_path / "run" / "dataset.json", profile(data))
    team = ovmse.load(tmp_path / "run")
    assert (team.names, team.actions, team.contract["features"]) == tuple(list(x) for x in names[:3])


def test_an_agent_is_never_told_what_it_never_had(tmp_path):
    write_run(tmp_path / "run", "ovmse")
    episode = random_episode(np.random.default_rng(0), 3)
    episode.avail[..., 2], episode.avail[:, 1, 1:] = True, False  # the second one has its first action alone
    episode.avail[:, 1, 0], episode.avail[:, 0] = True, True
    episode = episode._replace(action=np.where([False, True, False], 0, 2) + 0 * episode.action)
    data = write_dataset(tmp_path / "data", SPEC, [episode])
    write_json(tmp_path / "run" / "dataset.json", profile(data))
    team = ovmse.load(tmp_path / "run")
    assert team.contract["own_actions"][:2] == [[0, 1, 2, 3], [0]]
    seen = np.random.default_rng(1).normal(size=(50, 3, 2))
    assert set(team.act(seen)[0][:, 1]) == {0} == set(team.agent(team.names[1]).act(seen[:, 1])[0])
    everything = np.ones((50, 3, 4), bool)
    assert set(team.act(seen, everything)[0][:, 1]) != {0}  # what is legal is the plant's to say
    (tmp_path / "run" / "dataset.json").write_text('{"own_actions": [[0], [7], [1]]}')
    with pytest.raises(UserError, match="own_actions: expected some of 4 for each agent"):
        ovmse.load(tmp_path / "run")


def test_a_run_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(UserError, match="config.json is missing: .* is neither a run's directory nor an export's"):
        read_team(tmp_path / "none")


def by_the_weather(inputs):
    """Utilities that no policy can have without this code."""
    return inputs.q


@pytest.mark.parametrize("part", [by_the_weather])
def test_acting_by_somebody_s_own_code_is_refused(tmp_path, part):
    method: Method = dataclasses.replace(METHODS["finetune"], acting_utilities=part)
    write_run(tmp_path / "run", method)
    with pytest.raises(UserError, match=r"acting_utilities is .*by_the_weather.*--teams offline"):
        ovmse.load(tmp_path / "run")
    assert ovmse.load(tmp_path / "run", teams="offline").names == ["agent_0", "agent_1", "agent_2"]


def changed(old, new):
    """Puts one text in place of another in a run's configuration."""

    def change(run):
        text = (run / "config.json").read_text()
        assert old in text
        (run / "config.json").write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "config.json").unlink(), "neither a run's directory nor an export's"),
        (lambda run: (run / "teams.safetensors").unlink(), "did not get there"),
        (lambda run: (run / "teams.safetensors").write_bytes(b"no"), "missing or damaged"),
        (changed('"hidden": 8', '"hidden": 9'), r"agent.encoder.weight: expected float32\[9, 9\]"),
        (changed('"seeds": 2', '"seeds": 3'), "expected a leading axis of 3 seeds; got fewer"),
        (changed('"n_agents": 3', '"n_agents": 99999999999'), "env_spec.n_agents"),
    ],
)
def test_a_run_that_cannot_be_used_is_refused(tmp_path, damage, says):
    write_run(tmp_path / "run", "rlpd")
    damage(tmp_path / "run")
    with pytest.raises(UserError, match=says):
        ovmse.load(tmp_path / "run", seed=2 if "leading" in says else None)
    with pytest.raises(UserError, match="is not there"):
        ovmse.load(tmp_path / "elsewhere")
