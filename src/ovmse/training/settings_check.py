"""Settings that keep values from an episode's end: a target network that hardly follows, or no end at all."""

from collections.abc import Iterator

from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.methods.method import Method

FEWEST = 20
BEYOND = 0.1
"""The share of a value, γ to the power of an episode's length, that may lie beyond the end of cut episodes."""


def expected_updates(config: Config, spec: EnvSpec, method: Method, dataset: Dataset | None) -> dict[str, float]:
    """Gradient updates of each phase that there is, by its name.

    Online they depend on how long episodes are: as long as the dataset's on average, or without one as the limit.
    """
    if config.round is not None:
        return {"round": float(config.round.updates)}
    updates: dict[str, float] = {}
    if method.offline_loss is not None and config.pretrained is None:
        updates["offline"] = float(config.offline_updates)
    if method.online_target is not None:
        length = spec.episode_limit if dataset is None else dataset.length.mean()
        warm_up = method.warm_up * config.scheduled_env_steps
        turns = max(0.0, config.online_env_steps - warm_up) / (config.episodes_per_collect * length)
        updates["online"] = float(config.updates_per_collect * turns)
    return updates


def warnings(config: Config, spec: EnvSpec, method: Method, dataset: Dataset | None) -> Iterator[str]:
    """A line for each phase in which the target network follows fewer than `FEWEST` times, and one where all episodes
    of the dataset were cut, and more than `BEYOND` of a value is what would come after them."""
    per_refresh = config.learner.updates_per_refresh
    for phase, updates in expected_updates(config, spec, method, dataset).items():
        times = updates / per_refresh
        if times < FEWEST:
            where = "round" if phase == "round" else f"{phase} phase"
            yield (
                f"warning: the target network follows only about {times:.1f} times in the {where} ({updates:.0f} "
                f"updates, once in {per_refresh:.0f}). Below {FEWEST} values hardly travel back from an episode's end: "
                "give the phase more updates, or raise --target-rate."
            )
    learner = config.learner
    if dataset is not None and learner.bootstrap_at_limit and not dataset.terminal.any():
        beyond = learner.gamma ** float(dataset.length.mean())
        if beyond > BEYOND:
            yield (
                f"warning: all episodes of {dataset.path.name} were cut, none ended by itself. At γ {learner.gamma:g} "
                f"{beyond:.0%} of a value lie beyond such an episode, where nothing was logged. If what counts is an "
                "episode's own return, --no-bootstrap-at-limit ends it there; or lower --gamma."
            )
