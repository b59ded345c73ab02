"""Which method goes on online from an offline phase: its own, or a strategy with its objective."""

from collections.abc import Sequence

from ovmse import methods
from ovmse.core.errors import UserError
from ovmse.core.networks import Parts
from ovmse.methods.method import Method
from ovmse.methods.overrides import change_method
from ovmse.methods.targets import OfflineValueMemory

STRATEGIES = ("ovmse", "jsrl")


def online_of(name: str, changes: Sequence[str], parts: Parts) -> tuple[str, list[str]]:
    """The method, and the changes to it, that go on online from networks of these parts.

    name, changes: what they were trained with; where that has no online phase a strategy is put before it. They come
    back as they are where no strategy fits.
    """
    kept = without_target(changes)
    for wanted in (name, *(f"{strategy}+{name}" for strategy in STRATEGIES)):
        method = _found(wanted, kept)
        if method is not None and method.online_target is not None and method.parts == parts:
            return wanted, kept
    return name, kept


def remembering(name: str, changes: Sequence[str], parts: Parts) -> tuple[str, list[str]]:
    """As `online_of`, but one that remembers offline values (OVM) comes first: the method itself, or ovmse with its
    objective."""
    kept = without_target(changes)
    for wanted in (name, f"ovmse+{name}"):
        method = _found(wanted, kept)
        if method is not None and isinstance(method.online_target, OfflineValueMemory) and method.parts == parts:
            return wanted, kept
    return online_of(name, changes, parts)


def without_target(changes: Sequence[str]) -> list[str]:
    """The changes without those of the online target, which leave a method its offline phase alone."""
    return [change for change in changes if change.partition("=")[0].strip() != "online_target"]


def _found(name: str, changes: Sequence[str]) -> Method | None:
    """A method with changes; None where it contradicts itself."""
    try:
        return change_method(methods.find(name), tuple(changes))
    except UserError:
        return None
