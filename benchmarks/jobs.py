"""What a part of the benchmark offers: jobs, each of which measures something and gives records."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.floors import Ceiling
from benchmarks.options import Options
from benchmarks.records import Ratio, Record


class Process(NamedTuple):
    """What a process may use. cores: of the CPU, 0 with an accelerator.

    single: it stands for one core or one accelerator, where efficiency is measured; whole: it has all that the machine
    has, where whole runs are measured. A machine with one core has one process that is both.
    """

    cores: int
    single: bool
    whole: bool


class Setting(NamedTuple):
    """Where a job is done."""

    options: Options
    ceiling: Ceiling
    cores: int


class Job(NamedTuple):
    """One measurement with a name; it compiles what it needs and keeps nothing. weight: about how long it takes."""

    name: str
    run: Callable[[Setting], list[Record | Ratio]]
    weight: float = 1.0
