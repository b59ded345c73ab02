"""Synthetic run directories: what training would write, without training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

VERSIONS = {
    "ovmse": "0.1.0", "python": "3.12.3", "jax": "0.10.0", "device": "cpu", "git_revision": "0123abc",
    "command": "ovmse train --seeds 3",
}  # fmt: skip
SUMMARY = {
    "offline_updates_per_s": 812.4, "online_env_steps_per_s": 15_230.0, "compile_s": 21.5,
    "peak_memory_bytes": 1_932_735_283, "wall_s": 754.0,
}  # fmt: skip


def write_run(
    path: Path,
    *,
    seeds: int = 3,
    method: str = "ovmse",
    win_rate: bool = True,
    offline: bool = True,
    dataset: bool = True,
    memory: bool = True,
    budget: int = 50_000,
    evaluations: int = 21,
    final: float = 0.84,
    config: dict[str, Any] | None = None,
    drop_last: int = 0,
    cut_off: bool = False,
) -> Path:
    """Write a run directory; the last seed lacks `drop_last` rows; `cut_off` breaks the last line."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    rows, records = [], []
    for seed in range(seeds):
        mine = [] if not offline else [_offline_row(rng, seed, k, win_rate) for k in range(6)]
        before = mine[-1]["win_rate"] or mine[-1]["return"] / 20 if mine else 0.02
        online = [
            _online_row(rng, seed, k, evaluations, budget, before, final, win_rate, memory) for k in range(evaluations)
        ]
        if offline:
            online[0] |= {n: mine[-1][n] for n in ("win_rate", "return")}
            records.append(_record(seed, mine[-1]))
        mine += online
        rows += mine[: len(mine) - drop_last] if seed == seeds - 1 else mine
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(text[:-40] if cut_off else text)
    method_config = {"name": method, "online_target": {"remember": {"weight": "linear(1.0, 0.1)"}}}
    settings = {
        "method": method_config,
        "env": "smax:3m",
        "data": "data/3m-medium",
        "seeds": list(range(seeds)),
    }
    settings |= {
        "online_env_steps": budget,
        "offline_updates": 20_000,
        "learning_rate": 5e-4,
        "note": "a <b> & c",
    }
    _write(path / "config.json", settings | (config or {}))
    _write(path / "versions.json", VERSIONS)
    _write(path / "summary.json", SUMMARY)
    if offline:
        _write(path / "handover.json", {"episodes": 32, "seeds": records})
    if dataset:
        _write(path / "dataset.json", _profile())
    return path


def small_run(
    path: Path, scores: dict[int, list[float]], before: float | None = None, won: bool = True, **config: object
) -> Path:
    """A run of hand-chosen online win rates, evaluated every 100 environment steps; without wins if `won` is False."""
    path.mkdir(parents=True)
    rows = [] if before is None else [line("offline", seed, 0, 10, before) for seed in scores]
    rows += [line("online", seed, 100 * k, 10 + k, y) for seed, ys in scores.items() for k, y in enumerate(ys)]
    rows = rows if won else [row | {"win_rate": None} for row in rows]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "config.json").write_text(json.dumps({"method": "ovmse"} | config))
    return path


def line(phase: str, seed: int, env_steps: int, updates: int, win_rate: float) -> dict[str, object]:
    """One row of metrics.jsonl; the return is 20 times the win rate."""
    score = {"win_rate": win_rate, "return": 20 * win_rate}
    return {"phase": phase, "seed": seed, "env_steps": env_steps, "updates": updates} | score


def _offline_row(rng: np.random.Generator, seed: int, k: int, win_rate: bool) -> dict[str, Any]:
    level = 0.48 * (1 - np.exp(-0.9 * k)) + 0.03 * rng.normal()
    row = _row(seed, "offline", 0, 4000 * k, level, win_rate)
    return row | {"q_tot": None, "monitor_q_tot": 8 * (1 - np.exp(-0.8 * k)) + 0.2 * rng.normal(), "cql": 1.2}


def _online_row(
    rng: np.random.Generator,
    seed: int,
    k: int,
    n: int,
    budget: int,
    before: float,
    final: float,
    win: bool,
    memory: bool,
) -> dict[str, Any]:
    share = k / (n - 1)
    env_steps = int(share * budget + (rng.integers(0, 90) if k else 0))
    rise = before + (final - before) * (1 - np.exp(-4 * share)) / (1 - np.exp(-4))
    level = rise - 0.2 * np.exp(-(((share - 0.08) / 0.07) ** 2)) + 0.02 * rng.normal()
    row = _row(seed, "online", env_steps, 20_000 + env_steps // 10, level, win)
    q = 8 + 5 * share + 0.2 * rng.normal()
    row |= {"q_tot": q + 0.6, "monitor_q_tot": q, "epsilon": 0.3 - 0.25 * share}
    if memory:
        row |= {
            "lambda": 1 - 0.9 * share,
            "monitor_offline_value": 8.1 + 0.1 * seed,
            "memory_active_share": 0.45 * np.exp(-3 * share),
        }
    return row


def _row(seed: int, phase: str, env_steps: int, updates: int, level: float, win_rate: bool) -> dict[str, Any]:
    level = float(np.clip(level, 0, 1))
    played = {
        "phase": phase,
        "seed": seed,
        "env_steps": env_steps,
        "updates": updates,
        "episodes": env_steps // 25,
    }
    score = {"win_rate": round(level * 32) / 32 if win_rate else None, "return": 20 * level}
    logged = {
        "wall_s": env_steps / 100,
        "episode_length": 25.0,
        "loss": 0.3,
        "td_error": 0.1,
        "grad_norm": 1.0,
    }
    absent = (
        "cql",
        "q_tot",
        "target",
        "epsilon",
        "lambda",
        "monitor_q_tot",
        "monitor_offline_value",
        "memory_active_share",
    )
    return played | score | logged | dict.fromkeys(absent)


def _record(seed: int, last: dict[str, Any]) -> dict[str, Any]:
    scores = {f"{n}_{when}": last[n] for n in ("win_rate", "return") for when in ("before", "after")}
    return {"seed": seed, **scores, "agree": True, "max_abs_return_difference": 0.0}


def _profile() -> dict[str, Any]:
    spread = {
        "mean": 10.9, "std": 5.2, "min": 0.0, "max": 20.0, "quantiles": {"0.5": 11.0},
        "edges": [0, 5, 10, 15, 20], "counts": [300, 700, 600, 400], "won": [0, 100, 350, 370],
    }  # fmt: skip
    use = [0.4, 0.35, 0.25]
    return {
        "path": "data/3m-medium", "environment": "smax:3m", "version": "jaxmarl 0.2.0", "quality": "medium",
        "agents": 3, "episodes": 2000, "steps": 48_211, "win_rate": 0.41, "return": spread, "length": spread,
        "actions": {"share": use, "by_agent": [use] * 3, "legal": [1.0] * 3, "share_when_legal": use},
        "blocks": {"first": [0, 1000], "return_mean": [9.0, 12.8], "win_rate": [0.35, 0.47]},
        "bytes_on_disk": 31_457_280,
    }  # fmt: skip


def _write(path: Path, tree: dict[str, Any]) -> None:
    path.write_text(json.dumps(tree))
