"""What a selection found, as values: a row for each candidate, and how columns agree with true scores."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovmse.ope.agreement import LogAgreement, Matching
from ovmse.ope.candidates import Candidate
from ovmse.ope.settings import SCORES
from ovmse.stats import ranking

TRUTHS = ("win_rate", "return")


@dataclass(frozen=True)
class Row:
    """What is said of one candidate. rank: from 1.

    fqe: the estimated discounted return, with its interval fqe_low to fqe_high; td_error: the fit's mean squared error
    over its last updates. own_value: what the team's own Q_tot says. covered: whether the log follows the policy often
    enough for the estimate to be about it.
    """

    candidate: Candidate
    rank: int
    fqe: float
    fqe_low: float
    fqe_high: float
    td_error: float
    own_value: float | None
    agreement: LogAgreement
    matching: Matching
    covered: bool

    def score(self, name: str) -> float | None:
        """A column by its name in `SCORES`."""
        inside = {
            "coverage": self.agreement.coverage,
            "agent_coverage": self.agreement.agent_coverage,
            "matching_return": self.matching.value,
        }
        return inside[name] if name in inside else getattr(self, name)


@dataclass(frozen=True)
class Agreed:
    """How well a column orders candidates by a true score: rank correlations and regret@1, over those that have both.

    regret: of all candidates' best true score; in its units.
    """

    score: str
    truth: str
    candidates: int
    spearman: float | None
    kendall: float | None
    regret: float


@dataclass(frozen=True)
class Selected:
    """A selection, best first. truth: empty unless it was asked for. logged: the log's mean discounted return."""

    out: Path
    rows: list[Row]
    truth: list[Agreed]
    logged: float


def ranked(rows: list[Row], score: str) -> list[Row]:
    """Best first, with their ranks."""
    order = ranking.order([row.score(score) for row in rows], [not row.covered for row in rows])
    return [Row(**{**vars(rows[i]), "rank": place}) for place, i in enumerate(order, start=1)]


def agree(rows: list[Row], score: str, truth: str) -> Agreed | None:
    """How a column's order agrees with a recorded score's; None with fewer than two candidates that have both."""
    known = [(row.score(score), y) for row in rows if (y := (row.candidate.row or {}).get(truth)) is not None]
    both = np.array([(x, y) for x, y in known if x is not None], float)
    if len(both) < 2:
        return None
    x, y = both.T
    best = max(y for _, y in known)
    return Agreed(score, truth, len(x), ranking.spearman(x, y), ranking.kendall(x, y), ranking.regret_at_1(x, y, best))


def compare(rows: list[Row]) -> list[Agreed]:
    """Every column against every recorded score."""
    return [found for name in SCORES for truth in TRUTHS if (found := agree(rows, name, truth))]
