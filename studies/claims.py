"""Study 1's results so far: kept beside those of the other studies, in its tables, and in its figure.

    python studies/claims.py runs/claims

The first line copies ``results.csv`` of the sweep and every cell's evaluations into studies/results/; without a
directory the tables and the figure are made anew of what is there.
"""

import csv
import shutil
import sys
from pathlib import Path

import matplotlib
import numpy as np
import tables
from matplotlib.figure import Figure

from ovmse.render import draw
from ovmse.runs.metrics_file import load_run
from ovmse.stats.estimates import Curve
from ovmse.system.files import write_bytes

CURVES = tables.RESULTS / "claims_curves.csv"
PANELS = {"paper": "ε of a step from 1 to 0.05 over half of the budget", "matched": "ε of an agent from 0.1 to 0.02"}


def keep(sweep: Path) -> None:
    """Copy the sweep's table, and write the evaluations of every finished cell into one file."""
    shutil.copyfile(sweep / "results.csv", tables.RESULTS / "claims.csv")
    with CURVES.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    for line in tables.read("claims"):
        cell, run = [line["data"], line["arm"], str(line["seed"])], sweep / "cells" / Path(line["run"]).name
        if line["status"] == "finished" and run.exists():  # others finished elsewhere
            [trace] = load_run(run).online
            points = zip(trace.columns["env_steps"], trace.columns["win_rate"], strict=True)
            rows = [row for row in rows if row[:3] != cell]
            rows += [[*cell, str(int(steps)), str(round(float(won), 6))] for steps, won in points]
    with CURVES.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def curves() -> tuple[dict[str, Curve], int]:
    """Of each arm the mean win rate over the pairs of dataset and seed that have all arms, and how many those are.

    Evaluations are at about the same steps in all cells: the n-th ones are averaged, at their mean place.
    """
    runs: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    with CURVES.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            arms = runs.setdefault((row["data"], row["seed"]), {})
            arms.setdefault(row["arm"], []).append((float(row["env_steps"]), float(row["win_rate"])))
    names = list(dict.fromkeys(arm for arms in runs.values() for arm in arms))
    whole = [arms for arms in runs.values() if len(arms) == len(names)]
    found = {}
    for name in names:
        least = min(len(arms[name]) for arms in whole)
        points = np.array([arms[name][:least] for arms in whole])
        found[name] = Curve(*points.mean(axis=0).T, None, None)
    return found, len(whole)


def figure() -> Figure:
    """The mean win rate through the switch, the arms at the paper's exploration and those at the defaults'."""
    found, runs = curves()
    with matplotlib.rc_context(draw.THEME):
        made = Figure(figsize=(9, 4.2), layout="constrained")
        axes = made.subplots(1, 2, sharey=True)
        for ax, (panel, title) in zip(axes, PANELS.items(), strict=True):
            arms = [name for name in found if name.startswith(f"{panel}:")]
            for i, name in enumerate(arms):
                draw.draw_curve(ax, found[name], label=name.partition(": ")[2], **draw.style_of(i))
            draw.progress_axis(ax, "environment steps since the switch", 5)
            draw.score_axis(ax, "win_rate")
            ax.set_title(title)
            ax.legend(loc="lower right")
        axes[0].set_ylabel(f"win rate, mean of {runs} runs")
    return made


if __name__ == "__main__":
    if sys.argv[1:]:
        keep(Path(sys.argv[1]))
    for table in ("claims", "claims, by map"):
        tables.renew(table)
    _, png = draw.save(figure(), tables.DOCS / "figures" / "claims", write_bytes)
    png.unlink()
