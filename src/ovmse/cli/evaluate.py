"""`ovmse evaluate`."""

from pathlib import Path

from rich.table import Table

from ovmse.cli.options import Run
from ovmse.core.errors import number_of, typed_command
from ovmse.core.literals import TeamChoice
from ovmse.system.progress import Terminal, say
from ovmse.system.ray_client import LOCAL


def evaluate(
    run: Run,
    episodes: int = 512,
    seed: int = 1_000_000,
    teams: TeamChoice = "deployed",
    episodes_out: Path | None = None,
    workers: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    trust_code: bool = False,
) -> None:
    """Play greedily with a run's teams, on episodes that training never evaluated on.

    Args:
        run: the run's directory.
        episodes: greedy episodes per team.
        seed: seed of these episodes.
        teams: the teams to deploy: at the run's end, or of a batch round the one that it accepted or kept; the last
            ones in any case; as they left the offline phase; or of each seed the offline one where the guard found the
            last one below it (docs/guard.md).
        episodes_out: the CSV with a line for every episode, its return, length, win and what the environment measures;
            by default evaluation.csv in the run's directory.
        workers: processes that play side by side in a host environment; by default as many as the run had.
        ray: with workers: have them on a Ray of this machine (ovmse[ray]), which ends with this command.
        ray_address: with workers: have them on the Ray at this address, or auto.
        trust_code: import and run the environment or method of somebody's own that the directory names.
    """
    from ovmse.runs.measure_columns import in_words, measures_among
    from ovmse.runs.saved_config import read_config  # here, since --help does without JAX
    from ovmse.training.display import Display
    from ovmse.training.evaluate_run import EPISODES, evaluate_run

    console = Terminal()
    config, where = read_config(run, trust_code), ray_address or (LOCAL if ray else None)
    rows = evaluate_run(config, run, episodes, seed, teams, Display(console), episodes_out, workers, where)
    measures = measures_among(rows[0])
    title = f"{run}: {number_of(episodes, 'greedy episode')} per team"
    table = Table("seed", "team", "win rate", "return", "length", *map(in_words, measures), title=title)
    for row in rows:
        won = "–" if row["win_rate"] is None else f"{100 * row['win_rate']:.1f} %"
        told = ["–" if row[name] is None else f"{row[name]:.2f}" for name in measures]
        scores = f"{row['return']:.2f}", f"{row['episode_length']:.1f}"
        table.add_row(str(row["seed"]), row["team"], won, *scores, *told)
    console.print(table)
    episodes_out = episodes_out or run / EPISODES
    say(console, f"Written: {run / 'evaluation.json'}, {episodes_out} (every episode)")
    say(console, f"Next: {typed_command('report', run)}")
