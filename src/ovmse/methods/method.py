"""A method is a value made of a few functions; `combine` puts a strategy and an objective together.

Every part is a frozen dataclass: it prints, compares, goes into `config.json`, and changes by `dataclasses.replace`.
"""

from dataclasses import dataclass, fields, replace
from types import FunctionType
from typing import Any

from ovmse.core.errors import UserError
from ovmse.core.networks import Parts
from ovmse.core.schedules import Schedule, check_schedule, constant, is_zero
from ovmse.methods.exploration import EpsilonGreedy, own_utilities
from ovmse.methods.losses import SquaredError
from ovmse.methods.signatures import (
    ActingUtilities,
    ComparesQTot,
    Explore,
    LaidEndToEnd,
    LearnsInstead,
    Loss,
    Memory,
    NeedsHeads,
    NextValue,
    Priority,
    Target,
    UsesOfflineTeam,
)
from ovmse.methods.targets import OfflineValueMemory, double_q, offline_q_tot


@dataclass(frozen=True)
class Method:
    """An offline-to-online method: a value made of a few functions (`ovmse.methods.signatures` has their types).

    Args:
        offline_loss: what to minimise on the dataset; None: there is no offline phase.
        online_target: what Q_tot regresses onto online; None: there is no online phase.
        online_loss: the loss of that regression.
        next_value: what the TD target bootstraps from, in both phases.
        explore: how the team acts while it learns online.
        acting_utilities: the utilities by which the team plays, where the offline team has a say in that.
        offline_share: the share of every online batch that comes from the dataset.
        memory: what to remember beside each stored step, computed once by the team frozen at the handover.
        priority: how often an episode of the dataset is drawn online; None: all alike.
        warm_up: the share of the online budget that is played before the first update, in [0, 1).
        reinitialise_online: whether the online phase learns new networks, the offline team being a guide only.
        parts: what the networks consist of.
        online_parts: what those of the online phase consist of, where they differ.

    Raises:
        UserError: where the parts contradict each other.
    """

    offline_loss: Loss | None = None
    online_target: Target | None = None
    online_loss: Loss = SquaredError()
    next_value: NextValue = double_q
    explore: Explore = EpsilonGreedy(constant(0.05))
    acting_utilities: ActingUtilities = own_utilities
    offline_share: Schedule = constant(0.0)
    memory: Memory | None = offline_q_tot
    priority: Priority | None = None
    warm_up: float | int = 0.0
    reinitialise_online: bool = False
    parts: Parts = Parts()
    online_parts: Parts | None = None

    def __post_init__(self) -> None:
        check_schedule("the offline share", self.offline_share)
        self.offline_share.check_within("the offline share", 0.0, 1.0)
        if self.offline_loss is None and self.online_target is None:
            raise UserError("a method needs an offline loss, an online target, or both; this one has neither.")
        for name in FUNCTIONS:
            part = getattr(self, name)
            if part is not None and not callable(part):
                raise UserError(f"a method's {name} is a function, such as CQL(1.0) or TD(); got {part!r}.")
        if not isinstance(self.warm_up, float | int) or not 0.0 <= self.warm_up < 1.0:
            raise UserError(f"a method's warm_up is a share of the budget, 0 or more and below 1; got {self.warm_up}.")
        if self.offline_loss is not None:
            check_parts(self.offline_loss, self.parts)
        if self.online_target is not None:
            self._check_online()

    def _check_online(self) -> None:
        if isinstance(self.online_target, OfflineValueMemory):
            if self.offline_loss is None or self.memory is None:
                raise UserError(
                    "OfflineValueMemory needs an offline loss and a memory: else there is nothing to remember."
                )
            for loss in (self.online_loss, self.offline_loss):
                if not learns_q_tot(loss):
                    raise UserError(
                        f"OfflineValueMemory regresses Q_tot, and {_name(loss)} learns no Q_tot: combine it with an "
                        "objective that does, such as offline (CQL), cfcql, omiga or icq."
                    )
        if isinstance(self.explore, ComparesQTot) and not learns_q_tot(self.online_loss):
            raise UserError(
                f"{_name(self.explore)} compares joint actions by Q_tot, and {_name(self.online_loss)} learns none: "
                "combine it with an objective that does, such as offline (CQL), cfcql, omiga or icq."
            )
        if self.uses_offline_team and self.offline_loss is None:
            raise UserError(
                "this method plays with its offline team, but has no offline phase: give it an offline loss."
            )
        if self.offline_loss is not None and not learns_values(self.offline_loss) and not self.reinitialise_online:
            raise UserError(
                f"{_name(self.offline_loss)} learns no values offline, so that there are none to fine-tune: use a "
                "method that learns fresh networks online (such as jsrl), or another offline loss."
            )
        check_parts(self.online_loss, self.parts_online, trained="policy")

    @property
    def uses_data(self) -> bool:
        """Whether the method needs a dataset."""
        return self.offline_loss is not None or self.mixes_data

    @property
    def mixes_data(self) -> bool:
        """Whether online batches hold any offline episodes."""
        share = self.offline_share
        return self.online_target is not None and not (is_zero(share.start) and is_zero(share.end))

    @property
    def parts_online(self) -> Parts:
        """What the networks of the online phase consist of."""
        return self.parts if self.online_parts is None else self.online_parts

    @property
    def whole_episodes(self) -> bool:
        """Whether losses must be given single episodes: for priorities, and for parts of your own (`LaidEndToEnd`)."""
        given = [self.offline_loss, self.online_loss, self.online_target, self.next_value]
        return self.priority is not None or not all(_laid_end_to_end(part) for part in given if part is not None)

    @property
    def uses_offline_team(self) -> bool:
        """Whether the team as it left the offline phase has a say in what is played online."""
        return any(isinstance(part, UsesOfflineTeam) for part in (self.explore, self.acting_utilities))


