"""`ovmse trial`."""

from ovmse.cli.options import Run
from ovmse.core.errors import typed_command
from ovmse.system.progress import Terminal, say


def trial(run: Run, data: str, trust_code: bool = False) -> None:
    """Judge a round's new team by episodes that it played itself, and say which team is to be deployed.

    For where the log of the deployed team can't tell (docs/improve.md): the new team works for some episodes, exploring
    as often as the deployed one did (`ovmse export ROUND --teams last`), and what it earned decides.

    Args:
        run: the round, which `ovmse improve` made.
        data: the dataset of the episodes that its new team played.
        trust_code: import and run the environment or method of somebody's own that the run names.
    """
    from ovmse.training.trial import in_words, trial as judge  # here, since --help does without JAX

    console = Terminal()
    found = judge(run, data, trust_code)
    say(console, in_words(found))
    say(console, f"Written: {run / 'rounds.json'}\nNext: {typed_command('export', run, '--to', 'DIR')}")
