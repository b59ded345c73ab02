"""From a run's directory, or an export's, to a team that acts: no JAX is imported, and no code of the run's own."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ovmse.core.errors import UserError, typed_command
from ovmse.core.kinds import network_names
from ovmse.core.literals import ROUNDS, MixerName, Parameters, TeamChoice
from ovmse.policy.contract import (
    FROZEN,
    AboutNetwork,
    Contract,
    Names,
    Size,
    Sizes,
    check_names,
    check_own,
    check_weights,
    read_contract,
    shapes,
)
from ovmse.policy.values import ActingTeam
from ovmse.system.files import as_type, check_tree, read_json

FILES = {"last": "teams.safetensors", "offline": "offline.safetensors", "before": "before.safetensors"}
"""Where the teams are that a run ended with, those that left its offline phase, and of a batch round the team that was
deployed before."""
LEARNS: dict[str, Literal["utilities", "policy"]] = {"ImplicitQ": "utilities", "Imitate": "policy"}
"""The losses that learn no Q_tot, by name, as `ovmse.methods.signatures.LearnsInstead` has it."""
OWN = "ovmse.methods.exploration.own_utilities"


@dataclass(frozen=True)
class _Env:
    name: str
    version: str
    settings: dict[str, Any]
    n_agents: Size
    n_actions: Size
    obs_size: Size
    state_size: Size
    episode_limit: Size
    agents: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Learner:
    hidden: Size
    embedding: Size
    hyper: Size
    mixer: MixerName | None = None
    parameters: Parameters = "shared"
    kinds: str | None = None


@dataclass(frozen=True)
class _Parts:
    mixer: MixerName
    policy: bool = False
    critics: Size = 1
    normalise: bool = False


@dataclass(frozen=True)
class _Method:
    parts: _Parts
    acting_utilities: Any
    online_parts: _Parts | None = None
    offline_loss: Any = None
    online_loss: Any = None
    online_target: Any = None


@dataclass(frozen=True)
class _Run:
    """What is read of a run's `config.json`."""

    env_spec: _Env
    learner: _Learner
    method: str
    method_value: _Method
    seed: int
    seeds: int
    data: str | None = None
    change: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Profile:
    """What is read of a run's `dataset.json`."""

    checksum: str = ""
    names: Names = Names()
    own_actions: list[list[int]] | None = None


@dataclass(frozen=True)
class _Verdict:
    seed: int
    below: bool


@dataclass(frozen=True)
class _Summary:
    """What is read of a run's `summary.json`."""

    guard: list[_Verdict] | None = None


@dataclass(frozen=True)
class _Round:
    """What of a run's `config.json` tells whether it is a batch round, or what a selection kept: an offline phase."""

    round: dict[str, Any] | None = None
    chosen_from: str | None = None


@dataclass(frozen=True)
class _Rounds:
    """What is read of a batch round's `rounds.json`."""

    deployed: Literal["last", "before"]