FUNCTIONS = (
    "offline_loss",
    "online_target",
    "online_loss",
    "next_value",
    "explore",
    "acting_utilities",
    "memory",
    "priority",
)
"""The fields of a method that are functions."""
ONLINE = (
    "online_target", "online_loss", "explore", "acting_utilities", "offline_share", "memory", "priority", "warm_up",
    "reinitialise_online", "online_parts",
)  # fmt: skip
"""The fields of a method that are first read after the offline phase."""
OBJECTIVE = ("offline_loss", "online_loss", "next_value", "parts")
"""The fields that make an offline objective; the others make a strategy."""


def learns_values(loss: Loss) -> bool:
    """Whether a loss learns any values, as all do that don't say otherwise (`LearnsInstead`)."""
    return not (isinstance(loss, LearnsInstead) and loss.learns == "policy")


def learns_q_tot(loss: Loss) -> bool:
    """Whether a loss regresses Q_tot onto the target that it is given."""
    return not isinstance(loss, LearnsInstead)


def check_parts(loss: Loss, parts: Parts, trained: str | None = None) -> None:
    """Raise `UserError` unless the networks have what a loss needs (`NeedsHeads`) and, of `trained`, no more."""
    needs: tuple[str, ...] = loss.needs if isinstance(loss, NeedsHeads) else ()
    if missing := [name for name in needs if not getattr(parts, name)]:
        raise UserError(f"{_name(loss)} needs networks with Parts({', '.join(f'{x}=True' for x in missing)}).")
    if trained is not None and getattr(parts, trained) and trained not in needs:
        raise UserError(f"the team acts by its {trained}, which {_name(loss)} does not train: combine it with another.")


def combine(strategy: Method, objective: Method) -> Method:
    """A strategy's online phase after, and with the losses of, an offline objective.

    Raises `UserError` where the two contradict each other.
    """
    if strategy.online_target is None:
        raise UserError("the first of the two is a strategy: it needs an online phase.")
    if strategy.offline_loss is None:
        raise UserError("this strategy has no offline phase that an objective could fill.")
    if objective.offline_loss is None:
        raise UserError("the second of the two is an offline objective: it needs an offline loss.")
    if strategy.reinitialise_online:  # the objective makes the guide alone
        return replace(
            strategy, offline_loss=objective.offline_loss, parts=objective.parts, online_parts=strategy.parts_online
        )
    taken = {name: getattr(objective, name) for name in OBJECTIVE}
    for name in ("online_loss", "next_value"):
        taken[name] = _either(strategy, objective, name)
    each = {field.name: _either(strategy.parts, objective.parts, field.name) for field in fields(Parts)}
    taken["parts"] = Parts(**each)
    return replace(strategy, **taken)


def _either(strategy: Any, objective: Any, name: str) -> Any:
    """The field that one of the two sets. Raises `UserError` where both do."""
    [plain] = [field.default for field in fields(strategy) if field.name == name]
    ours, theirs = getattr(strategy, name), getattr(objective, name)
    if ours != plain and theirs not in (plain, ours):
        raise UserError(
            f"both the strategy and the objective have {name.replace('_', ' ')} of their own "
            f"({_name(ours)} and {_name(theirs)}): a run can have one."
        )
    return theirs if ours == plain else ours


def _laid_end_to_end(part: Any) -> bool:
    module = part.__module__ if isinstance(part, FunctionType) else type(part).__module__
    return isinstance(part, LaidEndToEnd) or module.split(".")[0] == __name__.split(".")[0]


def _name(part: object) -> str:
    if isinstance(part, bool | int | str):
        return repr(part)
    return getattr(part, "__name__", None) or type(part).__name__
