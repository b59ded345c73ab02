"""The rules behind the recommendations: a table, each a condition, a sentence, its reason and where that comes from.

In every topic the first rule whose condition holds speaks. All thresholds, and all suggested numbers, are our own
choices; references say what an idea rests on, not that a number was found there.
"""

from collections.abc import Callable
from typing import NamedTuple

from ovmse.core.errors import number_of

NARROW, BROAD = 0.25, 0.6
"""Share of the entropy of uniform play, below which play is narrow, from which it is broad."""
GOOD, POOR = 0.75, 0.25
"""Level of play (see `Figures`) from which it is good, below which it is poor."""
FEWEST, THIN, DRIFT = 100, 0.15, 6.0

CQL = "Kumar et al. 2020, arXiv 2006.04779"
CFCQL = "Shao et al. 2023, arXiv 2309.12696"
SACO = "Schweighofer et al. 2022, arXiv 2111.04714"
JOINT_SACO = "Formanek et al. 2024, arXiv 2409.12001"
RLPD = "Ball et al. 2023, arXiv 2302.02948"
CALQL = "Nakamoto et al. 2023, arXiv 2303.05479"
HUMANS = "Mandlekar et al. 2021, arXiv 2108.03298"
OVMSE = "Zhong et al. 2024, arXiv 2410.19450"


class Figures(NamedTuple):
    """What the rules look at; None where it is not known.

    level: win rate, or else the mean return between the worst and the best of the dataset, both in [0, 1].
    entropy_share, gap (nats), policies: see `clone.figures` and `mixture.figures`. sampled: share of the dataset's
    choices that the clone was fitted to or judged by. drift: of returns along the dataset, see `mixture.drift`.
    """

    episodes: int
    errors: int
    warnings: int
    agents: int
    wins: bool
    level: float
    constant_return: bool
    entropy_share: float | None = None
    gap: float | None = None
    sampled: float = 0.0
    policies: str | None = None
    drift: float = 0.0

    @property
    def narrow(self) -> bool:
        return self.entropy_share is not None and self.entropy_share < NARROW

    @property
    def broad(self) -> bool:
        return self.entropy_share is not None and self.entropy_share >= BROAD

    @property
    def good(self) -> bool:
        return not self.constant_return and self.level >= GOOD

    @property
    def poor(self) -> bool:
        return not self.constant_return and self.level < POOR

    @property
    def level_words(self) -> str:
        percent = f"{100 * self.level:.0f} %"
        return f"{percent} of episodes are won" if self.wins else f"the mean return is {percent} of the way to the best"

    @property
    def episodes_are(self) -> str:
        return f"{number_of(self.episodes, 'episode')} {'is' if self.episodes == 1 else 'are'}"

    @property
    def warning_kinds(self) -> str:
        return number_of(self.warnings, "kind")

    @property
    def entropy_words(self) -> str:
        return "" if self.entropy_share is None else f"{100 * self.entropy_share:.0f} %"


class Rule(NamedTuple):
    """A condition, and where it holds: a sentence ({f.…} are figures), its reason, its paper, changes to the method."""

    when: Callable[[Figures], bool]
    sentence: str
    reason: str
    reference: str = ""
    changes: tuple[str, ...] = ()


def always(_: Figures) -> bool:
    return True


