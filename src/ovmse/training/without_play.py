"""A run in which nothing is played: what is left of its configuration and its method, and what has no effect."""

from dataclasses import replace

from ovmse.config import Config
from ovmse.core.errors import UserError, number_of, option
from ovmse.core.types import EnvSpec
from ovmse.data.split import Split
from ovmse.methods.method import Method
from ovmse.methods.overrides import change_method

ONLY_OFFLINE = "online_target=None"
"""The change that leaves a method its offline phase."""
HELD_OUT = 0.2
"""Share of the episodes that is held out where a run says nothing of it."""
PLAY = (
    "env_settings", "online_env_steps", "schedule_env_steps", "episodes_per_collect", "updates_per_collect",
    "replay_env_steps", "evaluate_every_env_steps", "evaluate_episodes", "env_seconds", "env_restarts",
    "env_python", "ray_address", "keep_experience", "guard_margin", "guard_patience",
)  # fmt: skip
"""Settings that mean something only where a run plays."""


def in_words(split: Split | None, spec: EnvSpec) -> str:
    """What such a run does, for its user to read."""
    assert split is not None  # `without_play` has seen to it
    held_out, all_of_them = len(split.held_out), len(split.held_out) + len(split.kept)
    return (
        f"nothing is played (the log is of {spec.name}; --env would name what to play in): the offline phase alone, "
        f"evaluated on {held_out} of {number_of(all_of_them, 'episode')}, held out"
    )


def without_play(config: Config, method: Method) -> tuple[Config, Method]:
    """The offline phase alone, evaluated on held-out episodes.

    Raises `UserError` where the method has no such phase, or for a setting that would have no effect.
    """
    if method.offline_loss is None:
        raise UserError(
            f"nothing can be played here, and the method {config.method!r} has no offline phase: choose one that has, "
            "such as ovmse or cfcql, or give --env."
        )
    default = Config()
    if inert := [option(name) for name in PLAY if getattr(config, name) != getattr(default, name)]:
        raise UserError(
            f"nothing is played without an environment, so {', '.join(inert)} would have no effect: leave it out, or "
            "give --env."
        )
    if config.pretrained is not None:
        raise UserError(
            f"nothing is played without an environment, so after the offline phase of {config.pretrained} nothing "
            "would be left to train: leave --pretrained out, or give --env."
        )
    config = replace(config, held_out=config.held_out or HELD_OUT)
    if method.online_target is None:
        return config, method
    return replace(config, change=(*config.change, ONLY_OFFLINE)), change_method(method, (ONLY_OFFLINE,))
