"""The methods by name. A method of one's own is a file like these, chosen as ``module:attribute``."""

from dataclasses import fields, is_dataclass

from ovmse.core.errors import UserError, unknown
from ovmse.core.schedules import Schedule
from ovmse.methods.awac import AWAC
from ovmse.methods.balanced import BALANCED
from ovmse.methods.bc import BC
from ovmse.methods.calql import CALQL
from ovmse.methods.cfcql import CFCQL_METHOD
from ovmse.methods.duce import DUCE
from ovmse.methods.exploration import Independent
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.icq import ICQ
from ovmse.methods.iql import IQL
from ovmse.methods.jsrl import JSRL
from ovmse.methods.kept import KEPT
from ovmse.methods.method import Method, combine
from ovmse.methods.offline import OFFLINE
from ovmse.methods.omiga import OMIGA
from ovmse.methods.otc import OTC
from ovmse.methods.ovm import OVM
from ovmse.methods.ovmse import OVMSE
from ovmse.methods.pex import PEX
from ovmse.methods.reincarnation import REINCARNATION
from ovmse.methods.rlpd import RLPD
from ovmse.methods.scratch import SCRATCH
from ovmse.methods.se import SE
from ovmse.methods.sim2o import SIM2O
from ovmse.methods.wsrl import WSRL
from ovmse.system.plugins import load_own

METHODS: dict[str, Method] = {
    "ovmse": OVMSE,
    "ovm": OVM,
    "se": SE,
    "finetune": FINETUNE,
    "offline": OFFLINE,
    "scratch": SCRATCH,
    "bc": BC,
    "cfcql": CFCQL_METHOD,
    "icq": ICQ,
    "omiga": OMIGA,
    "iql": IQL,
    "awac": AWAC,
    "kept": KEPT,
    "calql": CALQL,
    "rlpd": RLPD,
    "balanced": BALANCED,
    "otc": OTC,
    "pex": PEX,
    "wsrl": WSRL,
    "jsrl": JSRL,
    "duce": DUCE,
    "sim2o": SIM2O,
    "reincarnation": REINCARNATION,
}


def parts_of(method: Method) -> list[type]:
    """The types of a method's parts that have settings."""
    parts = (getattr(method, field.name) for field in fields(method))
    return [type(part) for part in parts if is_dataclass(part) and not isinstance(part, Schedule)]


PARTS: dict[str, type] = {
    part.__name__: part for part in (Independent, *(part for method in METHODS.values() for part in parts_of(method)))
}
"""What methods are put together from, by name."""


def find(name: str) -> Method:
    """The method of that name, the `Method` that ``module:attribute`` names, or ``strategy+objective`` of two such.

    Raises `UserError` where the two of a pair contradict each other. Otherwise as `_find`.
    """
    strategy, plus, objective = name.partition("+")
    if not plus:
        return _find(name)
    try:
        return combine(_find(strategy), _find(objective))
    except UserError as error:
        raise UserError(f"method {name!r}: {error}") from error


def _find(name: str) -> Method:
    """One method. Raises `UserError` for an unknown name, with the nearest; for a module or an attribute that is not
    there; for an attribute that is not a `Method`.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise unknown("method", name, METHODS, "Your own: module:attribute.")
    found = load_own("method", name)
    if not isinstance(found, Method):
        raise UserError(f"method {name!r}: expected an ovmse.Method; got {type(found).__name__}.")
    return found
