"""How many bytes are held at once, and how much one thing in a file may unpack to, since a few can hold gigabytes."""

import os

from ovmse.core.errors import UserError

VARIABLE = "OVMSE_UNPACK_BYTES"
DEFAULT = 2**30
BLOCK_VARIABLE = "OVMSE_BLOCK_BYTES"
BLOCK = 2**25
RATIO = 100
"""Unpacked bytes for each packed one that a whole file or dataset may hold; logs of SMAX have 14."""


def block_bytes() -> int:
    """About how much of a log or a dataset is read or written at once: 32 MiB, or as the environment variable says."""
    return stated(BLOCK_VARIABLE) or BLOCK


def limit() -> int:
    """The most bytes that an episode or a chunk may unpack to: 1 GiB, or as the environment variable says."""
    return stated() or DEFAULT


def check(where: object, what: str, needed: int) -> None:
    """Raise `UserError` where `what`, such as an episode, would unpack to more than the limit."""
    _check(where, what, needed, limit())


def check_whole(where: object, needed: int, stored: int) -> None:
    """Raise `UserError` where all of something would unpack to far more than the bytes that it has on the disk."""
    _check(where, f"all of it, {stored:,} bytes on the disk,", needed, max(limit(), RATIO * stored))


def stated(variable: str = VARIABLE) -> int | None:
    """What an environment variable says. Raises `UserError` where that is no number of bytes."""
    said = os.environ.get(variable, "").strip()
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and 0 < int(said) < 2**63):
        raise UserError(f"{variable}: expected a number of bytes above 0, such as 4000000000, got {said!r}.")
    return int(said)


def _check(where: object, what: str, needed: int, most: int) -> None:
    if needed > most:
        raise UserError(
            f"{where}: {what} would unpack to {needed:,} bytes; expected at most {most:,}. If you trust the file and "
            f"there is memory for it, set {VARIABLE}={needed}."
        )