def load(path: str | Path, seed: int | None = None, teams: TeamChoice = "deployed") -> ActingTeam:
    """The team of a run, or of an export, ready to act in NumPy alone.

    Args:
        path: the directory of a run, or one that `ovmse export` wrote.
        seed: which of a run's seeds; by default its first.
        teams: the team to deploy, which is the one at the run's end, or of a batch round the one that it accepted or
            kept (docs/improve.md); the one at the end in any case; the one that left the offline phase; or of these two
            the offline one where the guard found the last one below it (docs/guard.md).

    Returns:
        The team; docs/deploy.md shows how it acts.

    Raises:
        UserError: where there is no such team, or its acting can't be told from the directory alone.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder} is not there; a run's directory is what `ovmse train` writes.")
    if (folder / "policy.json").is_file():
        return ActingTeam.load(check_export(folder, seed))
    contract, weights = read_team(folder, seed, teams)
    return ActingTeam(contract.described(), weights)


def check_export(folder: Path, seed: int | None = None) -> Path:
    """The directory of an export. Raises `UserError` unless its contract and its weights are whole and fit."""
    contract = read_contract(read_json(folder / "policy.json"), folder / "policy.json")
    if seed not in (None, contract.came_from.get("seed")):
        raise UserError(f"{folder} is the export of seed {contract.came_from.get('seed')}; got seed {seed}.")
    file = folder / contract.weights.file
    check_weights(contract, _arrays(file), file)
    return folder


def read_team(
    run: Path, seed: int | None = None, teams: TeamChoice = "deployed"
) -> tuple[Contract, dict[str, np.ndarray]]:
    """The contract and the weights of one seed's team in a run's directory. Raises `UserError` as `load`."""
    where = run / "config.json"
    if not where.is_file():
        raise UserError(f"{where} is missing: {run} is neither a run's directory nor an export's.")
    check_tree(run)
    about: _Run = read_json(where, _Run)
    seed = about.seed if seed is None else seed
    if not 0 <= (index := seed - about.seed) < about.seeds:
        raise UserError(f"{run} has the seeds {about.seed} to {about.seed + about.seeds - 1}; got seed {seed}.")
    team = safe_names(run)[index] if teams == "safe" else deployed_name(run) if teams == "deployed" else str(teams)
    profile = _profile(run)
    contract, files = _contract(about, team, where), {"": FILES[team], FROZEN: FILES["offline"]}
    check_names(Names(contract.agents), contract.sizes, f"{where}: env_spec")
    came_from = {
        "run": run.resolve().name, "seed": seed, "team": team, "method": about.method, "change": about.change,
        "environment": {x: getattr(about.env_spec, x) for x in ("name", "version", "settings")},
        "dataset": about.data and {"name": Path(about.data).name, "checksum": profile.checksum},
        "versions": read_json(run / "versions.json", dict[str, Any] | None) or {},
    }  # fmt: skip
    check_own(profile.own_actions, contract.sizes, f"{run}: dataset.json")
    contract = _named(replace(contract, came_from=came_from, own_actions=profile.own_actions), profile.names, run)
    called = network_names(about.learner.parameters, about.learner.kinds, about.env_spec.n_agents)
    weights: dict[str, np.ndarray] = {}
    for prefix in dict.fromkeys(["", *(FROZEN for network in contract.networks if network.prefix.startswith(FROZEN))]):
        if not (file := run / files[prefix]).is_file():
            resume = typed_command("train", "--resume", run)
            raise UserError(f"{file} is missing: the run did not get there. Was it interrupted? {resume}")
        arrays = _arrays(file)
        if few := [name for name, array in arrays.items() if array.shape[:1] <= (index,)]:
            raise UserError(f"{file}: {few[0]}: expected a leading axis of {about.seeds} seeds; got fewer.")
        weights |= by_network(prefix, {name: np.asarray(array[index]) for name, array in arrays.items()}, called)
    weights = {name: weights[name] for name in shapes(contract) if name in weights}
    check_weights(contract, weights, run / files[""])
    return contract, weights


def _profile(run: Path) -> _Profile:
    found: _Profile = as_type(read_json(run / "dataset.json") or {}, _Profile, run / "dataset.json")
    return found


def names_of(run: Path) -> Names:
    """What the log that a run learned from calls things."""
    return _profile(run).names


def by_kind(agents: list[int], called: tuple[str, ...] | None) -> dict[str, list[int]]:
    """The agents that play by each network, by what the names of its arrays begin with; called: see `network_names`."""
    found: dict[str, list[int]] = {}
    for i in agents:
        found.setdefault("" if called is None else f"kinds.{called[i]}.", []).append(i)
    return found


def by_network(prefix: str, arrays: dict[str, np.ndarray], called: tuple[str, ...] | None) -> dict[str, np.ndarray]:
    """The arrays of a team's file by their names in an export, where each kind of agents has arrays of its own."""
    own = {name: array for name, array in arrays.items() if name.startswith("agent.")} if called else {}
    found = {prefix + name: array for name, array in arrays.items() if name not in own}
    for kind, of_kind in enumerate(by_kind(list(range(len(called or ()))), called)):
        found |= {f"{prefix}{of_kind}{name}": array[kind] for name, array in own.items() if kind < len(array)}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def deployed_name(run: Path) -> str:
    """Which team of a run is to be deployed: of a batch round the one that it accepted or kept, of what
    `ovmse select` kept the one that there is, else the last one.

    Raises `UserError` where a round has not come to its verdict.
    """
    described = as_type(read_json(run / "config.json") or {}, _Round, run / "config.json")
    if described.round is None:
        return "last" if described.chosen_from is None else "offline"
    found = read_json(run / ROUNDS, _Rounds | None)
    if found is None:
        raise UserError(f"{run / ROUNDS} is missing: the round did not end. {typed_command('train', '--resume', run)}")
    return str(found.deployed)


