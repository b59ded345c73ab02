"""Which half of OVMSE does what? `offline`, `finetune`, `ovm`, `se` and `ovmse` from one and the same offline phase.

    python studies/methods.py --env smax:3m --data smax-3m-medium --out runs/methods-3m

The offline phase is run once; every online method takes over its teams, so that they differ in nothing but the online
phase. The table goes to ``--results`` as Markdown, CSV and a figure.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

import ovmse
from ovmse.report.compare import compare
from ovmse.training.display import Display

ONLINE = ("finetune", "ovm", "se", "ovmse")


@dataclass(frozen=True)
class Study:
    """One map and dataset."""

    env: str = "smax:3m"
    """the environment"""
    data: str = "smax-3m-medium"
    """the dataset"""
    seeds: int = 5
    """seeds of every method"""
    offline_updates: int = 3_000
    """gradient updates of the offline phase"""
    online_env_steps: int = 50_000
    """environment steps of the online phase, per seed"""
    batch_episodes: int = 32
    """episodes in a training batch"""
    out: Path = Path("runs/methods")
    """where the runs go"""
    results: Path | None = None
    """where the table and the figure go; by default OUT/comparison"""


def main(study: Study) -> None:
    """Run what is not there yet, then compare."""
    console = Console()
    base = ovmse.Config(
        env=study.env,
        data=study.data,
        method="offline",
        seeds=study.seeds,
        offline_updates=study.offline_updates,
        online_env_steps=study.online_env_steps,
        batch_episodes=study.batch_episodes,
        evaluate_every_env_steps=2_500,
        evaluate_episodes=256,
        out=study.out / "offline",
    )
    configs = [base, *(replace(base, method=m, pretrained=base.out, out=study.out / m) for m in ONLINE)]
    for config in configs:
        assert config.out is not None
        if not (config.out / "summary.json").exists():
            ovmse.train(config, Display(console), resume=(config.out / "interrupted.json").exists())
    compare([study.out / method for method in ONLINE], study.results or study.out / "comparison", console)


if __name__ == "__main__":
    main(tyro.cli(Study, description=__doc__))
