"""A field trial of a batch round's new team: what it earned itself, beside what the deployed team brought back."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ovmse import methods
from ovmse.analysis.agreement import agreement, discounted_returns
from ovmse.config import Config
from ovmse.core.errors import UserError, number_of, typed_command
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.data.same_plant import as_play_of
from ovmse.learning.replay import from_flat
from ovmse.methods.overrides import change_method
from ovmse.policy.load import FILES, names_of
from ovmse.runs import rounds_file
from ovmse.runs.rounds_file import RoundRecord, Trial
from ovmse.runs.saved_config import read_config, read_spec
from ovmse.stats.paired import unpaired_difference
from ovmse.system import jax_setup
from ovmse.training.evaluate_run import restore_teams
from ovmse.training.rounds import policies_of, verdict, write_down

FEWEST = 2
"""Episodes that an interval takes."""


def trial(run: Path, data: str, trusted: bool = False) -> RoundRecord:
    """Judge the new team of a batch round by episodes that it played itself, and write down which is to be deployed.

    They stand beside the episodes of the deployed team that the round was given. No model is needed, and how far the
    one team follows the other is no matter; both must have explored equally often.

    Args:
        run: the round.
        data: the dataset of the new team's episodes.
        trusted: whether code of somebody's own that the run names may be imported and run.

    Returns:
        The round with its new verdict, as it is written.

    Raises:
        UserError: where the run is no round that has ended, the log is of another plant, too short, or follows the
            deployed team rather than the new one.
    """
    jax_setup.use()
    config, found, spec = read_config(run, trusted), rounds_file.read(run), read_spec(run)
    if found is None or spec is None or config.round is None:
        how = typed_command("improve", run, "--data", "NEW")
        raise UserError(f"{run} is no round that has ended: {how} makes one.")
    played, before = (as_play_of(Dataset.open(name), spec, names_of(run), run) for name in (data, str(config.data)))
    if (count := len(played.length)) < FEWEST:
        raise UserError(f"{played.path} holds {number_of(count, 'episode')}: a trial takes {FEWEST} or more.")
    check_played_by_new(run, config, spec, played)
    ours, theirs = (discounted_returns(one.flat, config.learner.gamma).tolist() for one in (played, before))
    difference, low, high = unpaired_difference(ours, theirs)
    tried = Trial(data, len(ours), float(np.mean(ours)), len(theirs), float(np.mean(theirs)), difference, low, high)
    accepted, reason = verdict(low, found.rounds[-1].allowed, None, 0.0)
    judged = replace(found.rounds[-1], accepted=accepted, reason=f"by trial: {reason}", trial=tried)
    write_down(run, [*found.rounds[:-1], judged])
    return judged


def check_played_by_new(run: Path, config: Config, spec: EnvSpec, played: Dataset) -> None:
    """Raise `UserError` where episodes follow the deployed team of a round more than its new one."""
    parts = change_method(methods.find(config.method), config.change).parts_online
    those = (restore_teams(run / FILES[name], config, spec, parts) for name in ("last", "before"))
    policies = policies_of(those, from_flat(played.flat, played.spec))
    new, deployed = (agreement(played.flat, policy).agent_coverage or 0.0 for policy in policies)
    if new < deployed:
        export = typed_command("export", run, "--teams", "last", "--to", "DIR")
        raise UserError(
            f"{played.path} is not play of the new team: {new:.0%} of the choices are those of the new one, "
            f"{deployed:.0%} those of the deployed one. The new team leaves by {export}."
        )


def in_words(found: RoundRecord) -> str:
    """What a trial found, for its user to read."""
    one = found.trial
    assert one is not None
    values = (
        f"{one.value:.2f}, {number_of(one.deployed_episodes, 'episode')} of the deployed one {one.deployed_value:.2f}"
    )
    interval = f"{one.difference:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"
    ends = "the new team is to be deployed" if found.accepted else "the deployed team stays"
    return (
        f"round {found.number}: {number_of(one.episodes, 'episode')} of the new team earned {values} (discounted), "
        f"difference {interval}: {found.reason}; {ends}"
    )
