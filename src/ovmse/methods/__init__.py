"""The methods by name. A method of one's own is a file like these, chosen as ``module:attribute``."""

import importlib

from ovmse.errors import UserError, unknown
from ovmse.method import Method
from ovmse.methods.finetune import FINETUNE
from ovmse.methods.offline import OFFLINE
from ovmse.methods.ovm import OVM
from ovmse.methods.ovmse import OVMSE
from ovmse.methods.scratch import SCRATCH
from ovmse.methods.se import SE

METHODS: dict[str, Method] = {
    "ovmse": OVMSE,
    "ovm": OVM,
    "se": SE,
    "finetune": FINETUNE,
    "offline": OFFLINE,
    "scratch": SCRATCH,
}


def find(name: str) -> Method:
    """The method of that name, or the `Method` that ``module:attribute`` names.

    Raises `UserError` for an unknown name, with the nearest; for a module or an attribute that is not there; for an
    attribute that is not a `Method`.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" not in name:
        raise unknown("method", name, METHODS, "Your own: module:attribute.")
    module_name, attribute = name.split(":", 1)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"method {name!r}: there is no module {error.name!r}; is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise UserError(f"method {name!r}: module {module_name!r} has no attribute {attribute!r}.") from error
    except Exception as error:  # whatever a module of the user's own raises
        raise UserError(f"method {name!r}: can't import {module_name!r}: {error!r}.") from error
    if not isinstance(found, Method):
        raise UserError(f"method {name!r}: expected an ovmse.Method; got {type(found).__name__}.")
    return found
