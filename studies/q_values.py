"""Study 2: what becomes of the team's values at the switch, and is the memory right where it wins? Of study 1's cells.

    python studies/q_values.py runs/claims

Of every finished cell of the sweep: what the unlearning monitor saw (Q_tot and Q_off on the same logged steps, at every
evaluation), and from greedy episodes played with the team it ended with, Q_tot, Q_off and the return that followed.
The team as it left the offline phase, common to all arms of a dataset and seed, is measured likewise. Measured cells
are kept in studies/results/q_values.jsonl and not measured again; then the page is renewed. Without a directory that is
all.
"""

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import tables
from cells import finished
from matplotlib.figure import Figure

from ovmse import envs, methods
from ovmse.config import Config
from ovmse.core import values
from ovmse.core.networks import Team
from ovmse.core.types import Episode
from ovmse.envs.settings import parse_settings
from ovmse.learning.rollout import Teams
from ovmse.methods.method import Method
from ovmse.render import draw
from ovmse.runs.metrics_file import load_run
from ovmse.runs.saved_config import read_config
from ovmse.stats.estimates import Curve
from ovmse.system import jax_setup
from ovmse.system.files import append_json_lines, write_bytes
from ovmse.training.evaluate_run import restore_teams
from ovmse.training.export_run import TOGETHER, played

RESULTS = tables.RESULTS / "q_values.jsonl"
EPISODES = 128
SEEN = ("env_steps", "win_rate", "monitor_q_tot", "monitor_offline_value", "monitor_agreement", "memory_active_share")
OFFLINE = "before the switch"
"""The arm that the offline team is said to be of."""


def measure(played: Episode, team: Team, frozen: Team, gamma: float) -> dict[str, float | None]:
    """Means over the steps of greedy episodes (leading axis) that ended within the time limit.

    Where the memory is above the team is told by the two networks alone: chosen by a target with the episode's own
    rewards in it, the steps would be those that went on badly.
    """

    def one(episode: Episode) -> tuple[jax.Array, ...]:
        q, q_off = values.taken_q_tot(team, episode), values.taken_q_tot(frozen, episode)
        rest = values.returns_to_go(episode.reward, episode.terminal, episode.valid, gamma)
        return q, q_off, rest, episode.valid & (episode.terminal & episode.valid).any()

    q, q_off, rest, counted = map(np.asarray, jax.jit(jax.vmap(one))(played))
    above = counted & (q_off > q)

    def mean(x: np.ndarray, where: np.ndarray) -> float | None:
        return rounded(x[where].mean()) if where.any() else None

    means = {"q_tot": q, "q_off": q_off, "return": rest}
    return {
        **{name: mean(x, counted) for name, x in means.items()},
        **{f"{name}_where_above": mean(x, above) for name, x in means.items()},
        "above": mean(above, counted),
        "ended": rounded((played.terminal & played.valid).any(axis=-1).mean()),
    }


def rounded(x: float) -> float | None:
    """A number as it is kept: four digits after the point, null where there is none."""
    return round(float(x), 4) if np.isfinite(x) else None


def greedy_episodes(env: Any, config: Config, method: Method, team: Team) -> Episode:
    """Greedy episodes of a team, the same ones for all teams of a seed."""
    blocks = played(config, env, method, Teams(team))
    return jax.tree.map(lambda *x: np.concatenate(x), *islice(blocks, EPISODES // TOGETHER))


def main(sweep: Path) -> None:
    """Measure every finished cell of the sweep that is here and has not been measured."""
    jax_setup.use()
    done = finished(RESULTS, "data", "arm", "seed")
    for line in tables.read("claims"):
        run = sweep / "cells" / Path(line["run"]).name
        wanted = [arm for arm in (OFFLINE, line["arm"]) if (line["data"], arm, line["seed"]) not in done]
        if not run.exists() or not wanted:
            continue
        config = read_config(run)
        env = envs.make(config.env, **parse_settings(config.env_settings))
        method = methods.find(config.method)
        files = [run / f"{name}.safetensors" for name in ("offline", "teams")]
        both = [restore_teams(file, config, env.spec, method.parts) for file in files]
        frozen, last = jax.tree.map(lambda x: x[0], both)
        for arm in wanted:
            team = frozen if arm == OFFLINE else last
            found: dict[str, Any] = measure(
                greedy_episodes(env, config, method, team), team, frozen, config.learner.gamma
            )
            if arm != OFFLINE:
                [trace] = load_run(run).online
                found |= {name: [rounded(x) for x in trace.columns[name]] for name in SEEN}
            key = line["data"], arm, line["seed"]
            done.add(key)
            append_json_lines(RESULTS, [dict(zip(("data", "arm", "seed"), key, strict=True)) | found])
            print(*key, flush=True)


def figure() -> Figure:
    """The win rate, and Q_tot on the same logged steps, through the switch: means over the runs of the paper's arms."""
    arms = {arm: lines for arm, lines in tables.by_arm(tables.read("q_values")).items() if arm.startswith("paper:")}
    with matplotlib.rc_context(draw.THEME):
        made = Figure(figsize=(9, 3.8), layout="constrained")
        won, q = made.subplots(1, 2)
        for i, (arm, lines) in enumerate(arms.items()):
            least = min(len(line["env_steps"]) for line in lines)
            steps, rate, q_tot = (
                np.mean([line[name][:least] for line in lines], axis=0)
                for name in ("env_steps", "win_rate", "monitor_q_tot")
            )
            for ax, y in ((won, rate), (q, q_tot)):
                draw.draw_curve(ax, Curve(steps, y, None, None), label=arm.partition(": ")[2], **draw.style_of(i))
        for ax in (won, q):
            draw.progress_axis(ax, "environment steps since the switch", 5)
        draw.score_axis(won, "win_rate")
        won.set_ylabel("win rate")
        q.set_ylabel("Q_tot at the logged joint actions")
        won.legend(loc="lower right")
    return made


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]))
    for table in ("q_values, logged", "q_values, played"):
        tables.renew(table)
    _, png = draw.save(figure(), tables.DOCS / "figures" / "q-values-claims", write_bytes)
    png.unlink()
