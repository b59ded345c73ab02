"""SUMO's road traffic: every signal of a city's network is an agent that chooses its next green."""

import contextlib
import importlib
import importlib.util
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ovmse.core.errors import UserError, check_known, check_positive
from ovmse.core.kinds import kinds_of
from ovmse.core.padding import own_actions, padded
from ovmse.core.types import EnvSpec, Observation, StepResult
from ovmse.envs.contained import quiet
from ovmse.envs.protocol import check_action, require
from ovmse.envs.traffic import Signal, signal_of, yellow
from ovmse.system.plugins import version_of

INSTALL = "pip install 'ovmse[sumo]'"
METRES_PER_CAR = 7.5
"""The room that a standing car takes: SUMO's usual 5 m, and the gap of 2.5 m before it."""
CARS = 10.0
"""The unit of features that count cars, so that they are of order 1."""
MINUTE = 60.0

_observe: Any = Observation  # the observations and results of a host environment hold NumPy's arrays
_result: Any = StepResult


class TrafficSignals:
    """A road network with its signals, in SUMO, which runs inside this process (libsumo): one at a time.

    An action is the next green, of those of the signal's own plan; where it is another one, yellow comes before it, and
    until it has lasted `min_green_seconds` it is the only legal one.

    Observation of a signal, with A greens and L lanes of the signals that have most of them: which green it has (A),
    how many cars stand before each green (A, in tens), each green's pressure (A, in tens): those that stand before it
    less those that stand where it leads to; minutes since the last change, and minutes that the signal's own plan has
    from this green to the next (2); how full each lane is (L), and how full of standing cars (L). State: all of these
    in a row, the share of the episode that is over, and the backlog in tens.

    Reward: −(queue + backlog) / 100, the mean over the seconds of a decision. The queue is all cars in the network that
    stand (below 0.1 m/s), the backlog those that should have set out and find no room to enter: they would wait unseen,
    and a controller could gain by keeping them out. So −100 × `decision_seconds` × the return are the seconds that all
    cars waited. Never terminal; truncated when `seconds` are over. Cars are never taken out of a jam.

    episode_measures: of the episode so far, `seconds_waited_per_car` (in the backlog, too), `cars` that should have set
    out, `cars_arrived`, and the `backlog` that there is. names: of actions, features and state features, in order.

    Raises `UserError` where SUMO is not installed, the network is unknown, the settings can't be used, or this process
    has a simulation already.
    """

    spec: EnvSpec

    def __init__(
        self,
        network: str,
        *,
        seconds: int = 3600,
        begin: int | None = None,
        decision_seconds: int = 10,
        yellow_seconds: int = 3,
        min_green_seconds: int = 5,
        demand: float = 1.0,
        depart_offset_seconds: int = 0,
    ) -> None:
        """Start the simulation once, to see which signals there are.

        Args:
            network: One of `networks`, or the path of a ``.sumocfg`` of your own.
            seconds: Seconds of traffic in an episode.
            begin: The second of the day at which it begins; None: as the network's configuration has it.
            decision_seconds: Seconds between two decisions.
            yellow_seconds: Seconds of yellow before another green.
            min_green_seconds: Seconds that a green lasts at least.
            demand: How many cars there are, as a multiple of the network's own.
            depart_offset_seconds: The most seconds by which each car sets out later, drawn anew in every episode.
        """
        self._name = f"sumo:{network}"
        for setting, value in {"seconds": seconds, "decision_seconds": decision_seconds, "demand": demand}.items():
            check_positive(setting, value)
        times = {"yellow_seconds": yellow_seconds, "min_green_seconds": min_green_seconds}
        for setting, value in (times | {"depart_offset_seconds": depart_offset_seconds, "begin": begin or 0}).items():
            require(value >= 0, f"{self._name}: {setting} must be 0 or more; got {value}.")
        require(
            decision_seconds > yellow_seconds,
            f"{self._name}: decision_seconds must be more than yellow_seconds ({yellow_seconds}); got "
            f"{decision_seconds}.",
        )
        require(
            seconds % decision_seconds == 0,
            f"{self._name}: seconds must be a multiple of decision_seconds ({decision_seconds}); got {seconds}.",
        )
        self._decision, self._yellow, self._least = decision_seconds, yellow_seconds, yellow_seconds + min_green_seconds
        self._command = ["sumo", "-c", str(_configuration(network)), "--scale", str(demand), "-e", "-1"]
        self._command += ["-b", str(begin)] if begin is not None else []
        self._command += ["--random-depart-offset", str(depart_offset_seconds), "--time-to-teleport", "-1"]
        self._command += ["--no-warnings", "--no-step-log", "--xml-validation", "never"]
        self._sumo = _libsumo(self._name)
        self._end = weakref.finalize(self, _close, self._sumo)
        try:
            self._start(0)
            self._signals = self._found()
        except UserError:
            self._end()  # or this process could have no other
            raise
        self._edges = self._sumo.edge.getIDList()
        every = [lane for signal in self._signals for lane in signal.lanes]
        self._capacity = {lane: max(1.0, self._sumo.lane.getLength(lane) / METRES_PER_CAR) for lane in every}
        n, a = len(self._signals), max(len(signal.greens) for signal in self._signals)
        self._lanes = max(len(signal.lanes) for signal in self._signals)
        self._own_actions = own_actions([range(len(signal.greens)) for signal in self._signals], a)
        self.names = self._names(a)
        self.spec = EnvSpec(
            name=self._name,
            version=f"{version_of('libsumo')}, {version_of('sumo_rl')}",
            settings={
                "seconds": seconds,
                "begin": int(self._sumo.simulation.getTime()),
                "decision_seconds": decision_seconds,
                **times,
                "demand": demand,
                "depart_offset_seconds": depart_offset_seconds,
            },
            n_agents=n,
            n_actions=a,
            obs_size=len(self.names["features"]),
            state_size=len(self.names["state_features"]),
            episode_limit=seconds // decision_seconds,
            has_win=False,
            agents=tuple(signal.name for signal in self._signals),
            kinds=kinds_of((len(signal.greens), len(signal.lanes)) for signal in self._signals),
        )

    def reset_host(self, seed: int) -> Observation:
        """Start the traffic of the episode that `seed` gives, every signal at its first green."""
        self._start(seed)
        self._t, self._waited, self._departed, self._arrived, self._backlog = 0, 0, 0, 0, 0
        self._green, self._held = np.zeros((2, self.spec.n_agents), int)
        self._held += self._least  # so that any green is legal at first
        for signal in self._signals:
            self._show(signal, signal.greens[0])
        return self._seen()

    def step_host(self, action: np.ndarray) -> tuple[Observation, StepResult]:
        """Let each signal go to a green (int, shape (N,)), and traffic go on until the next decision."""
        check_action(f"{self._name}, step {self._t}", action, self._avail, self.spec.agents)
        changes, waited = action != self._green, self._waited
        changing = [(self._signals[i], self._green[i], action[i]) for i in np.flatnonzero(changes)]
        for signal, now, then in changing:
            self._show(signal, yellow(signal.greens[now], signal.greens[then]))
        for second in range(self._decision):
            if second == self._yellow:
                for signal, _, then in changing:
                    self._show(signal, signal.greens[then])
            self._second()
        self._green, self._held = np.array(action), np.where(changes, 0, self._held) + self._decision
        self._t += 1
        result = _result(
            reward=np.float32((waited - self._waited) / self._decision / 100),
            terminal=np.bool_(False),
            truncated=np.bool_(self._t >= self.spec.episode_limit),
            won=np.bool_(False),
        )
        return self._seen(), result

    @property
    def episode_measures(self) -> dict[str, float]:
        """What the episode has come to so far, see above."""
        cars = self._departed + self._backlog
        return {
            "seconds_waited_per_car": self._waited / max(1, cars),
            "cars": float(cars),
            "cars_arrived": float(self._arrived),
            "backlog": float(self._backlog),
        }

    def close(self) -> None:
        """End the simulation, so that this process can have another one."""
        self._end()

    def _start(self, seed: int) -> None:
        require(self._end.alive, f"{self._name}: this environment is closed; make it anew.")
        with tempfile.TemporaryFile() as said:
            try:
                with quiet(said.fileno()):
                    _close(self._sumo)
                    self._sumo.start([*self._command, "--seed", str(seed)])
            except Exception as error:
                said.seek(0)
                why = " ".join(said.read().decode("utf-8", "replace").split()) or error
                raise UserError(f"{self._name}: SUMO does not start: {why}") from error

    def _found(self) -> list[Signal]:
        """The signals that have two greens or more; others keep to their plan."""
        lights, found = self._sumo.trafficlight, []
        for name in lights.getIDList():
            plans = {plan.programID: plan for plan in lights.getAllProgramLogics(name)}
            plan = [(phase.state, phase.duration) for phase in plans[lights.getProgram(name)].phases]
            signal = signal_of(name, plan, lights.getControlledLinks(name))
            found += [signal] if len(signal.greens) > 1 else []
        require(found, f"{self._name} has no signal with two greens or more, so there is nothing to decide.")
        return found

    def _names(self, n_actions: int) -> dict[str, tuple[str, ...]]:
        of_greens = [f"{what}_{a}" for what in ("green", "standing", "pressure") for a in range(n_actions)]
        of_lanes = [f"lane_{i}_{what}" for what in ("cars", "standing") for i in range(self._lanes)]
        features = (*of_greens, "minutes_since_change", "minutes_planned", *of_lanes)
        state = (*[f"{signal.name}_{x}" for signal in self._signals for x in features], "episode", "backlog")
        actions = tuple(f"green_{a}" for a in range(n_actions))
        return {"actions": actions, "features": features, "state_features": state}

    def _show(self, signal: Signal, state: str) -> None:
        self._sumo.trafficlight.setRedYellowGreenState(signal.name, state)

    def _second(self) -> None:
        """A second of traffic, and who waited in it."""
        self._sumo.simulationStep()
        simulation, standing = self._sumo.simulation, self._sumo.edge.getLastStepHaltingNumber
        self._departed += simulation.getDepartedNumber()
        self._arrived += simulation.getArrivedNumber()
        self._backlog = len(simulation.getPendingVehicles())
        self._waited += sum(map(standing, self._edges)) + self._backlog

    def _seen(self) -> Observation:
        cars, standing = self._sumo.lane.getLastStepVehicleNumber, self._sumo.lane.getLastStepHaltingNumber
        blocks: list[list[np.ndarray]] = []
        for i, signal in enumerate(self._signals):
            stand = np.array([standing(lane) for lane in signal.lanes])
            before, behind = signal.serves @ stand, signal.feeds @ np.array([standing(lane) for lane in signal.exits])
            room = np.array([self._capacity[lane] for lane in signal.lanes])
            blocks.append([
                np.arange(len(signal.greens)) == self._green[i],
                before / CARS,
                (before - behind) / CARS,
                np.array([self._held[i], signal.planned[self._green[i]]]) / MINUTE,
                np.array([cars(lane) for lane in signal.lanes]) / room,
                stand / room,
            ])  # fmt: skip
        a, sizes = self.spec.n_actions, (*[self.spec.n_actions] * 3, 2, self._lanes, self._lanes)
        obs = np.concatenate([padded(x, size) for x, size in zip(zip(*blocks, strict=True), sizes, strict=True)], 1)
        obs = obs.astype(np.float32)
        may_change = (self._held >= self._least)[:, None] | (np.arange(a) == self._green[:, None])
        self._avail = self._own_actions & may_change
        about = np.array([self._t / self.spec.episode_limit, self._backlog / CARS], np.float32)
        return _observe(obs, np.concatenate([obs.ravel(), about]), self._avail.copy())