def safe_names(run: Path) -> list[str]:
    """For each seed the team that the guard would deploy. Raises `UserError` where no guard left a verdict."""
    verdicts = as_type(read_json(run / "summary.json") or {}, _Summary, run / "summary.json").guard
    if verdicts is None:
        raise UserError(
            f"{run} has no verdict of a guard in summary.json: train with --guard-margin, let the run end, or choose "
            "--teams last or offline."
        )
    return ["offline" if seed.below else "last" for seed in sorted(verdicts, key=lambda seed: seed.seed)]


def _contract(run: _Run, team: str, where: Path) -> Contract:
    """The contract of a run's team, without what it calls things and where it came from."""
    env, learner, method = run.env_spec, run.learner, run.method_value
    parts = method.parts if team == "offline" else method.online_parts or method.parts
    loss = method.offline_loss if team == "offline" or method.online_target is None else method.online_loss
    everyone, kept = list(range(env.n_agents)), _kept(method.acting_utilities, where) if team == "last" else []
    kept = [i for i in kept if i in everyone]
    played = [("", [i for i in everyone if i not in kept], parts), (FROZEN, kept, method.parts)]
    called = network_names(learner.parameters, learner.kinds, env.n_agents)
    networks = [
        AboutNetwork(prefix + of_kind, agents, p.critics, p.policy, p.normalise)
        for prefix, who, p in played
        for of_kind, agents in by_kind(who, called).items()
    ]
    return Contract(
        agents=env.agents or [f"agent_{i}" for i in everyone],
        actions=[str(action) for action in range(env.n_actions)],
        features=None,
        sizes=Sizes(
            agents=env.n_agents,
            actions=env.n_actions,
            features=env.obs_size,
            state=env.state_size,
            hidden=learner.hidden,
            embedding=learner.embedding,
            hyper=learner.hyper,
            episode_limit=env.episode_limit,
        ),
        networks=networks,
        mixer=learner.mixer or parts.mixer,
        learns=LEARNS.get(loss.get("type", ""), "q_tot") if isinstance(loss, dict) else "q_tot",
        came_from={},
    )


def _kept(acting_utilities: Any, where: Path) -> list[int]:
    """The agents that play by the frozen team. Raises `UserError` where something else decides what is played."""
    if acting_utilities == OWN:
        return []
    if isinstance(acting_utilities, dict) and acting_utilities.get("type") == "Keep":
        return as_type(acting_utilities.get("agents"), list[int], f"{where}: method_value.acting_utilities.agents")
    raise UserError(
        f"{where}: method_value.acting_utilities is {acting_utilities!r}, code that a policy without it can't act by: "
        "expected own_utilities, or Keep as reincarnation has it. Export the team that left the offline phase "
        "(--teams offline), or play with the method itself (`ovmse evaluate`)."
    )


def _named(contract: Contract, names: Names, run: Path) -> Contract:
    """The contract with the names that a log has."""
    check_names(names, contract.sizes, f"{run}: names")
    return replace(contract, **{kind: given for kind, given in vars(names).items() if given})


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file. Raises `UserError` where it is missing or damaged."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is missing or damaged ({error}).") from error
