"""Choosing among teams by a log alone, before any online step. `docs/selection.md` explains."""

from ovmse.selection.choose import select
from ovmse.selection.results import Selected
from ovmse.selection.settings import Selecting

__all__ = ["Selected", "Selecting", "select"]
