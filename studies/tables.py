"""The tables of docs/ that are made of studies/results/: each page has those of all results so far after

    python studies/tables.py

A sweep's results are kept by copying its ``results.csv`` there first, such as to studies/results/claims.csv.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.render import format as fmt
from ovmse.stats import ranking
from ovmse.stats.estimates import estimate
from ovmse.sweep import results
from ovmse.sweep.paired import difference, in_words, pairs
from ovmse.system.files import read_json_lines

RESULTS = Path(__file__).parent / "results"
DOCS = RESULTS.parents[1] / "docs"
GAMES = ("two_step after 58 steps", "climbing", "two_step")
SETTINGS = {
    "copy every 200": "a copy every 200 updates (the default before)",
    "copy every 50": "a copy every 50 updates",
    "rate 0.01": "0.01 per update",
    "rate 0.02": "0.02 per update (the default)",
    "rate 0.05": "0.05 per update",
}
CONTROLLERS = {
    "random": "random",
    "fixed_time": "fixed times",
    "log": "max-pressure, 20 % at random (the log)",
    "max_pressure": "max-pressure",
    "max_pressure_again": "max-pressure, 96 other mornings",
    "longest_queue": "longest queue",
    "offline": "offline phase",
    "finetune": "then `finetune`",
    "ovmse": "then `ovmse`",
    "offline-ends": "the limit ends: offline phase",
    "finetune-ends": "the limit ends: then `finetune`",
    "ovmse-ends": "the limit ends: then `ovmse`",
    "offline-long": "longer: offline phase",
    "finetune-long": "longer: then `finetune`",
    "ovmse-long": "longer: then `ovmse`",
}
BUSY = {f"{name}-busy": text for name, text in CONTROLLERS.items() if "-" not in name} | {
    "finetune-guarded": "with the guard: then `finetune`",
    "ovmse-guarded": "with the guard: then `ovmse`",
}
JAM = 60  # seconds that a car waits on the mean of a morning
TASKS = ("3m", "two_step, 58 steps of waiting", "simple_spread", "2s3z")


def table(
    corner: str,
    columns: Sequence[str],
    rows: dict[str, str],
    cells: dict[tuple[str, str], dict[str, Any]],
    show: Callable[[dict[str, Any]], str],
) -> str:
    """A table in Markdown. rows: each one's name, and what it is called; cells: the lines by column and row."""
    lines: list[list[str]] = [[corner, *columns], ["---", *("---:" for _ in columns)]]
    for row, text in rows.items():
        there = (cells.get((column, row)) for column in columns)
        lines.append([text, *("not run" if line is None else show(line) for line in there)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def long_episodes(lines: Sequence[dict[str, Any]]) -> str:
    """Of every method and game the largest mean |Q_tot| of any evaluation, and each seed's last return."""

    def show(line: dict[str, Any]) -> str:
        returns = ", ".join(f"{x:.0f}" for x in line.get("final_return", ()))
        return line.get("error") or f"{line['largest_q_tot']:.1f} ({returns})"

    methods = {line["method"]: f"`{line['method']}`" for line in lines}
    return table("method", GAMES, methods, {(line["game"], line["method"]): line for line in lines}, show)


def target_refresh(lines: Sequence[dict[str, Any]]) -> str:
    """Of every setting and task the mean online return over all evaluations, and in brackets that of the last two."""

    def show(line: dict[str, Any]) -> str:
        return f"{np.mean(line['mean_return']):.2f} ({np.mean(line['final_return']):.2f})".replace("-", "−")

    return table("target network", TASKS, SETTINGS, {(line["task"], line["setting"]): line for line in lines}, show)


CLAIMS = (
    ("paper: ovmse", "paper: finetune, ε-greedy", "the claim"),
    ("paper: finetune, independent", "paper: finetune, ε-greedy", "the rate alone"),
    ("paper: se", "paper: finetune, independent", "the shared turn"),
    ("paper: ovmse", "paper: se", "the memory, where little is explored"),
    ("paper: ovm, ε-greedy", "paper: finetune, ε-greedy", "the memory, where much is explored"),
    ("matched: ovmse", "matched: finetune", "both halves, at the defaults' rate"),
)
"""The comparisons of docs/studies/claims.md: ours, theirs, and what the difference is."""


def claims(lines: Sequence[dict[str, Any]]) -> str:
    """The differences of study 1 in pairs of equal data and seed, pooled over the datasets."""
    shown = []
    for ours, theirs, what in CLAIMS:
        found = pairs(lines, ("data", "arm"), "arm", ours, theirs)
        words = [in_words(difference(found, name), found) for name in results.SHOWN]
        shown.append([what, f"{ours} − {theirs}", str(len(found)), *words])
    return fmt.markdown(("what", "difference", "pairs", "mean online", "first tenth", "last fifth"), shown) + "\n"


def claims_arms(lines: Sequence[dict[str, Any]]) -> str:
    """The mean win rate before, over the online phase and at its end, by map and arm, over teams and seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["data"].partition(",")[0], line["arm"]), []).append(line)

    def mean(some: Sequence[dict[str, Any]], name: str) -> str:
        values = [line[name] for line in some]
        return fmt.score(None if None in values else float(np.mean(values)), "win_rate")

    shown = [
        [*key, str(len(some)), *(mean(some, name) for name in ("before", "mean_online", "last_fifth"))]
        for key, some in sorted(groups.items())
    ]
    return fmt.markdown(("map", "arm", "runs", "before", "mean online", "last fifth"), shown) + "\n"


def better(lines: Sequence[dict[str, Any]]) -> str:
    """Of every arm the mean online and the last fifth, and its paired differences from `ovmse` and from `finetune`."""
    arms, axes, shown = by_arm(lines), [name for name in ("data", "arm") if name in lines[0]], []
    for arm in sorted(arms, key=lambda arm: -np.mean([line["mean_online"] for line in arms[arm]])):
        means = [np.mean([line[name] for line in arms[arm]]) for name in ("mean_online", "last_fifth")]
        found = [pairs(lines, axes, "arm", arm, other) if arm != other else [] for other in ("ovmse", "finetune")]
        words = [in_words(difference(some, "mean_online"), some) for some in found]
        shown.append([arm, str(len(arms[arm])), *(fmt.score(float(x), "win_rate") for x in means), *words])
    header = "arm", "runs", "mean online", "last fifth", "mean online − `ovmse`'s", "− `finetune`'s"
    return fmt.markdown(header, shown) + "\n"


def by_arm(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The lines of each arm."""
    return {arm: [line for line in lines if line["arm"] == arm] for arm in sorted({line["arm"] for line in lines})}


def q_logged(lines: Sequence[dict[str, Any]]) -> str:
    """Of every arm of study 2 what the monitor saw at the switch, after a tenth of the budget, and at its end."""

    def mean(some: Sequence[dict[str, Any]], name: str, at: int) -> float:
        return float(np.mean([line[name][at] for line in some]))

    shown = []
    for arm, some in by_arm([line for line in lines if "env_steps" in line]).items():
        q = [f"{mean(some, 'monitor_q_tot', at):.2f}" for at in (0, 2, -1)]
        shares = [
            fmt.score(mean(some, name, at), "win_rate")
            for name in ("monitor_agreement", "win_rate")
            for at in (0, 2, -1)
        ]
        shown.append([arm, str(len(some)), *(" → ".join(x) for x in (q, shares[:3], shares[3:]))])
    return fmt.markdown(("arm", "runs", "Q_tot, logged steps", "as the offline team", "win rate"), shown) + "\n"


def q_played(lines: Sequence[dict[str, Any]]) -> str:
    """Of every arm of study 2 its values and returns on greedy episodes, and where Q_off is above Q_tot."""
    shown = []
    for arm, some in by_arm(lines).items():
        found = []
        for name in ("q_tot", "return", "above", "q_tot_where_above", "q_off_where_above", "return_where_above"):
            there = [line[name] for line in some if line[name] is not None]
            found.append(
                "—" if not there else fmt.score(float(np.mean(there)), "win_rate" if name == "above" else "return")
            )
        shown.append([arm, str(len(some)), *found])
    header = "arm", "runs", "Q_tot", "return", "Q_off above Q_tot", "Q_tot there", "Q_off there", "return there"
    return fmt.markdown(header, shown) + "\n"


def coverage(lines: Sequence[dict[str, Any]]) -> str:
    """Means over the teams of each number of agents, by ε and kind of exploration."""
    shown = []
    for agents, epsilon in sorted({(line["agents"], line["epsilon"]) for line in lines}):
        for way in ("sequential", "independent", "ε-greedy"):
            some = [x for x in lines if (x["agents"], x["epsilon"], x["way"]) == (agents, epsilon, way)]
            deviating = np.mean([line["deviating"] for line in some], axis=0)
            counts = [f"{np.mean([line[name] for line in some]):,.0f}" for name in ("joint_actions", "pairs")]
            won = fmt.score(float(np.mean([line["win_rate"] for line in some])), "win_rate")
            about = [str(agents), str(len(some)), str(epsilon), way]
            shown.append([*about, *counts, " / ".join(f"{100 * x:.0f}" for x in deviating) + " %", won])
    header = "agents", "teams", "ε", "exploration", "joint actions", "pairs", "none / one / several deviate", "won"
    return fmt.markdown(header, shown) + "\n"


def traffic(lines: Sequence[dict[str, Any]], called: dict[str, str] = CONTROLLERS, corner: str = "controller") -> str:
    """Of every controller the mean wait of a car over all mornings and teams, its spread, and its worst morning."""
    shown = []
    for name, text in called.items():
        if some := [line["seconds_waited_per_car"] for line in lines if line["controller"] == name]:
            waits, of_teams = np.concatenate(some), ", ".join(f"{np.mean(one):.1f}" for one in some)
            told = [f"{x:.1f}" for x in (waits.mean(), waits.std(), np.median(waits), waits.max())]
            shown.append([text, of_teams, *told, f"{(waits > JAM).sum()} of {waits.size}"])
    spread = "mean", "standard deviation", "median", "worst morning"
    return fmt.markdown((corner, "each team", *spread, f"above {JAM} s"), shown) + "\n"


def traffic_online(lines: Sequence[dict[str, Any]]) -> str:
    """Of every way to go online the hours waited on its mornings, by quarters of the phase, and the worst of them."""
    shown = []
    looks = {
        "": "",
        "ends": ", the limit ends",
        "long": ", longer",
        "busy": ", 1.2 × the cars",
        "guarded": ", 1.2 × the cars, with the guard",
    }
    for name in (f"{method}{'-' * bool(look)}{look}" for look in looks for method in ("finetune", "ovmse")):
        if some := [line["online"] for line in lines if line["controller"] == name]:
            hours = np.array(some)
            told = [f"{part.mean():.1f}" for part in np.array_split(hours, 4, axis=1)]
            method, _, look = name.partition("-")
            shown.append([f"`{method}`{looks[look]}", *told, f"{hours.max():.1f}"])
    quarters = "first quarter", "second", "third", "fourth"
    return fmt.markdown(("hours that all cars waited on a morning", *quarters, "worst morning"), shown) + "\n"


FQE = {"all": 0.0, "trained": 1.0}
"""The teams of a table of fitted Q evaluation: those of at least so many updates."""


def fqe_error(lines: Sequence[dict[str, Any]]) -> str:
    """Of every plant and length of fits how the estimates of its teams lie about the truth, and what they choose."""
    shown = []
    for plant, fits in sorted({(line["plant"], line["fits"]) for line in lines}):
        for which, least in FQE.items():
            some = [x for x in lines if (x["plant"], x["fits"]) == (plant, fits) and x["updates"] >= least]
            fqe, low, high, true, rank = (
                np.array([x[name] for x in some]) for name in ("fqe", "fqe_low", "fqe_high", "true", "rank")
            )
            error = fqe - true
            numbers = [f"{x:.2f}" for x in (error.mean(), np.abs(error).mean(), ranking.spearman(fqe, true) or 0.0)]
            held = fmt.score(float(np.mean((low <= true) & (true <= high))), "win_rate")
            span = f"{true.min():.1f} to {true.max():.1f}"
            regret = f"{true.max() - true[rank.argmin()]:.2f}"
            shown.append([plant, f"{fits:,.0f}", which, str(len(some)), span, *numbers, held, regret])
    header = "plant", "fits", "teams", "n", "true", "bias", "mean error", "Spearman", "interval holds it", "regret"
    return re.sub(r"(?<= )-(?=\d)", "−", fmt.markdown(header, shown)) + "\n"


def logs_only(lines: Sequence[dict[str, Any]]) -> str:
    """By arm and round what deployed teams earn in a shift, and of how many the new team was worse or better."""

    def earned(values: Sequence[float]) -> str:
        return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    shown = []
    for arm in sorted({line["arm"] for line in lines}):
        here = [line for line in lines if line["arm"] == arm]
        first = [line["return_before"] for line in here if line["round"] == 1]
        shown.append([arm, "0", str(len(first)), earned(first), *[""] * 6])
        for number in sorted({line["round"] for line in here}):
            some = [line for line in here if line["round"] == number]
            counts = (
                [line["accepted"] for line in some],
                [line["true"] > 0 for line in some],
                [line["accepted"] and line["true"] < -line["allowed"] for line in some],
            )
            trials = [line for line in some if line.get("trial")]
            passed = [line for line in trials if line["trial"]["accepted"]]
            lost = sum(line["true"] < -line["allowed"] for line in passed)
            by_trial = [str(len(passed)), str(lost)] if trials else ["", ""]
            followed = fmt.score(float(np.mean([line["coverage"] for line in some])), "win_rate")
            values = earned([line["return_deployed"] for line in some])
            shown.append(
                [arm, str(number), str(len(some)), values, *(str(sum(x)) for x in counts), *by_trial, followed]
            )
    header = (
        "arm",
        "round",
        "seeds",
        "earned in a shift",
        "accepted",
        "truly better",
        "lost more than the margin",
        "accepted by trial",
        "and lost",
        "followed",
    )
    return fmt.markdown(header, shown) + "\n"


def worlds(lines: Sequence[dict[str, Any]]) -> str:
    """Of every world, way to learn and method the score with its interval, and what the time went into."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["world"], line["arm"], line["method"]), []).append(line)
    shown = []
    for (world, arm, method), some in groups.items():
        score, took = some[0]["score"], some[0]["seconds"]
        numbers = [
            fmt.with_interval(estimate([line[name] for line in some]), score)
            for name in ("before", "mean_online", "last_fifth")
        ]
        parts = [took[name] for name in ("environment", "acting", "learning")]
        shares = " / ".join(f"{100 * x / sum(parts):.0f}" for x in parts) + f" % of {sum(parts):.0f} s"
        levels = [fmt.score(some[0][name], score) for name in ("random", "log")]
        shown.append([f"{world}, {arm}" if arm else world, f"`{method}`", str(len(some)), *levels, *numbers, shares])
    scores = "random", "the log", "before", "mean online", "last fifth"
    return fmt.markdown(("world", "method", "seeds", *scores, "environment / acting / learning"), shown) + "\n"


def read(name: str) -> list[Any]:
    """The cells of a study: lines of JSON, or those of a sweep's CSV file that have scores."""
    if (lines := RESULTS / f"{name}.jsonl").is_file():
        return read_json_lines(lines)
    return [line for line in results.read(RESULTS / f"{name}.csv") if line["mean_online"] is not None]


TABLES = {
    "long_episodes": ("long_episodes", "results.md", long_episodes),
    "target_refresh": ("target_refresh", "results.md", target_refresh),
    "claims": ("claims", "studies/claims.md", claims),
    "claims, by map": ("claims", "studies/claims.md", claims_arms),
    "q_values, logged": ("q_values", "studies/q-values.md", q_logged),
    "better": ("better", "studies/better.md", better),
    "fqe_error": ("fqe_error", "selection.md", fqe_error),
    "coverage": ("coverage", "studies/coverage.md", coverage),
    "traffic": ("traffic", "studies/traffic.md", traffic),
    "traffic, busy": (
        "traffic",
        "studies/traffic.md",
        partial(traffic, called=BUSY, corner="controller, 1.2 × the cars"),
    ),
    "traffic, online": ("traffic", "studies/traffic.md", traffic_online),
    "logs_only": ("logs_only", "logs-only.md", logs_only),
    "worlds": ("worlds", "studies/worlds.md", worlds),
    "q_values, played": ("q_values", "studies/q-values.md", q_played),
}
"""Each table: the file of its results, the page in docs/ that has it, and how it is made."""


def made(name: str) -> str:
    """One table, of all results so far."""
    file, _, make = TABLES[name]
    return make(read(file))


def renew(name: str) -> None:
    """Write a table in place of the one with the same heading on its page. Raises `SystemExit` where there is none."""
    new, path = made(name), DOCS / TABLES[name][1]
    heading = re.escape(new.partition("\n")[0])
    text, count = re.subn(rf"^{heading}\n(\|.*\n)+", lambda _: new, path.read_text("utf-8"), flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"{path}: expected one table of {name} to renew; found {count}.")
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    for name in TABLES:
        renew(name)
