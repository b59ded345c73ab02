"""What a search found, in files: ``tuning.json``, ``tuning.md``, and the figure ``eop.svg`` and ``.png``."""

import dataclasses
from collections.abc import Sequence
from shlex import quote
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ovmse.config import Config, LearnerConfig
from ovmse.core.errors import number_of, typed_command
from ovmse.core.settings import changed_flags
from ovmse.render import draw, format as fmt
from ovmse.stats.estimates import Curve
from ovmse.stats.expected import expected_best
from ovmse.system import files
from ovmse.tuning import trials
from ovmse.tuning.settings import Tuning
from ovmse.tuning.trials import MethodResult, SearchSpec, Trial

REPORTED_SEEDS = 5
HEADER = ("method", "score", "defaults", "tuned", "trials", "failed", "updates", "env steps", "settings")


def write(tuning: Tuning, plans: Sequence[SearchSpec], found: Sequence[MethodResult]) -> None:
    """Write all files of a search's result into its directory."""
    assert tuning.out is not None
    curves = expected(found)
    record = {
        "first_seed": tuning.seed,
        "seeds": tuning.seeds,
        "trials": tuning.trials,
        "sampler": tuning.sampler,
        "methods": [
            {
                **dataclasses.asdict(one),
                "default": one.default.score,
                "best": one.best.number if one.best else None,
                "flags": flags_of(one.best) if one.best else [],
                "expected_best": None if curve is None else list(curve),
                "space": {path: str(space) for path, space in plan.space.items()},
            }
            for one, plan, curve in zip(found, plans, curves, strict=True)
        ],
    }
    files.write_json(tuning.out / "tuning.json", record)
    files.write_text(tuning.out / "tuning.md", markdown(tuning, plans, found))
    if any(curve is not None for curve in curves):
        draw.save(figure(found, curves), tuning.out / "eop", files.write_bytes)


def expected(found: Sequence[MethodResult]) -> list[np.ndarray | None]:
    """Expected best score of k tried settings, by method; None where all trials failed.

    A failed trial counts with a win rate of 0, or with the lowest return that any method's trial had.
    """
    scores = [[trial.score for trial in one.trials if trial.score is not None] for one in found]
    lowest = min((x for some in scores for x in some), default=0.0)
    curves: list[np.ndarray | None] = []
    for one, some in zip(found, scores, strict=True):
        worst = 0.0 if one.score_name == "win_rate" else lowest
        failed = [worst] * (len(one.trials) - len(some))
        curves.append(expected_best(np.array(some + failed, float)) if some else None)
    return curves


def flags_of(trial: Trial) -> list[str]:
    """A trial's settings as words of the command line."""
    words = []
    for path, value in trial.settings.items():
        if path.startswith("learner."):
            words += ["--" + path.removeprefix("learner.").replace("_", "-"), str(value)]
        else:
            words += ["--change", f"{path}={value}"]
    return words


def command(tuning: Tuning, one: MethodResult) -> str:
    """The command that trains a method with its best settings, on seeds that the search has not seen."""
    config, best = tuning.trial(one.method), one.best
    seed = 0 if tuning.seed >= REPORTED_SEEDS else tuning.seed + tuning.seeds
    words = ["train", *changed_flags(config, Config(), ("seed", "seeds", "learner", "change"))]
    words += changed_flags(
        config.learner, LearnerConfig(), [p.removeprefix("learner.") for p in (best.settings if best else ())]
    )
    words += [word for change in tuning.change for word in ("--change", change)]
    words += ["--seed", str(seed), "--seeds", str(REPORTED_SEEDS), *(flags_of(best) if best else [])]
    return typed_command(*words)


def cells(one: MethodResult) -> list[str]:
    """One row of text, in the order of `HEADER`."""
    best, name = one.best, one.score_name
    flags = " ".join(map(quote, flags_of(best))) if best else ""
    return [
        one.method,
        {"auc": "mean", "final": "final"}[one.measure],
        "failed" if one.default.score is None else fmt.score(one.default.score, name),
        fmt.score(best.score if best else None, name),
        str(len(one.trials)),
        str(sum(trial.score is None for trial in one.trials)),
        fmt.steps(sum(trial.updates for trial in one.trials)),
        fmt.steps(sum(trial.env_steps for trial in one.trials)),
        flags or ("the defaults" if best else "all trials failed"),
    ]


def markdown(tuning: Tuning, plans: Sequence[SearchSpec], found: Sequence[MethodResult]) -> str:
    """The page of a search: the table, the trials of each method, and what to do next."""
    scores = " and ".join(dict.fromkeys(fmt.SCORE_NAMES[one.score_name] for one in found))
    seeds = f"{tuning.seed} to {tuning.seed + tuning.seeds - 1}" if tuning.seeds > 1 else str(tuning.seed)
    text = [
        "# Tuning",
        f"{tuning.env}, {number_of(tuning.trials, 'trial')} per method ({tuning.sampler}), seeds {seeds}. Scores: "
        f"{scores}, mean over the online phase or final. The tuned score is the best of several noisy ones: it "
        "flatters. Report what the commands below give, on other seeds. Updates and environment "
        "steps: all that were spent.",
        fmt.markdown(HEADER, map(cells, found)),
        "![Expected best score by number of settings tried](eop.svg)",
    ]
    for one, plan in zip(found, plans, strict=True):
        searched = "; ".join(f"`{path}` {space}" for path, space in plan.space.items())
        rows = [
            [
                trials.place(plan, trial.number).name,
                fmt.score(trial.score, one.score_name),
                f"`{' '.join(map(quote, flags_of(trial)))}`" if trial.settings else "the defaults",
                fmt.steps(trial.updates) + (" (offline phase of trial-00)" if trial.shared else ""),
                fmt.steps(trial.env_steps),
                trial.reason,
            ]
            for trial in one.trials
        ]
        text += [f"## {one.method}", f"Searched: {searched}."]
        text += [fmt.markdown(("trial", "score", "settings", "updates", "env steps", "why it failed"), rows)]
        text += [f"```\n{command(tuning, one)}\n```"] if one.best else []
    return "\n\n".join(text) + "\n"


def figure(found: Sequence[MethodResult], curves: Sequence[np.ndarray | None]) -> Figure:
    """Expected best score over the number of settings tried, one line per method; a diamond marks the defaults."""
    with matplotlib.rc_context(draw.THEME):
        picture = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = picture.add_subplot()
        for i, (one, curve) in enumerate(zip(found, curves, strict=True)):
            if curve is None:
                continue
            style = draw.style_of(i)
            label = one.method + (" (final score)" if one.measure == "final" else "")
            draw.draw_curve(axes, Curve(np.arange(1, len(curve) + 1), curve, None, None), label=label, **style)
            if one.default.score is not None:
                diamond: dict[str, Any] = {"marker": "D", "markersize": 5, "markerfacecolor": "white", "zorder": 4}
                axes.plot([0], [one.default.score], color=style["color"], linestyle="", **diamond)
        most = max(len(curve) for curve in curves if curve is not None)
        score_name = next(one.score_name for one, curve in zip(found, curves, strict=True) if curve is not None)
        draw.progress_axis(axes, "settings tried", min(most, 10) + 2)
        axes.set_xlim(-0.04 * most, 1.02 * most)
        axes.set_ylabel(f"expected best {fmt.SCORE_NAMES.get(score_name, score_name)}")
        draw.score_axis(axes, score_name)
        axes.plot([], [], color=draw.MUTED, marker="D", linestyle="", markerfacecolor="white", label="defaults")
        handles, labels = axes.get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside upper left", ncols=min(4, len(handles)))
    return picture
