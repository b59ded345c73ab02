"""The wait before the first online step, from the start of the process, with an empty and with a warm cache."""

import tempfile
from pathlib import Path

from benchmarks.child import whole_run, write_dataset
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record
from benchmarks.timing import spread

MAPS = ("3m", "5m_vs_6m", "27m_vs_30m")
METHOD = "ovmse"
EPISODES = 16  # of the dataset: reading it takes no time
GOALS = {"empty cache": "≤ 45 s (5m_vs_6m)", "warm cache": "≤ 12 s (5m_vs_6m)"}
WARM_RUNS = 5  # an empty cache is met once: compiling is long and hardly varies


def first_step(setting: Setting, name: str) -> list[Record | Ratio]:
    """A run with the least budgets: one offline update, the handover, one round of collecting and of updates, the
    evaluations between. The figure is the end of all that, so it is a little above the first online step."""
    with tempfile.TemporaryDirectory() as folder:
        data, _ = write_dataset(Path(folder) / "data", f"smax:{name}", EPISODES)
        settings = {
            "env": f"smax:{name}",
            "method": METHOD,
            "data": str(data),
            "offline_updates": 1,
            "online_env_steps": 1,
            "replay_env_steps": 2_000,
            "evaluate_episodes": 32,
        }
        warm_runs = min(WARM_RUNS, setting.options.repeats)
        runs = [whole_run(settings, f"{folder}/cache") for _ in range(1 + warm_runs)]
    return [
        Record(
            part="compiling",
            name=f"first online step, {kind}",
            env=f"smax:{name}",
            batch=32,
            seeds=1,
            cores=setting.cores,
            unit="s",
            value=spread([run["first_online_step_s"] for run in of_kind]),
            notes={
                "importing_s": of_kind[0]["imported_s"],
                "compiling_s": of_kind[0]["compiling_s"],
                "goal": GOALS[kind],
            },
        )
        for kind, of_kind in {"empty cache": runs[:1], "warm cache": runs[1:]}.items()
    ]


def growth(records: list[Record]) -> list[Ratio]:
    """Seconds of compiling with an empty cache on the largest map over those on the smallest."""
    cold = {r.env: float(r.notes["compiling_s"]) for r in records if r.part == "compiling" and "empty" in r.name}
    small, large = (f"smax:{name}" for name in (MAPS[0], MAPS[-1]))
    if small not in cold or large not in cold:
        return []
    cores = next(r.cores for r in records if r.part == "compiling")
    what = f"compile time, {MAPS[-1]} ÷ {MAPS[0]}"
    return [Ratio("compiling", what, "", cores, spread([cold[large] / cold[small]]), "≤ 2")]


def jobs(options: Options, process: Process) -> list[Job]:
    """With all cores, or on an accelerator."""
    if not process.whole:
        return []
    return [
        Job(f"first online step, {name}", lambda setting, name=name: first_step(setting, name), weight=6)  # type: ignore[misc]
        for name in options.maps
        if name in MAPS
    ]
