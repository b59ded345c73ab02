"""Which settings are searched, and where: one table, by the part that has the setting.

A method is offered the rows of the parts that it is made of; a new part becomes tunable by one line here.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ovmse.config import LearnerConfig
from ovmse.core.errors import UserError
from ovmse.core.schedules import Number, Schedule
from ovmse.methods.method import ONLINE, Method
from ovmse.methods.overrides import change_method


@dataclass(frozen=True)
class Range:
    """Values to try: evenly on a log scale, evenly, whole numbers (bounds included), or one of several."""

    kind: Literal["log", "uniform", "integer", "choice"]
    values: tuple[Any, ...]

    def __str__(self) -> str:
        words = (f"{x:g}" if isinstance(x, float) else str(x) for x in self.values)
        return f"{self.kind}({', '.join(words)})"

    def __contains__(self, value: object) -> bool:
        if self.kind == "choice":
            return value in self.values
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.values[0] <= value <= self.values[1]  # type: ignore[operator]


Ends = tuple[Range, Range]
"""The ranges of a schedule's start and end."""


def log(low: Number, high: Number) -> Range:
    """Numbers from `low` to `high`, evenly on a log scale."""
    return Range("log", (float(low), float(high)))


def uniform(low: Number, high: Number) -> Range:
    """Numbers from `low` to `high`, evenly."""
    return Range("uniform", (float(low), float(high)))


def integer(low: int, high: int) -> Range:
    """Whole numbers from `low` to `high`, both included."""
    return Range("integer", (low, high))


TABLE: dict[tuple[str, str], Range | Ends] = {
    ("CQL", "alpha"): log(0.1, 10),
    ("CFCQL", "alpha"): log(0.05, 50),
    ("CFCQL", "temperature"): uniform(0.05, 1),
    ("CalibratedCQL", "alpha"): log(0.1, 10),
    ("ImplicitConstraint", "temperature"): log(0.1, 10),
    ("LoggedNext", "temperature"): log(10, 1000),
    ("LocalRegularisation", "alpha"): log(1, 100),
    ("ImplicitQ", "expectile"): uniform(0.6, 0.95),
    ("ImplicitQ", "temperature"): log(0.1, 10),
    ("AdvantageWeighted", "temperature"): log(0.1, 10),
    ("OfflineValueMemory", "weight"): (uniform(0.5, 1), uniform(0, 0.5)),
    ("Sequential", "epsilon"): (log(0.02, 0.5), log(0.005, 0.1)),
    ("Independent", "epsilon"): (log(0.02, 0.5), log(0.005, 0.1)),
    ("EpsilonGreedy", "epsilon"): (log(0.02, 1), log(0.005, 0.1)),
    ("Expand", "temperature"): log(0.1, 10),
    ("Blend", "beam"): integer(1, 8),
    ("Blend", "frozen"): uniform(0.1, 0.9),
    ("Guided", "horizon"): (uniform(0.1, 1), uniform(0, 0.2)),
    ("DensityRatio", "temperature"): log(1, 10),
    ("Agreement", "least"): log(0.01, 0.5),
    ("Method", "offline_share"): uniform(0.02, 0.5),
    ("Method", "warm_up"): uniform(0.01, 0.2),
    ("LearnerConfig", "learning_rate"): log(1e-4, 2e-3),
    ("LearnerConfig", "td_lambda"): uniform(0, 0.9),
}
"""(part, its setting) → where to search; of a schedule (start, end), or the level of a constant one."""


def offered(method: Method, learner: LearnerConfig, only_online: bool = False) -> dict[str, Range]:
    """The table's rows that a method has, by path: ``explore.epsilon.start`` or ``learner.learning_rate``.

    Left out are parts without effect (what concerns the online phase where there is none, the share of offline
    episodes where none are mixed in) and settings that are None or 0: what is off stays off. `only_online`: nothing
    that the offline phase reads.
    """
    found = {path: space for path, space in _walk(method, "") if has(method, learner, path)}
    if not only_online:
        return found | dict(_walk(learner, "learner."))
    return {path: space for path, space in found.items() if is_online(path)}


def is_online(path: str) -> bool:
    """Whether a path leads to something that the offline phase never reads."""
    return path.partition(".")[0] in ONLINE


