"""How ovmse talks with an environment in a process of its own: frames over two pipes. Nothing is ever unpickled.

A frame is one letter, the length of what follows (4 bytes), and that. All numbers are little-endian.

| to the environment | content | answer |
|---|---|---|
| `M` make | JSON: name, settings | `I`: JSON of the spec, whether seeds repeat episodes, and names of features |
| `R` reset | the seed, int64 | `O`: an observation |
| `S` step | the joint action, int32 [N] | `T`: an observation and a result |
| `P` play | a bundle: what to play, a team's arrays | `A` now and then: it goes on; `D`: a bundle, a whole episode |

Any answer may be `E` instead: JSON with a message, and whether it is a `UserError`. An observation is obs, float32
[N, O], then the state, float32 [S], then the legal actions, uint8 [N, A]; a result is the reward, float32, then
terminal, truncated and won, uint8 each, and at an episode's end the environment's measures, JSON, where it tells any.
A bundle is the length of some JSON (4 bytes), that, and arrays one after the other, whose types and shapes are in it.
The process ends when its input does.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ovmse.core.types import EnvSpec, Observation, StepResult

RESULT = 7  # bytes of a step's result
HEADER = struct.Struct("<cI")
LENGTH = struct.Struct("<I")
MAKE, RESET, STEP, INFO, OBSERVED, STEPPED, FAILED = b"M", b"R", b"S", b"I", b"O", b"T", b"E"
PLAY, ALIVE, PLAYED = b"P", b"A", b"D"

_observe: Any = Observation  # NumPy's arrays
_result: Any = StepResult


def send(pipe: int, kind: bytes, content: bytes = b"") -> None:
    """Write a frame to a pipe's file descriptor. Raises `BrokenPipeError` where nobody reads any more."""
    left = memoryview(HEADER.pack(kind, len(content)) + content)
    while left:
        left = left[os.write(pipe, left) :]


def receive(pipe: int, seconds: float | None = None) -> tuple[bytes, bytes]:
    """The next frame of a pipe.

    Raises `EOFError` where the pipe has ended, and `TimeoutError` where nothing more comes in so many seconds.
    """
    until = None if seconds is None else time.monotonic() + seconds
    kind, length = HEADER.unpack(_read(pipe, HEADER.size, until))
    return kind, _read(pipe, length, until)


def _read(pipe: int, count: int, until: float | None) -> bytes:
    parts, left = [], count
    while left:
        if until is not None and not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe, left)
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def packed(
    observation: Observation, result: StepResult | None = None, measures: Mapping[str, float] | None = None
) -> bytes:
    """An observation, a step's result, and the measures of an episode that it ended, as bytes."""
    obs, state, avail = observation
    parts: list[Any] = [np.asarray(obs, "<f4"), np.asarray(state, "<f4"), np.asarray(avail, "u1")]
    if result is not None:
        parts += [np.asarray(result.reward, "<f4"), np.asarray(result[1:], "u1")]
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts) + (as_json(measures) if measures else b"")


def unpacked(spec: EnvSpec, content: bytes) -> tuple[Observation, StepResult | None, dict[str, float]]:
    """What `packed` made bytes of; arrays are fresh. Raises `ValueError` where the sizes are not those of the spec."""
    n, rows = spec.n_agents, 4 * spec.n_agents * spec.obs_size
    end = rows + 4 * spec.state_size
    obs = np.frombuffer(content, "<f4", n * spec.obs_size).reshape(n, spec.obs_size)
    state = np.frombuffer(content, "<f4", spec.state_size, rows)
    avail = np.frombuffer(content, "u1", n * spec.n_actions, end).reshape(n, spec.n_actions)
    observation = _observe(obs.astype(np.float32), state.astype(np.float32), avail.astype(bool))
    end += avail.size
    if len(content) == end:
        return observation, None, {}
    more = content[end + RESULT :]
    if len(content) < end + RESULT or more[:1] not in (b"", b"{"):
        raise ValueError(f"{len(content)} bytes, expected {end}")
    flags = (np.bool_(flag) for flag in content[end + 4 : end + RESULT])
    result = _result(np.frombuffer(content, "<f4", 1, end)[0], *flags)
    return observation, result, json.loads(more) if more else {}


def bundle(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Something that JSON can hold, and arrays by name, as bytes."""
    kept = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    head = as_json({"about": about, "arrays": {name: (x.dtype.str, x.shape) for name, x in kept.items()}})
    return b"".join([LENGTH.pack(len(head)), head, *(x.tobytes() for x in kept.values())])


def unbundle(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `bundle` made bytes of; the arrays can't be written to. Raises `ValueError` for other bytes."""
    try:
        start = LENGTH.size + LENGTH.unpack_from(content)[0]
        head = json.loads(content[LENGTH.size : start])
        arrays = {}
        for name, (dtype, shape) in head["arrays"].items():
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(content, dtype, count, start).reshape(shape)
            start += arrays[name].nbytes
        about: dict[str, Any] = head["about"]
    except (struct.error, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"no bundle: {error!r}") from error
    if start != len(content):
        raise ValueError(f"{len(content)} bytes, expected {start}")
    return about, arrays


def as_json(value: Any) -> bytes:
    """A value as JSON."""
    return json.dumps(value).encode()
