"""SMAC and SMACv2: StarCraft II itself, which their users install from the projects' own sources."""

import copy
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from ovmse.core.errors import UserError, check_known
from ovmse.envs.contained import quiet
from ovmse.envs.pymarl import MultiAgentTeam, adapted
from ovmse.envs.trial import Habits
from ovmse.system.plugins import version_of

PAGE = "See docs/environments.md, StarCraft."
SOURCES = {
    "smac": "pip install git+https://github.com/oxwhirl/smac.git (the package index's `smac` is another project)",
    "smacv2": "pip install git+https://github.com/oxwhirl/smacv2.git 'protobuf<3.21'",
}
HABITS = Habits(fresh=False, repeatable=False, has_win=True, talks=True)
"""A game of StarCraft goes on from episode to episode with its own random numbers, and starting one takes long."""

UNITS = {
    "terran": (("marine", "marauder", "medivac"), (0.45, 0.45, 0.1), ("medivac",)),
    "zerg": (("zergling", "baneling", "hydralisk"), (0.45, 0.1, 0.45), ("baneling",)),
    "protoss": (("stalker", "zealot", "colossus"), (0.45, 0.45, 0.1), ()),
}
"""Of SMACv2's configurations by race: unit types, how often each is drawn, and which may not make up a whole team."""

AS_PUBLISHED = {"obs_own_pos": True, "use_unit_ranges": True, "min_attack_range": 2}
"""What SMACv2's configurations set besides, where its code has other defaults."""

TELLS_LIMIT = {"continuing_episode": True}
"""Or an end by the time limit looks like a defeat; nothing else hangs on this setting."""


def smac(map_name: str, **settings: Any) -> MultiAgentTeam:
    """A map of SMAC, such as ``5m_vs_6m``; the settings are those of its ``StarCraft2Env``.

    Raises `UserError` where SMAC or the game is not installed, and for unknown maps and settings.
    """
    module = _module("smac")
    check_known("SMAC map", map_name, _import("smac.env.starcraft2.maps.smac_maps").get_smac_map_registry())
    build = _preset(module.StarCraft2Env, module.StarCraft2Env, {"map_name": map_name}, TELLS_LIMIT)
    return _team(f"smac:{map_name}", build, settings)


def smacv2(scenario: str, **settings: Any) -> MultiAgentTeam:
    """A scenario of SMACv2, such as ``terran_5_vs_5``, as its published configurations have it.

    The settings are those of its ``StarCraft2Env``. Raises `UserError` as `smac` does.
    """
    read = re.fullmatch(r"([a-z]+)_(\d+)_vs_(\d+)", scenario)
    if read is None:
        raise UserError(f"smacv2:{scenario}: expected RACE_N_vs_M, such as smacv2:terran_5_vs_5.")
    race, allies, enemies = read[1], int(read[2]), int(read[3])
    check_known("race", race, UNITS)
    module = _module("smacv2")
    fixed = {"map_name": f"10gen_{race}", "capability_config": capabilities(race, allies, enemies)}
    build = _preset(module.StarCraftCapabilityEnvWrapper, module.StarCraft2Env, fixed, AS_PUBLISHED | TELLS_LIMIT)
    return _team(f"smacv2:{scenario}", build, settings)


def capabilities(race: str, allies: int, enemies: int) -> dict[str, Any]:
    """SMACv2's ``capability_config``: teams drawn anew for every battle, which start surrounded or face to face."""
    types, weights, exceptions = UNITS[race]
    teams = {"dist_type": "weighted_teams", "unit_types": list(types), "weights": list(weights), "observe": True}
    if exceptions:
        teams["exception_unit_types"] = list(exceptions)
    starts = {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32}
    return {"n_units": allies, "n_enemies": enemies, "team_gen": teams, "start_positions": starts}


def _team(name: str, build: Callable[..., Any], settings: dict[str, Any]) -> MultiAgentTeam:
    version = f"{version_of(name)}, {game_version(settings.get('game_version'))}"
    return adapted(name, build, settings, version, habits=HABITS, launch=False)


def game_version(asked: str | None) -> str:
    """The version of StarCraft II that runs where this one is `asked` for, None being the latest there is.

    Raises `UserError` where there is no game, or not this version.
    """
    flags = _import("absl.flags").FLAGS
    if not flags.is_parsed():
        flags.mark_as_parsed()  # pysc2 reads the command line, which is ours
    try:
        found = _import("pysc2.run_configs").get(version=asked).version
    except Exception as error:
        raise UserError(
            f"StarCraft II was not found ({error}): put it into ~/StarCraftII or set SC2PATH. {PAGE}"
        ) from error
    return f"StarCraft II {found.game_version} (build {found.build_version})"


def _module(package: str) -> Any:
    try:
        module = _import(f"{package}.env")
        if not hasattr(module, "StarCraft2Env"):
            raise ImportError(f"{package}.env has no StarCraft2Env")
        return module
    except ImportError as error:
        raise UserError(f"{package} can't be imported ({error}): {SOURCES[package]}. {PAGE}") from error


def _import(module: str) -> Any:
    with quiet():
        return importlib.import_module(module)


def _preset(
    build: Callable[..., Any], like: Callable[..., Any], fixed: dict[str, Any], defaults: dict[str, Any]
) -> Callable[..., Any]:
    """`build` with the parameters of `like`, but these settings `fixed`, and these `defaults` in place of its own."""

    def made(**settings: Any) -> Any:
        return build(**copy.deepcopy(fixed), **(defaults | settings))

    kept = [p for p in inspect.signature(like).parameters.values() if p.name not in fixed]
    signature = inspect.Signature([p.replace(default=defaults.get(p.name, p.default)) for p in kept])
    made.__signature__ = signature  # type: ignore[attr-defined]
    return made
