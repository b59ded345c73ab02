"""Recipes of datasets: the table of those with a name, and recorded ones read back. See `docs/catalogue.md`."""

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ovmse.collection.settings import PATHS, QUALITIES, Collecting
from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.settings import flatten
from ovmse.runs import trusted_code
from ovmse.system.files import as_type

REPLAY_ENV_STEPS = 250_000
"""What a behaviour's replay holds where it trains for longer: about 5,000 episodes of SMAX, as is usual for QMIX."""


class MapBudget(NamedTuple):
    """What a map asks for. behaviour_env_steps: training of the behaviour team; evaluate_every_env_steps: between two
    candidates for medium and expert; episodes: recorded."""

    behaviour_env_steps: int
    evaluate_every_env_steps: int
    episodes: int = 5_000


BUDGETS = {
    "3m": MapBudget(200_000, 2_000, episodes=2_000),
    "2s3z": MapBudget(500_000, 5_000),
    "3s_vs_5z": MapBudget(1_000_000, 10_000),
    "10m_vs_11m": MapBudget(1_000_000, 10_000),
    "5m_vs_6m": MapBudget(2_000_000, 10_000),
    "6h_vs_8z": MapBudget(4_000_000, 20_000),
    "3s5z_vs_3s6z": MapBudget(4_000_000, 20_000),
}
"""By SMAX map, easiest first."""


def named() -> dict[str, Collecting]:
    """The recipes with a name: ``smax-MAP-QUALITY``; the dataset's directory is left to `make`."""
    found = {}
    for (name, budget), quality in itertools.product(BUDGETS.items(), QUALITIES):
        steps = budget.behaviour_env_steps
        whole = steps if quality == "medium-replay" else REPLAY_ENV_STEPS
        replay = None if steps <= REPLAY_ENV_STEPS else whole
        found[f"smax-{name}-{quality}"] = Collecting(
            f"smax:{name}", quality, replay_env_steps=replay, **budget._asdict()
        )
    return found


def collecting(recipe: dict[str, Any], where: str, out: Path, trusted: bool = False) -> Collecting:
    """What a recorded recipe asks to collect, into `out`.

    A setting that the recipe does not have keeps its default: it is younger than the recipe.
    Raises `UserError`, which begins with `where`, for settings that this version does not know or cannot take, and for
    an environment or a rule of somebody's own, unless it is `trusted`.
    """
    known = {*flatten(asdict(Collecting())), "learner"} - set(PATHS)
    settings = {name: value for name, value in recipe.items() if name not in ("made_by", "versions")}
    unreadable = f"{where}: its recipe can't be read"
    if strange := sorted(flatten(settings).keys() - known):
        raise UserError(
            f"{unreadable}: it has settings that this version of ovmse does not know: {', '.join(strange)}. "
            f"Use the version that made it, {recipe_versions(recipe).get('ovmse') or 'not recorded'}."
        )
    collecting: Collecting = as_type({**settings, "out": str(out)}, Collecting, unreadable)
    trusted_code.check(f"{where}: its recipe", Config(env=collecting.env), trusted, collecting.rule)
    return collecting


def recipe_versions(recipe: dict[str, Any]) -> dict[str, Any]:
    """The versions that a recipe records."""
    found = recipe.get("versions")
    return found if isinstance(found, dict) else {}
