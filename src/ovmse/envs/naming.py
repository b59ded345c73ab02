"""Environments by name: ``smax:MAP``, ``matrix:GAME``, those of other libraries, or your own.

Without JAX, until one in JAX is asked for: an environment may run in a process that has none.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ovmse.core.errors import UserError, unknown
from ovmse.envs.protocol import AnyEnvironment, Environment, HostEnvironment
from ovmse.system.plugins import BUILDERS, import_own, same_directory

HINT = (
    "Also: 'pettingzoo:MODULE' for a module with parallel_env, 'gymnasium:MODULE:ID', 'pymarl:MODULE:CLASS' for SMAC's "
    "interface, 'smac:MAP', 'smacv2:SCENARIO', 'jumanji:NAME', 'jaxmarl:NAME', 'sumo:NETWORK', "
    "and 'package.module:attribute' for your own. "
    "See docs/environments.md."
)
_ACCEPTED = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}


def make(name: str, **settings: Any) -> AnyEnvironment:
    """The environment called `name`.

    `name` is ``smax:MAP``, ``matrix:GAME``, one with another prefix of `ovmse.system.plugins.BUILDERS`, or
    ``package.module:attribute`` (``own:package.module:attribute`` says the same) for a callable of your own that
    returns an object with the methods of `ovmse.envs.protocol`. `settings` go to it as keyword arguments; the
    resolved ones are in ``spec.settings``.

    Raises `UserError` for unknown names and settings, and for packages that are not installed.
    """
    name = name.removeprefix("own:")
    prefix, _, rest = name.partition(":")
    if not rest:
        raise unknown("environment", name, names(), HINT)
    ours = prefix in BUILDERS
    build = load(BUILDERS[prefix] if ours else name, ours)
    checked = check_settings(name, build, settings, skip=1 if ours else 0)
    settings = {key: checked.get(key, value) for key, value in settings.items()}
    try:
        with same_directory():
            env = build(rest, **settings) if ours else build(**settings)
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:  # whatever code of the user's own raises, an exit included
        raise UserError(f"{name} could not be made: {type(error).__name__}: {error}.") from error
    methods = ("reset_host", "step_host") if hasattr(env, "step_host") else ("reset", "step")
    if missing := [m for m in ("spec", *methods) if not hasattr(env, m)]:
        raise UserError(
            f"{name} made a {type(env).__name__} without {', '.join(missing)}; an environment has spec, "
            f"reset and step (JAX), or spec, reset_host and step_host (Python).{_adapter_of(env, name)} "
            "See docs/environments.md."
        )
    return env


def _adapter_of(env: Any, name: str) -> str:
    """Which prefix takes an object of another interface, after a space; empty where none is known."""
    if hasattr(env, "get_avail_actions"):
        return f" It has SMAC's interface: pymarl:{name} adapts it."
    if hasattr(env, "possible_agents"):
        return " It has PettingZoo's: pettingzoo:MODULE adapts it, where MODULE has it as parallel_env."
    return ""


def names() -> list[str]:
    """All SMAX maps and matrix games (PettingZoo's modules and your own environments are open-ended)."""
    from ovmse.envs import matrix, smax

    return [f"smax:{m}" for m in smax.map_names()] + [f"matrix:{g}" for g in matrix.GAMES]


def load(path: str, ours: bool = False) -> Callable[..., Any]:
    """What ``package.module:attribute`` points to, `ours` or the user's own. Raises `UserError` where there is none."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name) if ours else import_own("environment", path, module_name)
    except UserError as error:
        missing = getattr(error.__cause__, "name", None)
        if not missing or not f"{module_name}.".startswith(f"{missing}."):
            raise  # the module is there; something that it imports is not
        hint = f"No module {missing!r} to import either: is it installed, or on PYTHONPATH? {HINT}"
        raise unknown("environment", path, names(), hint) from error
    if not hasattr(module, attribute):
        there = [name for name, value in vars(module).items() if name[0] != "_" and _makes_environments(value, module)]
        hint = "" if there else "No class or function there looks like an environment. See docs/environments.md."
        raise unknown(f"attribute of {module_name}", attribute, there, hint)
    found = getattr(module, attribute)
    if not callable(found):
        raise UserError(f"{path} must be callable and return an environment; it is a {type(found).__name__}.")
    return found


def _makes_environments(value: Any, module: ModuleType) -> bool:
    """Whether something in a user's module looks like the class of an environment, or a function that makes one."""
    if inspect.isclass(value):
        return (hasattr(value, "step") or hasattr(value, "step_host")) and value not in (Environment, HostEnvironment)
    if not inspect.isfunction(value) or value.__module__ != module.__name__:
        return False
    made = value.__annotations__.get("return", AnyEnvironment)
    return isinstance(made, str) or made == AnyEnvironment or _makes_environments(made, module)


def check_settings(name: str, build: Callable[..., Any], settings: Mapping[str, Any], skip: int = 0) -> dict[str, Any]:
    """All settings that `build` takes, resolved; its first `skip` parameters are not settings.

    Raises `UserError` for unknown settings (unless `build` takes any), for missing ones, and for values of
    another type than a plain annotation (int, float, bool, str) asks for.
    """
    try:
        parameters = list(inspect.signature(build).parameters.values())[skip:]
    except ValueError:  # some built-in callables have no signature
        return dict(settings)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key, value in settings.items():
        if key not in named and not takes_any:
            raise unknown(f"setting of {name}", key, named, "" if named else "It takes no settings.")
        accepted = _ACCEPTED.get(named[key].annotation) if key in named else None
        wrong_bool = isinstance(value, bool) and accepted is not None and bool not in accepted
        if accepted and (wrong_bool or not isinstance(value, accepted)):
            raise UserError(f"setting {key!r} of {name} must be {accepted[-1].__name__}; got {value!r}.")
    missing = [key for key, p in named.items() if p.default is p.empty and key not in settings]
    if missing:
        raise UserError(f"{name} needs the setting{'s' if len(missing) > 1 else ''} {', '.join(missing)}.")
    resolved = {key: settings.get(key, p.default) for key, p in named.items()}
    return {key: float(v) if named[key].annotation is float else v for key, v in resolved.items()}
