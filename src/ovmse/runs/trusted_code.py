"""What is read from a disk can name code: an environment or a method of somebody's own, to be imported and called.

Runs do in their `config.json`, datasets in their recipe. Whoever reads a name passes `check` before following it: its
user must say that such code may run. What comes with ovmse needs no such word.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ovmse.config import NO_ENV, Config
from ovmse.core.errors import UserError, typed_command
from ovmse.system.plugins import KNOWN_MODULES, RULES, module_of
from ovmse.system.ray_client import LOCAL


def names_of_code(config: Config) -> list[str]:
    """What of a configuration is not ovmse's own, or a known library's."""
    found = [] if own_module(config.env) is None else [f"the environment {config.env!r}"]
    found += [f"the interpreter {str(config.env_python)!r}"] if config.env_python else []
    found += [] if config.ray_address in (None, LOCAL) else [f"the Ray at {config.ray_address!r}"]
    return found + [f"the method {name!r}" for name in own_methods(config)]


def resume_command(config: Config, out: Path) -> str:
    """The command that goes on with a run, as its user types it."""
    return typed_command("train", "--resume", out, *(["--trust-code"] if names_of_code(config) else []))


def own_module(env: str | None) -> str | None:
    """The module of an environment by its name, where that is neither ovmse's own nor a known library's."""
    module = None if env in (None, NO_ENV) else module_of(str(env))
    return None if module is None or module.partition(".")[0] in KNOWN_MODULES else module


def own_methods(config: Config) -> list[str]:
    """The methods that a configuration names and that are not ovmse's own."""
    return [name for name in config.method.split("+") if ":" in name]


def checksums(config: Config) -> dict[str, str]:
    """The beginning of the SHA-256 of each file of the user's own that a configuration runs: the modules that it names,
    which are imported, and those beside them that these import in turn, as far as their ``import`` lines tell."""
    names = [module] if (module := own_module(config.env)) else []
    names += [name.partition(":")[0] for name in own_methods(config)]
    files: dict[str, Path] = {}
    for name in names:
        if file := getattr(sys.modules.get(name), "__file__", None):
            _follow(name, Path(file), files)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in sorted(files.items())}


def _follow(name: str, file: Path, files: dict[str, Path]) -> None:
    """Add a module and those that it imports from the same directory or package to `files`."""
    is_package = file.name == "__init__.py"
    root = file.parents[name.count(".") + is_package]
    only = name.partition(".")[0] if {"site-packages", "dist-packages"} & set(root.parts) else None
    left = [(name, file)]
    while left:
        name, file = left.pop()
        if name in files:
            continue
        files[name] = file
        package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
        for imported in _imports(file, package):
            place = root.joinpath(*imported.split("."))
            there = [path for path in (place / "__init__.py", place.with_name(f"{place.name}.py")) if path.is_file()]
            if there and only in (None, imported.partition(".")[0]):
                left.append((imported, there[0]))


def _imports(file: Path, package: list[str]) -> Iterator[str]:
    """The full names that a module's ``import`` lines may stand for, the packages around them included."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # a compiled module
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))


def check(where: object, config: Config, trusted: bool, rule: str | None = None) -> None:
    """Raise `UserError` where a configuration that was read from `where`, or a rule of a recipe, names code that it
    takes trust to run."""
    found = names_of_code(config)
    if rule is not None and rule not in RULES:
        found.append(f"the rule {rule!r}")
    if found and not trusted:
        raise UserError(
            f"{where} names code that would be imported and run: {' and '.join(found)}. If you trust that directory "
            "and that code, add --trust-code."
        )
