"""What a learner must know of an environment, as JSON has it."""

from typing import Any, get_type_hints

from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.system.files import as_type, typed


def as_spec(found: Any, where: str) -> EnvSpec:
    """An `EnvSpec` read from JSON (`EnvSpec.described`). Raises `UserError` that names the field at fault."""
    there = {**EnvSpec._field_defaults, **as_type(found, dict[str, Any], where)}
    spec = EnvSpec(**typed(where, get_type_hints(EnvSpec), there))
    for name in ("agents", "kinds"):
        if (count := len(getattr(spec, name))) not in (0, spec.n_agents):
            raise UserError(f"{where}: {name}: expected one for each of {spec.n_agents} agents, or none; got {count}.")
    return spec