def networks() -> dict[str, Path]:
    """The networks of the RESCO benchmark by name, which come with sumo-rl: their configurations."""
    found = importlib.util.find_spec("sumo_rl")  # found, not imported: that takes two seconds, and we need files alone
    folders = [] if found is None else list(found.submodule_search_locations or [])
    paths = [path for folder in folders for path in Path(folder).glob("nets/RESCO/*/*.sumocfg")]
    return {path.stem: path for path in sorted(paths)}


def _configuration(network: str) -> Path:
    if network.endswith(".sumocfg"):
        require(Path(network).is_file(), f"sumo:{network}: there is no such file.")
        return Path(network)
    known = networks()
    require(known, f"sumo:{network}: the networks come with sumo-rl, which is not installed: {INSTALL}.")
    check_known("network of SUMO", network, known, "Or give the path of a .sumocfg of your own.")
    return known[network]


def _libsumo(name: str) -> Any:
    with quiet():  # it warns of other versions of libraries
        try:
            sumo = importlib.import_module("libsumo")
        except ImportError as error:
            raise UserError(f"{name} needs SUMO as a library, libsumo: {INSTALL}.") from error
    if sumo.isLoaded():
        raise UserError(
            f"{name}: this process has a simulation already, and SUMO's library takes one at a time. Close that one "
            "(env.close()), or make this one by ovmse.envs.settings.make_by_options, in a process of its own, as the "
            "command line does."
        )
    return sumo


def _close(sumo: Any) -> None:
    if sumo.isLoaded():
        with contextlib.suppress(Exception):
            sumo.close()
