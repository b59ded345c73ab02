"""What a batch round leaves, `rounds.json`: what it and those before it found, and which team is to be deployed."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ovmse.core.literals import ROUNDS, OfflineValueChoice, RoundLoss
from ovmse.system import files


@dataclass(frozen=True)
class JudgedTeam:
    """What the held-out new episodes say of one of the two teams: see `ovmse.training.log_evaluation`."""

    fqe: float
    agreement: float | None
    coverage: float | None


@dataclass(frozen=True)
class Trial:
    """What so many episodes that the new team played earned on average, beside those of the deployed one; data: theirs.

    Values are discounted returns; difference: new − deployed, with its 95 % interval low to high (Welch).
    """

    data: str
    episodes: int
    value: float
    deployed_episodes: int
    deployed_value: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class RoundRecord:
    """One round. Values are discounted returns.

    number: from 1. run: whose team was deployed; data: the logs that it brought back; earlier: those learned from
    before. method: how it learned, by its offline or its online loss; offline_value: whose values it remembered.
    updates: of the round. episodes, held_out: of the new logs, all of them and those that judged. behaviour_return:
    what these earned. deployed, new: the two teams. difference: new − deployed, with its interval low to high over so
    many fits. moved: how far it moved in the second half of their updates. allowed: how much worse than the deployed
    one the new team may be. accepted, reason: the verdict, of the logs or of the trial where there was one.
    """

    number: int
    run: str
    data: str
    earlier: list[str]
    method: str
    offline_value: OfflineValueChoice
    loss: RoundLoss
    updates: int
    episodes: int
    held_out: int
    behaviour_return: float
    deployed: JudgedTeam
    new: JudgedTeam
    difference: float
    low: float
    high: float
    fits: int
    moved: float
    allowed: float
    accepted: bool
    reason: str
    trial: Trial | None = None


@dataclass(frozen=True)
class Rounds:
    """All rounds so far, the last one the directory's own. deployed, file: the team to deploy now, and where it is."""

    deployed: Literal["last", "before"]
    file: str
    rounds: list[RoundRecord]


def read(run: Path) -> Rounds | None:
    """The rounds of a directory; None where it holds none. Raises `UserError` where the file is damaged."""
    found: Rounds | None = files.read_json(run / ROUNDS, Rounds | None)
    return found


def write(run: Path, rounds: Rounds) -> None:
    """Write down the rounds so far."""
    described: dict[str, Any] = asdict(rounds)
    files.write_json(run / ROUNDS, described)