RULES: dict[str, tuple[Rule, ...]] = {
    "use": (
        Rule(
            lambda f: f.errors > 0,
            "It cannot be used as it is: {f.errors} kinds of error.",
            "Training reads only datasets without errors; what follows is about the episodes that are sound.",
        ),
        Rule(
            lambda f: f.warnings > 0,
            "It can be used; look at {f.warning_kinds} of warning first.",
            "A warning is about something that learning survives but suffers from.",
        ),
        Rule(always, "It can be used.", "Every step has been checked."),
    ),
    "amount": (
        Rule(
            lambda f: f.episodes < FEWEST,
            "{f.episodes_are} few.",
            "Figures from so few episodes scatter, and so will what is learned; more data beats a better setting.",
            HUMANS,
        ),
        Rule(
            lambda f: f.gap is not None and f.gap > THIN and f.sampled > 0.9,
            "{f.episodes_are} thin: the cloned policy is {f.gap:.2f} nats surer of what it learned from "
            "than of the rest.",
            "What a network memorises from this data does not yet hold for episodes that it has not seen.",
            HUMANS,
        ),
        Rule(always, "{f.episodes_are} enough to start from.", "No sign of too little data was found."),
    ),
    "quality": (
        Rule(
            lambda f: f.constant_return,
            "Every episode has the same return: good and poor play cannot be told apart.",
            "Values learned from it cannot prefer one episode's actions to another's.",
        ),
        Rule(
            lambda f: f.good,
            "The play is good: {f.level_words}.",
            "Where play is good, imitating it goes far: cloning did as well as the best offline methods there.",
            SACO,
        ),
        Rule(
            lambda f: f.poor,
            "The play is poor: {f.level_words}.",
            "Imitation would repeat it; what there is to gain must come from values, or from playing online.",
            SACO,
        ),
        Rule(
            always,
            "The play is middling: {f.level_words}.",
            "It shows both what works and what does not, and leaves room to improve on.",
        ),
    ),
    "breadth": (
        Rule(
            lambda f: f.entropy_share is None,
            "How broad the play is was not measured.",
            "There are too few episodes or choices to clone the policy, or the fit was switched off.",
        ),
        Rule(
            lambda f: f.narrow,
            "The play is narrow: it has {f.entropy_words} of the entropy of uniformly random play.",
            "Most legal actions are hardly ever tried where they are legal, so their values are extrapolated.",
            f"{SACO}; {JOINT_SACO}",
        ),
        Rule(
            lambda f: f.broad,
            "The play is broad: it has {f.entropy_words} of the entropy of uniformly random play.",
            "Most legal actions are tried, so values rest on data and need less pessimism.",
            f"{SACO}; {JOINT_SACO}",
        ),
        Rule(
            always,
            "The play is neither narrow nor broad: it has {f.entropy_words} of the entropy of uniformly random play.",
            "Some alternatives to the usual action are tried.",
            f"{SACO}; {JOINT_SACO}",
        ),
    ),
    "policies": (
        Rule(
            lambda f: f.policies == "several",
            "Several policies played: episodes differ by more than chance from any single one.",
            "Data of several players is harder to imitate, and says more about alternatives; values are the better "
            "guide.",
            HUMANS,
        ),
        Rule(
            lambda f: f.policies == "one",
            "It looks like one policy throughout.",
            "The first half of an episode says nothing about the second that the cloned policy does not know already.",
        ),
        Rule(
            lambda f: f.policies == "unclear",
            "Whether one policy played, or several, is unclear.",
            "Episodes differ a little more than under one policy; a poor fit, or one with memory, would look the same.",
        ),
    ),
    "order": (
        Rule(
            lambda f: abs(f.drift) > DRIFT,
            "Returns drift along the dataset, as when a team learns while it is recorded.",
            "Early and late episodes come from different players; split by order, they are different datasets.",
        ),
    ),
    "regulariser": (
        Rule(
            lambda f: f.narrow and f.good,
            "Pre-train close to the data: CQL per agent with α = 15.",
            "Per agent, CQL's penalty is the cross-entropy between softmax(Q) and the recorded action: a large α is "
            "behaviour cloning, which good and narrow data calls for.",
            f"{CQL}; {SACO}",
            ("offline_loss.alpha=15.0", "offline_loss.form=per_agent"),
        ),
        Rule(
            lambda f: f.broad and f.policies != "one" and f.good,
            "Pre-train with the usual pessimism: CQL per agent with α = 3.",
            "The play is good and the data broad; there is no need to leave it, nor to cling to it.",
            f"{CQL}; {SACO}",
            ("offline_loss.alpha=3.0", "offline_loss.form=per_agent"),
        ),
        Rule(
            lambda f: f.broad,
            "Pre-train with less pessimism: CQL per agent with α = 1.",
            "Unconstrained value learning did well where coverage was high, and imitating broad play that is not good "
            "would hold the team back. Too much pessimism also costs when going online.",
            f"{SACO}; {CALQL}",
            ("offline_loss.alpha=1.0", "offline_loss.form=per_agent"),
        ),
        Rule(
            lambda f: f.narrow,
            "Pre-train with the usual pessimism: CQL per agent with α = 3.",
            "Narrow data gives no ground to trust other actions, and play that is not good should not be cloned; on "
            "smax-3m-medium α = 0.33 did worse (docs/results.md).",
            CQL,
            ("offline_loss.alpha=3.0", "offline_loss.form=per_agent"),
        ),
        Rule(
            always,
            "Pre-train with the usual pessimism: CQL per agent with α = 3, the library's default.",
            "Nothing here speaks for more or for less.",
            CQL,
            ("offline_loss.alpha=3.0", "offline_loss.form=per_agent"),
        ),
    ),
    "many agents": (
        Rule(
            lambda f: f.agents >= 8,
            "With {f.agents} agents, try the counterfactual form of CQL as well.",
            "Pessimism about joint actions grows with the number of agents; this form weighs one agent at a time.",
            CFCQL,
        ),
    ),
    "offline share": (
        Rule(
            lambda f: f.good,
            "Online, take a quarter of every batch from the data.",
            "Good play is worth keeping in mind; RLPD mixes half and half.",
            RLPD,
            ("offline_share=constant(0.25)",),
        ),
        Rule(
            lambda f: f.poor and f.narrow,
            "Online, take a twentieth of every batch from the data.",
            "Poor and narrow play has little to teach once the team plays by itself.",
            "",
            ("offline_share=constant(0.05)",),
        ),
        Rule(
            always,
            "Online, take a tenth of every batch from the data, the library's default.",
            "Enough that the batches do not forget the data, little enough that the team's own play leads.",
            "",
            ("offline_share=constant(0.1)",),
        ),
    ),
    "exploration": (
        Rule(
            lambda f: f.good and not f.broad,
            "Explore little at first: ε of each agent from 0.03 to 0.01.",
            "The team starts from good play, and every random action departs from it.",
            OVMSE,
            ("explore.epsilon=linear(0.03,0.01)",),
        ),
        Rule(
            lambda f: f.narrow or f.poor,
            "Explore much at first: ε of each agent from 0.1 to 0.02, the library's default.",
            "What the data does not show must be found online; one random agent at a time keeps the team playing.",
            OVMSE,
            ("explore.epsilon=linear(0.1,0.02)",),
        ),
        Rule(
            always,
            "Explore moderately at first: ε of each agent from 0.06 to 0.02.",
            "The data shows alternatives already.",
            OVMSE,
            ("explore.epsilon=linear(0.06,0.02)",),
        ),
    ),
}
