"""Ways to damage a file: each takes its bytes and a NumPy generator, and returns other bytes.

`damaged` applies one by name; `DAMAGE` holds them all, so that a test can go through them.
"""

import re
from collections.abc import Callable

import numpy as np


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off at a random place, as a download that broke off."""
    return data[: int(rng.integers(0, max(1, len(data))))]


def flip_bit(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit turned over."""
    return _edited(data, rng, 1, lambda part: bytes([part[0] ^ (1 << int(rng.integers(8)))]))


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 64 bits turned over."""
    for _ in range(int(rng.integers(2, 65))):
        data = flip_bit(data, rng)
    return data


def zero_block(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 4096 bytes set to zero, as a disk block that was never written."""
    return _edited(data, rng, int(rng.integers(1, 4097)), lambda part: bytes(len(part)))


def fill_block(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 8 bytes set to ones: sizes and offsets become as large as they can be."""
    return _edited(data, rng, int(rng.integers(1, 9)), lambda part: b"\xff" * len(part))


def random_block(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 64 bytes replaced by random ones."""
    return _edited(data, rng, int(rng.integers(1, 65)), lambda part: rng.bytes(len(part)))


def remove_block(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 64 bytes left out: everything behind them moves."""
    return _edited(data, rng, int(rng.integers(1, 65)), lambda part: b"")


def repeat_block(data: bytes, rng: np.random.Generator) -> bytes:
    """Up to 64 bytes said twice."""
    return _edited(data, rng, int(rng.integers(1, 65)), lambda part: part * 2)


TYPES = tuple(b"<f4 <f8 <i4 <i8 |u1 |b1 |O |S8 <c8 float32 int32 bool object".split())


def swap_type(data: bytes, rng: np.random.Generator) -> bytes:
    """The name of one type replaced by another's, where the file spells types out; else a flipped bit."""
    found = list(re.finditer(b"|".join(map(re.escape, TYPES)), data))
    if not found:
        return flip_bit(data, rng)
    place = found[int(rng.integers(len(found)))]
    return data[: place.start()] + TYPES[int(rng.integers(len(TYPES)))] + data[place.end() :]


NUMBERS = (b"0", b"-1", b"1", b"7", b"2147483648", b"9999999999999", b"1e400", b"null", b'"x"', b"[]", b"NaN")


def swap_number(data: bytes, rng: np.random.Generator) -> bytes:
    """One number that the file spells out replaced by another, or by what is none; else a flipped bit."""
    found = list(re.finditer(rb"(?<![\w.])\d+(?![\w.])", data))
    if not found:
        return flip_bit(data, rng)
    place = found[int(rng.integers(len(found)))]
    return data[: place.start()] + NUMBERS[int(rng.integers(len(NUMBERS)))] + data[place.end() :]


DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    function.__name__: function
    for function in (
        truncate,
        flip_bit,
        flip_bits,
        zero_block,
        fill_block,
        random_block,
        remove_block,
        repeat_block,
        swap_type,
        swap_number,
    )
}


def damaged(data: bytes, rng: np.random.Generator, kind: str | None = None) -> bytes:
    """The bytes after one kind of damage, a random one unless named; always other bytes, unless there are none."""
    for _ in range(100):
        changed = DAMAGE[kind or str(rng.choice(list(DAMAGE)))](data, rng)
        if changed != data or not data:
            return changed
    return flip_bit(data, rng)


def _edited(data: bytes, rng: np.random.Generator, size: int, edit: Callable[[bytes], bytes]) -> bytes:
    """The data with the bytes at a random place, `size` of them, edited."""
    if not data:
        return data
    start = int(rng.integers(len(data)))
    return data[:start] + edit(data[start : start + size]) + data[start + size :]
