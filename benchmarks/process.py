"""One process of the benchmark, on the cores that it is told: ``python -m benchmarks.process OPTIONS CORES``.

It measures the ceilings, then job after job, says how far it is, and writes what it found to the options' ``out``.
"""

import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.options import Options, from_json


def pin(cores: int) -> int:
    """Keep this process to so many cores; how many there were. It must come before JAX starts."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    there = sorted(os.sched_getaffinity(0))
    if cores:
        os.sched_setaffinity(0, there[:cores])
    return len(there)


def main(options: Options, cores: int) -> int:
    """Measure everything that belongs to a process with so many cores; how many jobs failed."""
    there = pin(cores)
    from benchmarks import busy, ceilings, records
    from benchmarks.floors import sizes
    from benchmarks.jobs import Process, Setting
    from benchmarks.sizes import FULL_STEPS, map_spec
    from ovmse.config import LearnerConfig
    from ovmse.system import jax_setup

    jax_setup.use()
    process = Process(cores, single=cores <= 1, whole=cores in (0, there))
    described = records.machine(cores)
    say(f"{described['device']} ({described['processor']}), {name_of(cores)}")
    say(", ".join(f"{name} {version}" for name, version in described["versions"].items()))
    began = busy.read()
    found: list[records.Record | records.Ratio] = []
    ends = dict.fromkeys((options.maps[0], options.maps[-1]))  # the least and the most agents
    shapes = [sizes(map_spec(name, FULL_STEPS), LearnerConfig()) for name in ends]
    how = options.repeats, options.seconds / 2, cores
    ceiling_records = ceilings.of_machine(*how)
    for shape in shapes:
        ceiling_records += ceilings.all_shapes(shape, min(options.batches), FULL_STEPS, *how)
    found += ceiling_records
    ceiling = ceilings.ceiling(ceiling_records)
    say(f"ceiling: {ceiling.flops / 1e9:.0f} GFLOP/s, {ceiling.bytes / 1e9:.1f} GB/s")
    setting, failed = Setting(options, ceiling, cores), []
    jobs = all_jobs(options, process)
    total, done, jobs_began = sum(job.weight for job in jobs), 0.0, time.monotonic()
    for i, job in enumerate(jobs):
        try:
            new = job.run(setting)
        except Exception:  # told here and at the end; the other jobs are not lost
            failed.append({"job": job.name, "error": traceback.format_exc(limit=-3)})
            say(f"[{i + 1}/{len(jobs)}] {job.name} FAILED:\n{failed[-1]['error']}")
            continue
        finally:
            done += job.weight
        found += new
        left = (time.monotonic() - jobs_began) * (total / done - 1)
        say(f"[{i + 1}/{len(jobs)}] {job.name}: {in_short(new)}; {left / 60:.0f} min {left % 60:02.0f} s left")
    ended = busy.read()
    others = busy.since(began, ended)
    say(busy.in_words(others))
    result: dict[str, Any] = {
        "machine": described | others,
        "ceiling": ceiling._asdict(),
        "seconds": round(ended.wall - began.wall, 1),
        "failed": failed,
        "found": [records.as_json(x) for x in found],
    }
    options.out.write_text(json.dumps(result))
    return len(failed)


def all_jobs(options: Options, process: Any) -> list[Any]:
    """The jobs of the wanted parts."""
    from benchmarks import compiling, memory, online, peer, rollout, scaling, update, workers

    parts = {
        "update": update.jobs,
        "rollout": rollout.jobs,
        "online": online.jobs,
        "scaling": scaling.jobs,
        "compiling": compiling.jobs,
        "memory": memory.jobs,
        "workers": workers.jobs,
        "peer": peer.jobs,
    }
    return [job for name, jobs in parts.items() if name in options.only for job in jobs(options, process)]


def in_short(found: list[Any]) -> str:
    """The first figures of a job, for the progress line."""
    from benchmarks.tables import figure

    return ", ".join(f"{x.name.split(',')[0]} {figure(x)}" for x in found[:4])


def name_of(cores: int) -> str:
    """What a process has, in words."""
    return "accelerator" if cores == 0 else f"{cores} core{'s' * (cores > 1)}"


def say(text: str) -> None:
    """A line of progress, at once even in a pipe."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(from_json(json.loads(sys.argv[1])), int(sys.argv[2])) > 0)
