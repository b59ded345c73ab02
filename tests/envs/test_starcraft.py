"""SMAC and SMACv2 by short names, with stand-ins for their packages and the game."""

import sys
import types

import numpy as np
import pytest
from support.skirmish import Skirmish

from ovmse import envs
from ovmse.core.errors import UserError


class StarCraft2Env(Skirmish):
    """The parameters of SMAC's own that matter here; the game is launched by the first reset alone."""

    launched = 0

    def __init__(self, map_name="8m", game_version=None, seed=None, continuing_episode=False, conic_fov=False,
                 obs_own_pos=False, use_unit_ranges=False, min_attack_range=2, capability_config=None):  # fmt: skip
        super().__init__(map_name, tells_limit=continuing_episode)
        self.seed_given, self.config, self.own_pos = seed, capability_config, obs_own_pos

    def reset(self):
        StarCraft2Env.launched += 1
        return super().reset()

    def seed(self):
        """As SMAC has it: it tells the seed, and takes none."""
        return self.seed_given


class Wrapper:
    """As SMACv2 has it: it writes into the configuration that it is given, and hands on what it does not know."""

    def __init__(self, **kwargs):
        kwargs["capability_config"]["team_gen"]["n_units"] = kwargs["capability_config"]["n_units"]
        self.env = StarCraft2Env(**kwargs)

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self):
        self.env.reset()  # after a start that failed it returns nothing


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Stand-ins for smac, smacv2, pysc2 and absl, with StarCraft II 4.10 in two builds."""

    def module(name, **content):
        made = types.ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    def get(version=None):
        if version not in (None, "4.10"):
            raise ValueError(f"Unknown game version: {version}")
        return types.SimpleNamespace(
            version=types.SimpleNamespace(game_version=version or "latest", build_version=75689)
        )

    maps = {"3m": {}, "5m_vs_6m": {}}
    module("smac", __path__=[]), module("smac.env", StarCraft2Env=StarCraft2Env)
    module("smac.env.starcraft2.maps.smac_maps", get_smac_map_registry=lambda: maps)
    module("smacv2", __path__=[])
    module("smacv2.env", StarCraft2Env=StarCraft2Env, StarCraftCapabilityEnvWrapper=Wrapper)
    parsed = types.SimpleNamespace(is_parsed=lambda: False, mark_as_parsed=lambda: None)
    module("absl", __path__=[]), module("absl.flags", FLAGS=parsed)
    module("pysc2", __path__=[]), module("pysc2.run_configs", get=get)
    monkeypatch.setattr("ovmse.envs.pymarl._known_habits", {})
    monkeypatch.setattr(StarCraft2Env, "launched", 0)


def test_making_a_map_launches_no_game_and_records_its_version():
    env = envs.make("smac:5m_vs_6m")
    assert StarCraft2Env.launched == 0
    assert env.spec.version == "smac unknown, StarCraft II latest (build 75689)"
    assert envs.make("smac:5m_vs_6m", game_version="4.10").spec.version.endswith("StarCraft II 4.10 (build 75689)")
    assert env.spec.has_win and "map_name" not in env.spec.settings
    assert envs.make(env.spec.name, **env.spec.settings).spec == env.spec


@pytest.mark.parametrize("name", ["smac:3m", "smacv2:terran_5_vs_5"])
def test_time_limits_are_told_and_check_passes(name):
    env = envs.make(name)
    assert env.spec.settings["continuing_episode"] is True
    env.reset_host(0)
    end = [env.step_host(np.array([1, 1, 1]))[1] for _ in range(8)][-1]
    assert end.truncated and not end.terminal
    envs.check(env)


def test_a_game_crashes_in_its_first_step():
    env = envs.make("smac:3m")
    env.reset_host(0)
    env._env.crashes = (1,)
    with pytest.raises(Exception, match="the game crashed"):
        env.step_host(np.array([1, 1, 1]))


def test_copies_have_games_of_their_own_and_seeds():
    one, two = envs.make("smac:3m"), envs.make("smac:3m")
    one.reset_host(11), two.reset_host(12)
    assert (one._env.seed_given, two._env.seed_given) == (11, 12)
    game = one._env
    one.reset_host(13)
    assert one._env is game  # to start one takes long


def test_smacv2_plays_its_published_scenarios():
    env = envs.make("smacv2:zerg_10_vs_11")
    config = env._env.config
    assert (config["n_units"], config["n_enemies"], env._env.map_name) == (10, 11, "10gen_zerg")
    assert config["team_gen"]["weights"] == [0.45, 0.1, 0.45] and config["team_gen"]["n_units"] == 10
    assert env._env.own_pos is True and env.spec.settings["obs_own_pos"] is True
    assert envs.make("smacv2:zerg_10_vs_11", obs_own_pos=False)._env.own_pos is False
    assert "capability_config" not in env.spec.settings


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("smac:5m_vs_7m", {}, "unknown SMAC map '5m_vs_7m'. Did you mean '5m_vs_6m'"),
        ("smac:3m", {"conic_fow": True}, "unknown setting of smac:3m 'conic_fow'. Did you mean 'conic_fov'"),
        ("smac:3m", {"game_version": "9.9"}, "StarCraft II was not found .*SC2PATH"),
        ("smacv2:human_5_vs_5", {}, "unknown race 'human'"),
    ],
)
def test_bad_names_and_settings_are_named(name, settings, message):
    with pytest.raises(UserError, match=message):
        envs.make(name, **settings)


def test_another_project_by_the_name_of_smac_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "smac.env", types.ModuleType("smac.env"))
    with pytest.raises(UserError, match="smac can't be imported .*another project"):
        envs.make("smac:3m")
