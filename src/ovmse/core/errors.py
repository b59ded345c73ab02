"""The one error that bad input raises, and the helpers that word it."""

import difflib
import os
import shlex
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path

MOST = 2**31 - 1
"""The largest whole number that a setting may be: arrays count by 32 bits."""


class UserError(ValueError):
    """Input that cannot be used: the message names what, where, what was expected, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class Unwritable(UserError):
    """A directory that can't be written to, or not now: nothing is wrong with what was asked for."""


def raised(what: str, error: BaseException) -> UserError:
    """The error for what code of the user's own raised; it says where in that code."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    return UserError(f"{what} raised {type(error).__name__}: {error} ({place}).")


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


def typed_command(*words: object) -> str:
    """A command of ovmse as it is typed into a shell, on one line, whatever the words hold.

    A path that begins like an option is written as one in the current directory.
    """
    return " ".join(map(_quoted, ("ovmse", *words)))


def _quoted(word: object) -> str:
    text = f"./{word}" if isinstance(word, os.PathLike) and str(word).startswith("-") else str(word)
    if text.isprintable():
        return shlex.quote(text)
    letters = (c if c.isprintable() else _escape(c) for c in text.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{''.join(letters)}'"


def _escape(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def number_of(n: int, noun: str) -> str:
    """A count with its noun, such as ``1 episode`` or ``2,000 episodes``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def check_share(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` lies in [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise UserError(f"{name} must lie between 0 and 1; got {value}.")


def check_seed(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` is 0 or more, and a whole number of 32 bits."""
    if value < 0:
        raise UserError(f"{name} must be 0 or more; got {value}.")
    check_most(name, value)


def check_positive(name: str, value: float | int) -> None:
    """Raise `UserError` unless `value` is finite and greater than 0, and where it is a whole number, one of 32 bits."""
    if not 0.0 < value < float("inf"):
        raise UserError(f"{name} must be greater than 0; got {value}.")
    check_most(name, value)


def check_most(name: str, value: float | int) -> None:
    """Raise `UserError` for a whole number that arrays can't count to."""
    if isinstance(value, int) and value > MOST:
        raise UserError(f"{name} must be at most {MOST}; got {value}.")
