"""How much memory a run will need, and whether the machine has it."""

import equinox as eqx
import jax
import psutil

from ovmse.config import Config
from ovmse.core.errors import UserError
from ovmse.core.types import EnvSpec
from ovmse.data.dataset import Dataset
from ovmse.learning import learner, phases, replay
from ovmse.learning.lengths import group_size, longest_lane
from ovmse.learning.parallel import batched, cores_per_seed, padded_seeds, seeds_per_batch
from ovmse.methods.method import Method
from ovmse.system.cores import usable_cores

GIB = 2**30
# Measured on SMAX maps, on a CPU:
PROGRAM_BYTES = int(0.4 * GIB)  # JAX's own memory and the loaded programs
COMPILING_BYTES = int(0.4 * GIB)  # what the compiler takes, and keeps, to play and to evaluate
COPIES = 3  # of a learner: its state, the one that an update makes of it, the gradient and the frozen team
COMPILING_PHASE_BYTES = int(0.17 * GIB)  # and for the updates of each phase
AHEAD_BYTES = int(0.8 * GIB)  # and where two programs are compiled at once


def needed_bytes(config: Config, spec: EnvSpec, dataset: Dataset | None, method: Method) -> dict[str, int]:
    """What a run will hold at its peak, in bytes.

    program: Python, JAX, the environment's library and the compiled programs. dataset: its padded copy, one for all
    seeds. replay: every seed's, once on each core that works on it. learning: what the seeds that run at the same time
    need for an update and a round of play, on every core. compiling: what the compiler takes beside, where the programs
    are not yet in the cache. In the main memory `program` begins with what this process holds already, less the dataset
    as it was read.
    """
    row, cores = replay.row_bytes(spec), cores_per_seed(config.seeds)
    together, all_seeds = cores * seeds_per_batch(config.seeds), cores * padded_seeds(config.seeds)
    read = 0 if dataset is None else dataset.nbytes
    data = 0 if dataset is None else (len(dataset.obs) + spec.episode_limit + 1) * row
    size, rows = config.learner, spec.episode_limit + 1
    network = COPIES * learner_bytes(config, spec, method)
    inputs = spec.obs_size + spec.n_agents + spec.n_actions
    group = group_size(config.batch_episodes, spec.n_agents)
    # measured: an update keeps about 3 numbers per input and 18 per recurrent unit, for each agent and row
    lane = longest_lane(config, spec, method, spec.episode_limit) + 1
    update = 4 * group * lane * spec.n_agents * (3 * inputs + 18 * size.hidden)
    online = method.online_target is not None
    play = 2 * config.episodes_per_collect * rows * row
    plays = online and config.round is None
    stored = phases.replay_rows(config, spec) if plays else 0
    ahead = AHEAD_BYTES * (plays and len(usable_cores()) > 1)  # see `training.ahead`
    pretrains = method.offline_loss is not None and config.pretrained is None and config.round is None
    learned_phases = online + pretrains
    return {
        "program": PROGRAM_BYTES + (0 if batched() else psutil.Process().memory_info().rss - read),
        "dataset": data,
        "replay": all_seeds * stored * row,
        "learning": together * update + all_seeds * (play + network),
        "compiling": 0 if batched() else COMPILING_BYTES + learned_phases * COMPILING_PHASE_BYTES + ahead,
    }


def learner_bytes(config: Config, spec: EnvSpec, method: Method) -> int:
    """Bytes of one seed's networks, its target networks, and what the optimiser keeps of them."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    made = eqx.filter_eval_shape(lambda key: learner.init(config.learner, spec, key, method.parts), key)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(made))


def check_memory(config: Config, spec: EnvSpec, dataset: Dataset | None, method: Method) -> dict[str, int]:
    """The bytes that a run needs. Raises `UserError` where the machine has less, what compiling takes left out."""
    needed = needed_bytes(config, spec, dataset, method)
    held = psutil.Process().memory_info().rss
    if batched():
        stats = jax.local_devices()[0].memory_stats() or {"bytes_limit": sum(needed.values()), "bytes_in_use": 0}
        available = stats["bytes_limit"] - stats["bytes_in_use"]
    else:
        available = psutil.virtual_memory().available + held
    # a dataset is there twice while it is prepared
    total = max(sum(needed.values()) - needed["compiling"], held + needed["dataset"])
    if total > available:
        advice = f"Lower --replay-env-steps (now {config.replay_env_steps}) or --seeds (now {config.seeds})"
        if cores_per_seed(config.seeds) > 1:
            advice += ", or give it one core (taskset -c 0): of two each holds the replay"
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in needed.items())
        raise UserError(
            f"this run needs about {total / GIB:.1f} GiB ({parts}) and {available / GIB:.1f} GiB are available. "
            f"{advice}."
        )
    return needed


def has_room_to_compile(needed: dict[str, int]) -> bool:
    """Whether the machine has what a run needs, with all that compiling takes."""
    return sum(needed.values()) <= psutil.virtual_memory().available + psutil.Process().memory_info().rss


def in_words(needed: dict[str, int]) -> str:
    """What a run will hold at its peak, for its user to read."""
    all_in_all, compiling = sum(needed.values()) / GIB, needed["compiling"] / GIB
    more = f", {all_in_all:.2f} where programs have to be compiled first" if compiling else ""
    return f"about {all_in_all - compiling:.2f} GiB of memory will be needed{more}"