def _walk(part: Any, prefix: str) -> Iterator[tuple[str, Range]]:
    for field in dataclasses.fields(part):
        value, path = getattr(part, field.name), prefix + field.name
        space = TABLE.get((type(part).__name__, field.name))
        if value in (None, 0) or (isinstance(value, Schedule) and value.start == value.end == 0):
            continue  # off
        if isinstance(value, Schedule) and space is not None:
            ends = space if isinstance(space, tuple) else (space,)
            names = ("start",) if value.shape == "constant" else ("start", "end")
            yield from zip((f"{path}.{name}" for name in names), ends, strict=False)
        elif isinstance(space, Range):
            yield path, space
        elif dataclasses.is_dataclass(value):
            yield from _walk(value, path + ".")


def has(method: Method, learner: LearnerConfig, path: str) -> bool:
    """Whether a path leads to a setting that has an effect."""
    head = path.partition(".")[0]
    if head in ONLINE and (method.online_target is None or (head == "offline_share" and not method.mixes_data)):
        return False
    try:
        read(method, learner, path)
    except AttributeError:
        return False
    return True


def read(method: Method, learner: LearnerConfig, path: str) -> Any:
    """The value that a path leads to. Raises `AttributeError` where there is none."""
    names = path.split(".")
    part: Any = learner if names[0] == "learner" else method
    for name in names[names[0] == "learner" :]:
        if not dataclasses.is_dataclass(part) or name not in {field.name for field in dataclasses.fields(part)}:
            raise AttributeError(path)
        part = getattr(part, name)
    return part


def put(method: Method, learner: LearnerConfig, settings: Mapping[str, Any]) -> tuple[Method, LearnerConfig]:
    """Both with the settings in place. Raises `UserError` for a value that can't be."""
    own = {path.removeprefix("learner."): x for path, x in settings.items() if path.startswith("learner.")}
    return change_method(method, changes(settings)), dataclasses.replace(learner, **own)


def changes(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of a method, as ``--change`` takes them; those of the learner are flags of their own."""
    return tuple(f"{path}={value}" for path, value in settings.items() if not path.startswith("learner."))


def parse(text: str) -> tuple[str, Range]:
    """``path=kind(values)`` as a path and a `Range`. Raises `UserError` for what can't be read."""
    path, separator, rest = text.partition("=")
    match = re.fullmatch(r"\s*(log|uniform|integer|choice)\s*\((.*)\)\s*", rest)
    if not separator or match is None:
        raise UserError(
            f"can't read {text!r}; a space reads path=log(a,b), uniform(a,b), integer(a,b) or choice(a,b,c), such as "
            "offline_loss.alpha=log(0.1,10)."
        )
    kind, values = match[1], tuple(_value(word.strip()) for word in match[2].split(",") if word.strip())
    _check(text, kind, values)
    if kind in ("log", "uniform"):
        values = tuple(map(float, values))
    return path.strip(), Range(kind, values)  # type: ignore[arg-type]


def _value(word: str) -> Any:
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, int | float | str | None) else word


def _check(text: str, kind: str, values: tuple[Any, ...]) -> None:
    if kind == "choice":
        if len(set(map(repr, values))) < 2:
            raise UserError(f"{text!r}: a choice needs two values or more.")
        return
    wanted = (int,) if kind == "integer" else (int, float)
    if len(values) != 2 or any(isinstance(x, bool) or not isinstance(x, wanted) for x in values):
        raise UserError(f"{text!r}: {kind} takes two {'whole ' if kind == 'integer' else ''}numbers, low and high.")
    if not float("-inf") < values[0] < values[1] < float("inf") or (kind == "log" and values[0] <= 0):
        raise UserError(f"{text!r}: the first number must be less than the second{', and above 0' * (kind == 'log')}.")


def chosen(text: tuple[str, ...], method: Method, learner: LearnerConfig) -> dict[str, Range]:
    """Of the spaces a user wrote, those that a method has, its bounds (or all choices) checked.

    Raises `UserError` where a bound is no value of the setting.
    """
    found = {path: space for path, space in map(parse, text) if has(method, learner, path)}
    for path, space in found.items():
        for value in space.values:
            try:
                put(method, learner, {path: value})
            except (UserError, TypeError) as error:
                raise UserError(f"--space {path}={space}: {error}") from error
    return found


def markdown() -> str:
    """The table for docs/tuning.md."""
    rows = ["| part | setting | searched |", "|---|---|---|"]
    for (part, name), space in TABLE.items():
        text = f"start {space[0]}, end {space[1]}" if isinstance(space, tuple) else str(space)
        rows.append(f"| `{part}` | `{name}` | {text} |")
    return "\n".join(rows)
