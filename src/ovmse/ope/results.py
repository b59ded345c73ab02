"""What a selection found, as values: a row for each candidate, and how columns agree with true scores."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ovmse.analysis.agreement import LogAgreement, Matching
from ovmse.core.errors import number_of
from ovmse.ope.candidates import TRUTHS, Candidate
from ovmse.ope.settings import SCORES
from ovmse.runs.metrics_file import PROGRESS
from ovmse.stats import ranking

SETTLED = 0.05
"""The share of its value by which an estimate may move in the second half of a fit."""


@dataclass(frozen=True)
class Row:
    """What is said of one candidate. rank: from 1.

    fqe: the estimated discounted return, with its interval fqe_low to fqe_high; moved: how far it moved in the second
    half of the fit's updates. own_value: what the team's own Q_tot says. covered: whether the log follows the policy
    often enough for the estimate to be about it.
    """

    candidate: Candidate
    rank: int
    fqe: float
    fqe_low: float
    fqe_high: float
    moved: float
    own_value: float | None
    agreement: LogAgreement
    matching: Matching
    covered: bool

    def record(self) -> dict[str, Any]:
        """The row in full, as ``selection.json`` has it."""
        one, found, matching = self.candidate, self.agreement, self.matching
        return {
            "rank": self.rank,
            "team": one.name,
            "run": str(one.run),
            "method": one.config.method,
            "seed": one.seed,
            "phase": one.phase,
            "file": str(one.file),
            PROGRESS[one.phase]: one.place,
            **{name: getattr(self, name) for name in ("fqe", "fqe_low", "fqe_high", "moved", "own_value")},
            "coverage": found.coverage,
            "agent_coverage": found.agent_coverage,
            "coverage_by_agent": found.by_agent,
            "covered": self.covered,
            "matching_return": matching.value,
            "matching_low": matching.low,
            "matching_high": matching.high,
            "matching_episodes": matching.episodes,
            "matching_refused": matching.reason,
        }


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
    """A selection, best first. truth: empty unless it was asked for. logged: the log's mean discounted return; updates:
    of each fit."""

    out: Path
    rows: list[Row]
    truth: list[Agreed]
    logged: float
    updates: int


def settled(fqe: Float[np.ndarray, " P"], moved: Float[np.ndarray, " P"], logged: float) -> Bool[np.ndarray, " P"]:
    """Whether estimates moved little in the second half of their fits, beside what they or the log's episodes are."""
    return np.abs(moved) <= SETTLED * np.maximum(np.abs(fqe), abs(logged))


def unsettled(found: Selected) -> str | None:
    """What to say where fits ended while estimates that the log covers still moved; None where all had settled."""
    fqe, moved = np.array([(row.fqe, row.moved) for row in found.rows if row.covered]).reshape(-1, 2).T
    moving = np.abs(moved)[~settled(fqe, moved, found.logged)]
    if not len(moving):
        return None
    return (
        f"The fits have not settled: in the second half of their {found.updates:,} updates the estimates of "
        f"{len(moving)} of {number_of(len(fqe), 'team')} moved by more than {SETTLED:.0%}, up to {moving.max():.3g}. "
        "Give more --updates."
    )


def ranked(rows: list[Row], score: str) -> list[Row]:
    """Best first, with their ranks."""
    order = ranking.order([row.record()[score] for row in rows], [not row.covered for row in rows])
    return [replace(rows[i], rank=place) for place, i in enumerate(order, start=1)]


def agree(rows: list[Row], score: str, truth: str) -> Agreed | None:
    """How a column's order agrees with a recorded score's; None with fewer than two candidates that have both."""
    known = [(row.record()[score], y) for row in rows if (y := (row.candidate.recorded or {}).get(truth)) is not None]
    both = np.array([(x, y) for x, y in known if x is not None], float)
    if len(both) < 2:
        return None
    x, y = both.T
    best = max(y for _, y in known)
    return Agreed(score, truth, len(x), ranking.spearman(x, y), ranking.kendall(x, y), ranking.regret_at_1(x, y, best))


def compare(rows: list[Row]) -> list[Agreed]:
    """Every column against every recorded score."""
    return [found for name in SCORES for truth in TRUTHS if (found := agree(rows, name, truth))]
