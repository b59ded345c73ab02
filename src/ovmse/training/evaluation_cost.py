"""What the evaluations of a run cost, in words: in environment steps before it begins, in time after the first one."""

from ovmse.config import Config
from ovmse.core.types import EnvSpec
from ovmse.methods.method import Method
from ovmse.system.progress import duration


def plays(config: Config, method: Method) -> int:
    """How often a run plays its evaluation's episodes: at both ends of each phase, at every mark, and for the handover
    check twice."""
    offline, online = method.offline_loss is not None, method.online_target is not None
    pretrains = offline and config.pretrained is None
    count = -(-config.offline_updates // config.evaluate_every_updates) + 1 if pretrains else 0
    count += -(-config.online_env_steps // config.evaluate_every_env_steps) + 1 if online else 0
    return count + (2 if offline and online and not method.reinitialise_online else 0)


def in_steps(config: Config, method: Method, spec: EnvSpec) -> str:
    """What the evaluations cost at most, beside the environment steps that are learned from."""
    count, episodes = plays(config, method), config.evaluate_episodes
    steps = count * episodes * spec.episode_limit
    said = (
        f"evaluations: {count} times {episodes} episodes of at most {spec.episode_limit} steps for each seed, "
        f"up to {steps:,} environment steps"
    )
    if method.online_target is None:
        return said
    return f"{said} beside {config.online_env_steps:,} of training ({steps / config.online_env_steps:.0%})"


def in_time(seconds: float, config: Config, method: Method) -> str:
    """What the evaluations to come take, if each takes as long as the first one did."""
    left = plays(config, method) - 1
    return (
        f"the first evaluation took {seconds:.3g} s; {left} more as long take {duration(left * seconds)} "
        "(fewer --evaluate-episodes take less)"
    )
