"""What a log says of itself, in bounded size."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

FACT_BYTES = 4096
FACTS = 64


def bounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The statements that are JSON values of moderate size; the rest is left out."""
    kept: dict[str, Any] = {}
    for name, value in facts.items():
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            if len(kept) < FACTS and len(name) <= 256 and len(json.dumps(value, allow_nan=False)) <= FACT_BYTES:
                kept[name] = value
    return kept
