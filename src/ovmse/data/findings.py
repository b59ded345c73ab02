"""What the doctor can find: the kinds, how bad each is, what to do about it, and findings of them with a place."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """How bad a kind of finding is (an error: cannot be used; a warning: look at it; a note: good to know),
    and what to do."""

    severity: Severity
    advice: str


FETCH = "Fetch the dataset again, or write it again from its source."
SOURCE = "Correct the log or leave these episodes out, and write the dataset again."
FINAL_ROW = (
    "A learner bootstraps from the last row of an episode that was cut: record what was seen there, or drop these "
    "episodes' last step."
)

ERRORS = {
    "metadata cannot be read": "Write the dataset again with this version of the library.",
    "metadata contradicts the data": "Write the dataset again: its figures are not those of its arrays.",
    "array cannot be opened": FETCH,
    "array without checksums": "Write it with crc32c as the last codec: damage would go unnoticed.",
    "wrong dtype": "Write the array in the type that docs/datasets.md names.",
    "wrong shape": "Write the array again, or correct the sizes in the metadata.",
    "array does not fit the lengths": (
        "Every step has one action, reward and terminal, every episode one row more than steps: " + SOURCE
    ),
    "missing chunk file": FETCH,
    "damaged chunk file": FETCH,
    "episode without steps": "Leave such episodes out.",
    "episode longer than episode_limit": "Raise the episode limit in the metadata, or cut the episode.",
    "obs is not finite": SOURCE,
    "state is not finite": SOURCE,
    "reward is not finite": SOURCE,
    "action out of range": "Actions count from 0 to A-1: correct the numbering or the metadata.",
    "no legal action": "Give an agent that is out of play one action that does nothing.",
    "illegal recorded action": "Check that avail[t] belongs to the row that action[t] starts from, not the next one.",
    "terminal before the last step": "Split the log at its true ends: one episode ends once.",
    "win where nothing can be won": "Set has_win in the metadata, or won to false.",
}
WARNINGS = {
    "final row is all zeros": FINAL_ROW,
    "final row repeats the one before": FINAL_ROW,
    "time limit recorded as an end": (
        "Where the time limit cut an episode, terminal is false: else the future counts for nothing there."
    ),
    "early end that is not terminal": (
        "Check that terminal was recorded: a learner takes these episodes for cut and bootstraps beyond."
    ),
    "duplicate episodes": (
        "Leave the copies out, unless game and players are deterministic: they count twice in every batch."
    ),
    "unscaled observations": "Divide these features by their range before writing: networks expect ~1.",
    "unscaled state": "Divide these features by their range before writing: the mixer expects ~1.",
    "large returns": "Scale the rewards: the squared error grows with their square, and the strength of CQL does not.",
    "small returns": "Scale the rewards up: CQL's penalty would drown such small errors.",
    "rewards are all zero": "There is nothing to learn from but imitation: check the reward.",
    "agent without choices": "Check its avail: an agent with one legal action throughout learns nothing.",
}
NOTES = {
    "constant observation features": "They tell nothing; leaving them out makes the networks smaller.",
    "constant state features": "They tell nothing; leaving them out makes the mixer smaller.",
    "sparse rewards": "Values travel slowly through such data: long traces (td_lambda) help.",
    "agents out of play": "Forced choices carry no information; figures of the policy leave them out.",
    "supplied by the import": "Read what was assumed where the log was silent.",
}
KINDS_FOUND = {
    kind: Kind(severity, advice)
    for severity, kinds in zip(SEVERITIES, (ERRORS, WARNINGS, NOTES), strict=True)
    for kind, advice in kinds.items()
}
"""Every kind there is. Thresholds stand beside the checks that apply them."""


class Finding(NamedTuple):
    """One kind of finding: its name, how many times it occurs, the first one in words, and where that is.

    episode, step and agent count from 0; a row after the last step has the number of steps as its step.
    """

    kind: str
    times: int
    first: str
    file: str = ""
    episode: int | None = None
    step: int | None = None
    agent: int | None = None

    @property
    def severity(self) -> Severity:
        return KINDS_FOUND[self.kind].severity

    @property
    def advice(self) -> str:
        return KINDS_FOUND[self.kind].advice

    def __str__(self) -> str:
        return f"{self.kind}: {self.first} ({self.times} in all)"


def merge(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding for each kind, times added, the first place kept, the worst kinds first."""
    merged: dict[str, Finding] = {}
    for found in findings:
        before = merged.get(found.kind)
        merged[found.kind] = found if before is None else before._replace(times=before.times + found.times)
    return tuple(sorted(merged.values(), key=lambda found: SEVERITIES.index(found.severity)))
