"""What is recommended for a dataset: what the rules say of its figures, and the training command that follows."""

from typing import Any, NamedTuple

from ovmse.core.errors import typed_command
from ovmse.inspection.rules import RULES, Figures
from ovmse.system.plugins import BUILDERS

NAMELESS = "# learns from the log alone; to play, too, import again with --env (see docs/importing.md)\n"


class Recommendation(NamedTuple):
    """What a rule had to say."""

    topic: str
    sentence: str
    reason: str
    reference: str
    changes: tuple[str, ...]

    @property
    def source(self) -> str:
        """The reference in brackets, or nothing."""
        return f" ({self.reference})" if self.reference else ""


def recommendations(figures: Figures) -> tuple[Recommendation, ...]:
    """What the first rule that holds says, in every topic in which one does."""
    first = {topic: next((rule for rule in rules if rule.when(figures)), None) for topic, rules in RULES.items()}
    said = {topic: rule for topic, rule in first.items() if rule is not None}
    return tuple(Recommendation(topic, rule.sentence.format(f=figures), *rule[2:]) for topic, rule in said.items())


def figures(profile: dict[str, Any], errors: int, warnings: int) -> Figures:
    """What the rules look at, out of a profile."""
    returns, clone, mixture = profile["return"], profile["clone"], profile["mixture"]
    span = returns["max"] - returns["min"]
    wins = profile["win_rate"] is not None
    return Figures(
        episodes=profile["examined"],
        errors=errors,
        warnings=warnings,
        agents=profile["agents"],
        wins=wins,
        level=profile["win_rate"] if wins else (returns["mean"] - returns["min"]) / span if span > 0 else 0.0,
        constant_return=span == 0,
        entropy_share=clone and clone["entropy_share"],
        gap=clone and clone["gap"],
        sampled=clone["sampled"] if clone else 0.0,
        policies=mixture and mixture["policies"],
        drift=profile["return_drift"]["parts"],
    )


def command(env: str, data: str, statements: tuple[Recommendation, ...]) -> str:
    """The training command with the suggested changes.

    Where `env` names no environment that can be made, as in logs imported without one, nothing is played, and a comment
    says what to do about it.
    """
    named = _is_name(env)
    train = typed_command("train", "--method", "ovmse", *(("--env", env) if named else ()), "--data", data)
    changes = [f'--change "{change}"' for statement in statements for change in statement.changes]
    return ("" if named else NAMELESS) + " \\\n  ".join([train, *changes])


def _is_name(env: str) -> bool:
    """Whether `ovmse.envs.make` would look for this environment: PREFIX:NAME or MODULE:ATTRIBUTE."""
    prefix, _, rest = env.partition(":")
    own = all(part.isidentifier() for part in prefix.split(".")) and rest.isidentifier()
    return own or (prefix in BUILDERS and bool(rest))
