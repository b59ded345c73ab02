"""The memory that a run was said to need and what it held, and what the replay and the dataset spend on real steps."""

import tempfile
from pathlib import Path

from benchmarks.child import whole_run, write_dataset
from benchmarks.jobs import Job, Process, Setting
from benchmarks.options import Options
from benchmarks.records import Ratio, Record
from benchmarks.timing import Spread, spread

MAPS, SEEDS = ("3m", "5m_vs_6m"), (1, 2, 4)
METHOD = "ovmse"
EPISODES = 1_000  # of the dataset
REPLAY_ENV_STEPS, QUICK_REPLAY = 50_000, 5_000
PAST_FULL = 1.2  # env steps played, over those that the replay holds: it is full at the end


def peak(setting: Setting, name: str, seeds: int) -> list[Record | Ratio]:
    """A short run that fills its replay, with an empty and with a warm cache: predicted and largest memory; bytes held
    over bytes of the steps in them."""
    steps = QUICK_REPLAY if setting.options.quick else REPLAY_ENV_STEPS
    with tempfile.TemporaryDirectory() as folder:
        data, _ = write_dataset(Path(folder) / "data", f"smax:{name}", EPISODES)
        settings = {
            "env": f"smax:{name}",
            "method": METHOD,
            "data": str(data),
            "seeds": seeds,
            "offline_updates": 5,
            "updates_per_collect": 1,
            "episodes_per_collect": 32,
            "replay_env_steps": steps,
            "online_env_steps": int(PAST_FULL * steps),
            "evaluate_every_env_steps": 10 * steps,
            "evaluate_episodes": 32,
        }
        cold, warm = (whole_run(settings, f"{folder}/cache") for _ in range(2))

    def record(what: str, unit: str, value: float, **notes: float | str) -> Record:
        once: Spread = spread([value])
        return Record("memory", what, f"smax:{name}", 32, seeds, setting.cores, unit, once, notes=notes)

    found: list[Record | Ratio] = []
    for kind, run in (("empty cache", cold), ("warm cache", warm)):
        parts = run["predicted_bytes"]
        predicted = sum(parts.values()) - (parts["compiling"] if run is warm else 0)
        told = {f"predicted_{part}": float(size) for part, size in parts.items()}
        found += [
            record(f"largest memory, {kind}", "B", run["peak_bytes"], predicted=predicted, **told),
            record(f"predicted ÷ largest, {kind}", "ratio", predicted / run["peak_bytes"], goal="within 10 %"),
        ]
    return found + [
        record(f"{what}: bytes ÷ bytes of its steps", "ratio", x["bytes"] / x["step_bytes"], goal="≤ 1.3")
        for what, x in warm["held"].items()
    ]


def jobs(options: Options, process: Process) -> list[Job]:
    """With all cores, or on an accelerator."""
    if not process.whole:
        return []
    counts = SEEDS[:1] if options.quick else SEEDS
    return [
        Job(f"memory, {name}, seeds {n}", lambda setting, name=name, n=n: peak(setting, name, n), weight=3)  # type: ignore[misc]
        for name in options.maps
        if name in MAPS
        for n in counts
    ]
