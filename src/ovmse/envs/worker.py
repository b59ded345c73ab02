"""An environment in a process of its own: this file is run by another interpreter, ``python worker.py [PLAYER]``.

That interpreter needs Python 3.10, NumPy, and the environment; not ovmse, nor JAX. Of ovmse only the adapters are
read, from the directory of this file, so that nothing beside it shadows the interpreter's own packages. What is said is
in `ovmse.envs.wire`. PLAYER is the module of ovmse whose `Player` plays whole episodes, where such are asked for.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

OLDEST = (3, 10)


def main() -> None:
    """Answer frames until the input ends."""
    asked, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what the environment prints goes to errors
    if sys.version_info < OLDEST:
        _refuse(answers, f"it is Python {sys.version.split()[0]}; needed is {'.'.join(map(str, OLDEST))} or newer")
        return
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]  # it has a gymnasium.py, for one
    _load_package(here.parent)
    _adopt("ovmse.envs", here)  # as it is, it would import JAX
    try:
        from ovmse.envs import wire
        from ovmse.envs.guarded import EnvFault
        from ovmse.envs.measures import measures_of
    except ImportError as error:
        _refuse(answers, f"it lacks the package {error.name!r}")
        return
    env: Any = None
    player: Any = importlib.import_module(sys.argv[1]).Player() if sys.argv[1:] else None
    while True:
        try:
            kind, content = wire.receive(asked)
        except EOFError:
            break
        try:
            if kind == wire.MAKE:
                env = _made(content)
                about = {"spec": env.spec._asdict(), "repeatable": getattr(env, "repeatable", True)}
                about["names"] = getattr(env, "names", {})
                answer = wire.INFO, wire.as_json(about)
            elif kind == wire.PLAY:
                about, arrays = wire.unbundle(content)
                guarded = _guarded(env, about["seconds"])
                answer = wire.PLAYED, wire.bundle(*player.play(guarded, about, arrays, _pulse(answers)))
            elif kind == wire.RESET:
                answer = wire.OBSERVED, wire.packed(env.reset_host(int.from_bytes(content, "little")))
            else:
                seen, result = env.step_host(_action(content))
                over = result.terminal or result.truncated
                answer = wire.STEPPED, wire.packed(seen, result, measures_of(env) if over else None)
        except BaseException as error:  # whatever an environment raises, an exit included
            told = {"message": str(error), "ours": False} if isinstance(error, EnvFault) else _told(error)
            answer = wire.FAILED, wire.as_json(told)
        wire.send(answers, *answer)
    getattr(env, "close", lambda: None)()


def _load_package(folder: Path) -> None:
    """Import ovmse itself from its folder: it loads its names when they are used, and nothing before."""
    spec: Any = importlib.util.spec_from_file_location(
        "ovmse", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["ovmse"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def _guarded(env: Any, seconds: float) -> Any:
    from ovmse.envs.guarded import GuardedEnv

    return GuardedEnv(lambda: env, seconds)


def _pulse(answers: int) -> Callable[[], None]:
    """What says, when it is called, that an episode goes on, but no more often than once a second."""
    from ovmse.envs import wire

    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= 1.0:
            last = now
            wire.send(answers, wire.ALIVE)

    return beat


def _adopt(name: str, folder: Path) -> None:
    """Let a package's modules be imported from their folder, without its own ``__init__`` and what lies beside it."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _made(content: bytes) -> Any:
    from ovmse.core.errors import UserError
    from ovmse.envs.naming import make

    asked = json.loads(content)
    in_jax = UserError(f"{asked['name']} is in JAX: it runs in ovmse's own process, without --env-python.")
    try:
        env = make(asked["name"], **asked["settings"])
    except ModuleNotFoundError as error:
        raise (in_jax if error.name == "jax" else error) from error
    if not hasattr(env, "step_host"):
        raise in_jax
    return env


def _action(content: bytes) -> Any:
    import numpy as np

    return np.frombuffer(content, "<i4").astype(np.int32)


def _told(error: BaseException) -> dict[str, Any]:
    from ovmse.core.errors import UserError

    ours = isinstance(error, UserError)
    return {"message": str(error) if ours else f"{type(error).__name__}: {error}", "ours": ours}


def _refuse(pipe: int, message: str) -> None:
    """The answer of an interpreter that won't do, as `ovmse.envs.wire` has it, which it may not be able to read."""
    content = json.dumps({"message": message, "ours": False}).encode()
    os.write(pipe, b"E" + len(content).to_bytes(4, "little") + content)


if __name__ == "__main__":
    main()
