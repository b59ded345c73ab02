"""One whole run in a process of its own, timed from the start of that process: ``python -m benchmarks.whole_run``.

Prints one line of JSON: the moments, the compile time, the predicted and the largest memory, what the replay holds.
"""

import json
import sys
import time

import psutil


def main(settings: dict) -> dict:
    """Run with these settings of `ovmse.Config`; all moments are seconds since the process began."""
    born = psutil.Process().create_time()
    from pathlib import Path

    import jax

    from benchmarks.programs import held
    from ovmse.config import Config
    from ovmse.system import clock
    from ovmse.training.display import Display
    from ovmse.training.setup import setup
    from ovmse.training.train import run_phases

    compiling = {"total": 0.0}

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            compiling["total"] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    imported = time.time() - born
    paths = {name: Path(settings[name]) for name in ("out",)}
    run, state = run_phases(setup(Config(**{**settings, **paths})), Display())
    jax.block_until_ready(state)
    return {
        "imported_s": imported,
        "first_online_step_s": time.time() - born,
        "compiling_s": compiling["total"],
        "phases_s": {kind: chunk.seconds for kind, chunk in run.clock.spent.items()},
        "predicted_bytes": run.task.needed_bytes,
        "peak_bytes": clock.peak_memory(),
        "held": held(run.task.spec, run.data, state),
        "device": jax.local_devices()[0].device_kind,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
