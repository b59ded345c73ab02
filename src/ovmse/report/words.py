"""A run's result in plain sentences, and what to do next."""

import numpy as np

from ovmse.analysis.results import RunSummary
from ovmse.render import format as fmt
from ovmse.runs.metrics_file import RunRecord, counted_series, rolled_back, setting
from ovmse.stats.estimates import median_recovery

LOG_READING = (
    "Fitted Q evaluation estimates, from held-out episodes alone, what the team would earn (discounted), beside what "
    "these episodes earned. Where the team leaves the log, as low coverage tells, the estimate is extrapolated."
)
ROUNDS_CAPTION = (
    "All rounds, each judged on held-out episodes of the logs that its deployed team brought back. Values are "
    "discounted returns by fitted Q evaluation; the difference is new less deployed, its interval a bootstrap over "
    "episodes that fits anew. A new team is accepted where the lower end loses less than it may. Q_off: whose values "
    "were remembered."
)
AFTER_A_ROUND = (
    "Let the team that the round names act where it works: `ovmse export ROUND --to DIR` takes that one.",
    "When it has brought back logs, the next round: `ovmse improve ROUND --data NEW` (docs/improve.md).",
)
LOG_COLUMNS = (
    "the method's losses; agreement, the share of the agents' choices that the team would have made too, and coverage, "
    "that of the joint choices; FQE, with an interval over episodes that knows nothing of the fit's bias; behaviour, "
    "the mean discounted return of the episodes themselves."
)


def reading(run: RunRecord, result: RunSummary) -> str:
    """One paragraph that a newcomer can read: where it started, how deep it fell, where it ended."""
    name, final = fmt.SCORE_NAMES[result.score].capitalize(), result.final
    brackets = fmt.interval(final, result.score)
    several = f"IQM over {fmt.seeds(final.n)}" + (f", 95 % interval {brackets}" if brackets else "")
    lost = f"; {result.diverged} of {fmt.seeds(final.n)} diverged" if result.diverged else ""
    spread = f"({several if final.n > 1 else 'one seed: no interval'}{lost})"
    end = f"{fmt.score(final.value, result.score)} at the end {spread}"
    if result.phase == "offline":
        text = f"{name} {end}, after {_budget(result)} offline gradient updates. "
        return text + (_by_log(run) if result.score == "fqe" else "There was no online phase.")
    if result.phase == "round":
        return f"{name} {end}, after {_budget(result)} updates on logs that were brought back. {_verdict(run)}"
    after = f"after {_budget(result)} online environment steps"
    if result.before is None:
        start = float(np.mean([y[0] for _, _, y in counted_series(run, "online", result.score)]))
        at_start = f"{name} {fmt.score(start, result.score)} at the start"
        return f"{at_start}, {end}, {after}. No offline phase came before."
    before, dip = fmt.score(result.before.value, result.score), result.dip
    fell = f"deepest dip {fmt.difference(dip.value if dip else None, result.score)}"
    text = f"{name} {before} before the handover, {fell}, {end}, {after}. "
    return text + " ".join(filter(None, (_recovery(result), guarded(run), _handover(result))))


def _verdict(run: RunRecord) -> str:
    """Which team a batch round says to deploy, and why."""
    if run.rounds is None:
        return "The round has not come to its verdict."
    last = run.rounds.rounds[-1]
    team = "The new team is to be deployed" if last.accepted else "The deployed team stays"
    return f"{team}: {last.reason}."


def _by_log(run: RunRecord) -> str:
    """What the score of a run is in which nothing was played."""
    found = counted_series(run, "offline", "behaviour_return")
    earned = f"; these earned {fmt.number(float(np.mean([y[-1] for _, _, y in found])))} themselves" if found else ""
    return f"Nothing was played: the value is an estimate on held-out episodes of the log (discounted){earned}."


def _budget(result: RunSummary) -> str:
    return fmt.steps(float(np.median([s.last for s in result.seeds if s.counts])))


def _recovery(result: RunSummary) -> str:
    mine = [s for s in result.seeds if s.counts and s.dip is not None]
    fell = [s for s in mine if s.dip]
    back = [s for s in fell if s.recovered is not None]
    if not fell:
        return "No seed ever fell below its score before the handover."
    share = f"All {len(fell)}" if len(back) == len(fell) else f"{len(back)} of {len(fell)}"
    whole = f"{share} seeds that fell came back to their score before the handover"
    if len(fell) == 1:
        who = "It" if len(mine) == 1 else "The one seed that fell"
        whole = (
            f"{who} came back to its score before the handover" if back else f"{who} did not come back to that score"
        )
    if not back:
        return f"{whole}."
    when = fmt.steps(median_recovery([s.recovered or 0 for s in back]))
    return f"{whole}, after {when} environment steps{' (median)' if len(back) > 1 else ''}."


def guarded(run: RunRecord) -> str:
    """Which seeds the guard returned to their offline policy, and which ended below it; empty without a guard."""
    if setting(run.config, "guard_margin") is None:
        return ""
    told = []
    for trace in run.online:
        steps = trace.columns["env_steps"][rolled_back(trace)]
        if steps.size:
            told.append(f"seed {trace.seed} after {', '.join(fmt.steps(float(x)) for x in steps)} environment steps")
    text = f"The guard returned {'; '.join(told)} to the offline policy." if told else "The guard returned no seed."
    if below := [str(seed["seed"]) for seed in run.summary.get("guard", ()) if seed["below"]]:
        text += f" Below it by more than the guard's margin at the end: seed {', '.join(below)}."
    return text


