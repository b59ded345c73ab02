"""What a run is: one frozen dataclass with a unit per field, its presets, and the changes to a method by path."""

import ast
import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from ovmse.errors import UserError, check_positive
from ovmse.learner import LearnerConfig
from ovmse.method import Method
from ovmse.methods import PARTS as METHOD_PARTS
from ovmse.schedules import constant, cosine, exponential, linear, step


@dataclass(frozen=True)
class Config:
    """One run: a method, an environment, the data, and the budgets."""

    env: str = "smax:3m"
    """environment: smax:5m_vs_6m, matrix:climbing, pettingzoo:mpe2.simple_spread_v3, or your own module:attribute"""
    method: str = "ovmse"
    """the method, such as ovmse, finetune or awac (docs/methods.md has them all), a pair strategy+objective such as
    ovmse+omiga, or your own module:attribute"""
    data: str | None = None
    """the dataset to learn from: a directory, or the name of one that comes with the package (smax-3m-medium)"""
    pretrained: Path | None = None
    """a run whose offline phase is taken over instead of pretraining anew"""
    out: Path | None = None
    """the directory to write the run into, empty or not there yet; by default the next free runs/ENV-METHOD"""
    seeds: int = 1
    """independent repetitions, side by side on the cores or as one batch on an accelerator"""
    seed: int = 0
    """the first repetition's seed; the others follow it"""
    offline_updates: int = 5_000
    """gradient updates of the offline phase"""
    online_env_steps: int = 50_000
    """environment steps of the online phase, per seed"""
    episodes_per_collect: int = 8
    """episodes played side by side between two rounds of updates"""
    updates_per_collect: int = 8
    """gradient updates after each round of collecting"""
    batch_episodes: int = 32
    """episodes in a training batch"""
    replay_env_steps: int = 100_000
    """environment steps that the replay holds, per seed"""
    evaluate_every_updates: int = 1_000
    """gradient updates between two evaluations in the offline phase"""
    evaluate_every_env_steps: int = 5_000
    """environment steps between two evaluations in the online phase"""
    evaluate_episodes: int = 128
    """greedy episodes per evaluation and seed"""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """networks and optimiser"""
    loss_limit: float = 1e10
    """a loss beyond this stops the run, as one that is not finite does"""
    checkpoint_minutes: float = 10.0
    """minutes between two checkpoints; the handover, and a run that is asked to stop, write one, too"""
    checkpoints_kept: int = 2
    """newest checkpoints kept beside the handover's, until the run ends"""
    change: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """a change to the method, such as explore.epsilon=linear(0.3,0.05) or offline_loss.alpha=5; may be repeated"""
    env_settings: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """an option handed to the environment, such as max_steps=60; may be repeated"""
    env_seconds: float = 60.0
    """the longest that a host environment may take for one step or reset; then it is restarted"""
    env_restarts: int = 10
    """restarts of failing host environments since a run began, or went on, before it is given up"""
    keep_teams: bool = False
    """write the teams at every evaluation, not only the last ones"""
    keep_experience: bool = False
    """write everything played online as datasets, experience/seed-N in the run's directory, to learn from next time"""
    guard_margin: float | None = None
    """the rollback guard: a seed whose online score stays this far below its score before the handover returns to its
    offline policy; in win rate (0.1 is 10 points) or, without wins, as a share of |return|. None: no guard"""
    guard_patience: int = 2
    """online evaluations in a row that are so far below, until the guard acts"""
    allow_version_mismatch: bool = False
    """learn from a dataset that another version of the environment, or other settings, made"""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and name != "seed":
                check_positive(name.replace("_", "-"), value)
            if isinstance(value, int) and value >= 2**31:
                raise UserError(f"{name.replace('_', '-')} must be below 2**31; got {value}.")
        for name in ("loss_limit", "checkpoint_minutes", "env_seconds"):
            check_positive(name.replace("_", "-"), getattr(self, name))
        if self.env_seconds > 1e6:
            raise UserError(f"env-seconds must be at most a million; got {self.env_seconds}.")
        if self.seed < 0:
            raise UserError(f"seed must be 0 or more; got {self.seed}.")
        if self.guard_margin is not None and not 0.0 < self.guard_margin <= 1.0:
            raise UserError(f"guard-margin must be above 0 and at most 1, such as 0.1; got {self.guard_margin}.")
        if self.replay_env_steps < self.batch_episodes:
            raise UserError(
                f"replay-env-steps ({self.replay_env_steps}) must at least hold one batch ({self.batch_episodes})."
            )


PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        "data": "smax-3m-medium",
        "seeds": 2,
        "offline_updates": 1_500,
        "online_env_steps": 30_000,
        "evaluate_every_updates": 500,
        "evaluate_every_env_steps": 2_500,
    },
    "paper": {
        "seeds": 5,
        "offline_updates": 20_000,
        "online_env_steps": 200_000,
        "evaluate_every_updates": 2_000,
        "evaluate_every_env_steps": 10_000,
    },
}
"""Named starting points: `demo` shows the whole pipeline in minutes, `paper` has the length of a published study."""


def change_method(method: Method, changes: tuple[str, ...]) -> Method:
    """The method with each ``path=value`` put in place, such as ``online_target.weight.end=0.2``.

    A value is a number, a word, None, or a part such as ``cosine(1.0, 0.1)`` or ``CQL(0.5)``.
    Raises `UserError` for a path that
    is not there, with the nearest names, or a value that can't be read.
    """
    for change in changes:
        path, separator, text = change.partition("=")
        if not separator:
            raise UserError(f"a change reads path=value, such as explore.epsilon.start=0.2; got {change!r}.")
        method = _replace(method, path.strip().split("."), _value(text.strip()), change)
    return method


def _replace(part: Any, path: list[str], value: Any, change: str) -> Any:
    known = [f.name for f in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
    if path[0] not in known:
        near = difflib.get_close_matches(path[0], known, n=1, cutoff=0.4)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"{change!r}: {type(part).__name__} has no setting {path[0]!r}.{guess} Known: {', '.join(known) or 'none'}."
        )
    inner = value if len(path) == 1 else _replace(getattr(part, path[0]), path[1:], value, change)
    if path == ["start"] and getattr(part, "shape", None) == "constant":
        return dataclasses.replace(part, start=value, end=value)
    try:
        return dataclasses.replace(part, **{path[0]: inner})
    except TypeError as error:
        raise UserError(f"{change!r}: {error}.") from error


PARTS: dict[str, Any] = {
    **{make.__name__: make for make in (constant, linear, cosine, exponential, step)},
    **METHOD_PARTS,
}
"""What a change's value may be made of."""


def _value(text: str) -> Any:
    try:
        return _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise UserError(
            f"can't read the value {text[:200]!r}; write a number, None, or one of {', '.join(PARTS)} with its "
            "arguments, such as linear(1.0, 0.1)."
        ) from None


def _evaluate(node: ast.expr) -> Any:
    """A literal, a call of one of `PARTS`, or a bare word as text; nothing else is run."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {word.arg: _evaluate(word.value) for word in node.keywords if word.arg}
        return PARTS[node.func.id](*map(_evaluate, node.args), **named)
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise TypeError from None


def settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``name=value`` pairs as keyword arguments."""
    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise UserError(f"an environment's setting reads name=value, such as max_steps=60; got {pair!r}.")
        found[name.strip()] = _value(text.strip())
    return found


def describe(value: Any) -> Any:
    """Any part of a configuration as JSON: dataclasses become dictionaries that name their type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **inner}
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [describe(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__name__)}"
    return value
