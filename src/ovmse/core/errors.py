"""The one error that bad input raises, and the helpers that word it."""

import difflib
from collections.abc import Collection, Iterable


class UserError(ValueError):
    """Input that cannot be used: the message names what, where, what was expected, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class Unwritable(UserError):
    """A directory that can't be written to, or not now: nothing is wrong with what was asked for."""


def unknown(kind: str, name: object, known: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that is not among the known ones; it offers the nearest."""
    names = sorted(known)
    listed = f" Known: {', '.join(names)}." if names else ""
    return UserError(f"unknown {kind} {name!r}.{did_you_mean(name, names)}{listed}{' ' + hint if hint else ''}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question that offers the nearest of the known names, three at most, after a space; empty where none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.4)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def check_known(kind: str, name: object, known: Collection[str], hint: str = "") -> None:
    """Raise `unknown` unless `name` is among the known ones."""
    if name not in known:
        raise unknown(kind, name, known, hint)


def option(name: str) -> str:
    """A setting as it is typed on the command line, such as ``--online-env-steps``."""
    return f"--{name.replace('_', '-')}"


def number_of(n: int, noun: str) -> str:
    """A count with its noun, such as ``1 episode`` or ``2,000 episodes``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def check_share(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise UserError(f"{name} must lie between 0 and 1; got {value}.")


def check_seed(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` is 0 or more."""
    if value < 0:
        raise UserError(f"{name} must be 0 or more; got {value}.")


def check_positive(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` is finite and greater than 0."""
    if not 0.0 < value < float("inf"):
        raise UserError(f"{name} must be greater than 0; got {value}.")
