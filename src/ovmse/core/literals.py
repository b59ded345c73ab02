"""Names that settings are chosen among, and the values that a setting's text stands for."""

import ast
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ovmse.core.errors import UserError

MixerName = Literal["qmix", "linear", "vdn"]
"""How utilities become Q_tot."""
Parameters = Literal["shared", "per_agent", "per_kind"]
"""Who has the same network: all agents, none, or those of a kind (`ovmse.core.kinds`)."""
TeamChoice = Literal["deployed", "last", "offline", "safe"]
"""A run's team: of a batch round the one that it says to deploy, else the last; the one at its end; the one that left
the offline phase; or of these two the one that the guard would deploy."""
ROUNDS = "rounds.json"
"""The file that a batch round leaves: what it found, and which of its teams is to be deployed."""
RoundLoss = Literal["offline", "online"]
"""By which of a method's losses a batch round learns."""
OfflineValueChoice = Literal["first", "accepted"]
"""Whose values a batch round remembers: the team's of the first handover, or the one's that was last accepted."""

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
"""What the metrics of a run are sent to as they are written."""


def parse_value(text: str, makers: Mapping[str, Callable[..., Any]]) -> Any:
    """The value that a text stands for: a literal, a bare word as text, or a call of one of `makers` by its name.

    Nothing else is run. Raises `UserError` for a text that can't be read.
    """
    try:
        return _evaluate(ast.parse(text, mode="eval").body, makers)
    except (SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise UserError(f"can't read the value {text[:200]!r}: a number, a word, True, False, or None.") from None


def _evaluate(node: ast.expr, makers: Mapping[str, Callable[..., Any]]) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {word.arg: _evaluate(word.value, makers) for word in node.keywords if word.arg}
        return makers[node.func.id](*(_evaluate(argument, makers) for argument in node.args), **named)
    if isinstance(node, ast.Name):
        return node.id
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise TypeError from None
    if isinstance(value, int) and abs(value) >= 2**63:  # no float may hold it, and no array
        raise TypeError
    return value
