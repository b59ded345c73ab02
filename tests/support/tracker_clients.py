"""Stand-ins for the clients of trackers, with the arguments that the real ones take; they note what they are told."""

import sys
import types
from importlib.machinery import ModuleSpec
from types import SimpleNamespace


class Noted:
    """What the clients were told. runs: for each run of a tracker the rows that it was sent, (step, values)."""

    def __init__(self):
        self.runs, self.opened, self.ended = {}, [], []

    def log(self, run, step, values):
        self.runs.setdefault(run, []).append((step, dict(values)))


def install(monkeypatch) -> Noted:
    """Put stand-ins for all clients where they would be imported from."""
    noted = Noted()
    for module in (tensorboardx(noted), wandb(noted), *mlflow(noted), trackio(noted)):
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return noted


def module(name, **content):
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def tensorboardx(noted):
    class SummaryWriter:
        def __init__(self, logdir=None, comment="", purge_step=None, max_queue=10, flush_secs=120):
            self.logdir = logdir
            noted.opened.append(logdir)

        def add_text(self, tag, text_string, global_step=None, walltime=None):
            noted.config = text_string

        def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
            noted.log(self.logdir, global_step, {tag: scalar_value})

        def flush(self):
            pass

        def close(self):
            noted.ended.append(self.logdir)

    return module("tensorboardX", SummaryWriter=SummaryWriter)


def wandb(noted):
    class Run:
        def __init__(self, id):
            self.id = id

        def define_metric(self, name, step_metric=None, step_sync=None, hidden=None, summary=None, overwrite=None):
            assert name.removesuffix("/*") == step_metric.partition("/")[0]
            assert step_metric in ("offline/updates", "online/env_steps", "round/updates")

        def log(self, data, step=None, commit=None):
            noted.log(self.id, step, data)

        def finish(self, exit_code=None):
            noted.ended.append((self.id, exit_code))

    def init(
        project=None, id=None, name=None, config=None, group=None, mode=None, reinit=None, resume=None, settings=None
    ):
        noted.opened.append(
            {"project": project, "id": id, "name": name, "group": group, "mode": mode, "resume": resume}
        )
        noted.config = config
        assert (
            reinit == "create_new" and settings is noted.silent and vars(settings) == {"console": "off", "silent": True}
        )
        return Run(id)

    def setup(settings=None):
        noted.silent = settings

    return module("wandb", init=init, setup=setup, Settings=SimpleNamespace)


def mlflow(noted):
    def same(key, value, timestamp, step):
        return key, value, step

    class MlflowClient:
        def get_experiment_by_name(self, name):
            return None if name not in noted.opened else SimpleNamespace(experiment_id=name)

        def create_experiment(self, name, artifact_location=None, tags=None):
            noted.opened.append(name)
            return name

        def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
            noted.opened.append({"experiment": experiment_id, "name": run_name, "tags": tags})
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run-{len(noted.opened)}"))

        def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
            assert len(params) <= 100
            noted.config = dict(params) if params else noted.config
            for key, value, step in metrics:
                noted.log(run_id, step, {key: value})

        def update_run(self, run_id, status=None, name=None):
            noted.opened.append((run_id, status))

        def set_terminated(self, run_id, status=None, end_time=None):
            noted.ended.append((run_id, status))

    client = module("mlflow", MlflowClient=MlflowClient)
    return client, module("mlflow.entities", Metric=same, Param=lambda key, value: (key, value))


def trackio(noted):
    class Run:
        def __init__(self, name):
            self.name = name

        def log(self, metrics, step=None):
            noted.log(self.name, step, metrics)

        def finish(self):
            noted.ended.append(self.name)

    def init(
        project, name=None, group=None, config=None, resume="never", embed=True, auto_log_gpu=None, auto_log_cpu=None
    ):
        assert not (embed or auto_log_gpu or auto_log_cpu)
        noted.opened.append({"project": project, "name": name, "group": group, "resume": resume})
        noted.config = config
        return Run(name)

    return module("trackio", init=init)