def _handover(result: RunSummary) -> str:
    checks = [s.agree for s in result.seeds if s.agree is not None]
    if not checks:
        return ""
    if all(checks):
        return "The handover itself changed nothing: greedy play before and after agreed."
    return f"The handover check FAILED for {checks.count(False)} of {len(checks)} seeds: greedy play changed."


def next_steps(run: RunRecord, result: RunSummary) -> list[str]:
    """At most three things worth doing next, the most pressing first."""
    final, found = result.final, []
    if diverged := ", ".join(str(s.seed) for s in result.seeds if s.diverged):
        found.append(f"Seed {diverged} diverged: try a lower learning rate, or a weaker penalty.")
    if any(s.agree is False for s in result.seeds):
        found.append(
            "Find out why greedy play changed at the handover before reading anything else: "
            "the networks or the environment are not the same on both sides."
        )
    if result.phase == "round":
        return [*found, *AFTER_A_ROUND]
    if result.score == "fqe":
        return [*found, *_after_a_log(run, result)][:3]
    budget = setting(run.config, "online_env_steps")
    slowest = min(result.seeds, key=lambda s: s.last)
    reached = slowest.last if result.phase == "online" else 0.0
    if isinstance(budget, int | float) and reached < 0.9 * budget:
        done = f"seed {slowest.seed} did {fmt.steps(reached)} of {fmt.steps(budget)} online environment steps"
        found.append(f"Resume the run: {done}.")
    if result.before is not None and final.value < result.before.value:
        found.append(
            "Online training lost ground. Deploy the offline policy for now; try a lower exploration rate, "
            "a larger share of offline data, or a memory that decays more slowly."
        )
        if run.summary.get("guard"):
            found[-1] += " `ovmse evaluate --teams safe` plays, of each seed, the one that the guard would deploy."
    elif result.dip is not None and result.dip.value > 0.1 * max(abs(final.value), 1e-9):
        found.append("To make the dip shallower, lower the exploration rate or let the memory weight fall more slowly.")
    if _still_rising(run, result):
        found.append(
            "The score was still rising at the end: a longer online phase may pay off "
            "(`ovmse train --resume RUN --online-env-steps N`)."
        )
    if final.n < 5:
        found.append(f"Run more seeds before comparing: {final.n} of the usual 5 or more.")
    found.append("Play fresh episodes with `ovmse evaluate`, or put runs side by side with `ovmse compare`.")
    return found[:3]


def _after_a_log(run: RunRecord, result: RunSummary) -> list[str]:
    """What is worth doing with a team that was only ever judged by a log."""
    found = []
    covered = counted_series(run, result.phase, "coverage")
    if covered and float(np.mean([y[-1] for _, _, y in covered])) < 0.05:
        found.append("The log hardly follows the team: its value is extrapolated. Try a more pessimistic method.")
    found.append("Rank this run's teams with those of other methods by the log: `ovmse select RUN ... --data DATASET`.")
    found.append(
        "Let the team act where it works, within bounds, and log what happens: `ovmse export` (docs/deploy.md)."
    )
    return found


def _still_rising(run: RunRecord, result: RunSummary) -> bool:
    """Whether the last fifth of the online phase gained more than a tenth of the whole phase's range."""
    found = counted_series(run, "online", result.score)
    gains = [y[-1] - np.interp(0.8 * x[-1], x, y) for _, x, y in found]
    return bool(found) and float(np.mean(gains)) > 0.1 * float(np.mean([np.ptp(y) for _, _, y in found])) > 0


def q_value_reading(run: RunRecord) -> str:
    """How far Q_tot drifted from the frozen offline value on the fixed dataset steps."""

    def at(end: int, name: str) -> float | None:
        """The mean over seeds of a field at the first (0) or last (-1) evaluation that has it."""
        found = counted_series(run, "online", name)
        return float(np.mean([y[end] for _, _, y in found])) if found else None

    parts = []
    first, last = at(0, "monitor_q_tot"), at(-1, "monitor_q_tot")
    if first is not None and last is not None:
        moved = f"Mean Q_tot on the fixed dataset steps went from {fmt.number(first)} to {fmt.number(last)} online"
        frozen = at(-1, "monitor_offline_value")
        parts.append(moved + ("." if frozen is None else f"; the frozen offline value there is {fmt.number(frozen)}."))
    if (same := at(-1, "monitor_agreement")) is not None:
        lowest = min(float(y.min()) for _, _, y in counted_series(run, "online", "monitor_agreement"))
        parts.append(
            f"There {100 * same:.0f} % of the agents' greedy actions are still the offline team's at the end (at the "
            f"lowest, in any seed, {100 * lowest:.0f} %)."
        )
    if (share := at(-1, "memory_active_share")) is not None:
        parts.append(f"At the end the memory decides {100 * share:.0f} % of the targets.")
    return " ".join(parts) or "Mean Q_tot over training."
