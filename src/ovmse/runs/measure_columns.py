"""The columns of an environment's own measures in a run's metrics (`ovmse.envs.measures`)."""

from collections.abc import Iterable

MEASURE = "measure_"
"""What their names begin with."""


def measures_among(names: Iterable[str]) -> list[str]:
    """The columns of measures among those of these names, each once, in order."""
    return sorted({name for name in names if name.startswith(MEASURE)})


def in_words(name: str) -> str:
    """The name of a column as it is said: a measure by its own name."""
    return name.removeprefix(MEASURE).replace("_", " ")
