"""Vaults, written by flashbax itself."""

import contextlib
import io
import warnings

import numpy as np
import pytest

from support.episodes import random_avail

N, O, S, A = 2, 3, 4, 5  # noqa: E741


def experience(rng, lengths, cut=(), unfinished=0):
    """Play as OG-MARL stores it: (1, T, ...) arrays; `cut` episodes are truncated, the last rows may be unfinished."""
    steps = sum(lengths) + unfinished
    avail = random_avail(rng, (1, steps, N, A))
    done, truncated = np.zeros((2, 1, steps, N), bool)
    for episode, end in enumerate(np.cumsum(lengths) - 1):
        (truncated if episode in cut else done)[0, end] = True
    return {
        "observations": rng.normal(size=(1, steps, N, O)).astype(np.float32),
        "actions": np.where(avail, rng.random(avail.shape), -1).argmax(-1).astype(np.int32),
        "rewards": np.repeat(rng.normal(size=(1, steps, 1)), N, axis=2).astype(np.float32),
        "terminals": done,
        "truncations": truncated,
        "infos": {"state": rng.normal(size=(1, steps, S)).astype(np.float32), "legals": avail},
    }


def flashbax_vault(*args, **options):
    """flashbax prints, and what it builds on warns."""
    pytest.importorskip("flashbax")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from flashbax.vault import Vault

        return Vault(*args, **options)


def flashbax_write(root, tree, **metadata):
    import jax.numpy as jnp

    as_jax = {k: {n: jnp.asarray(x) for n, x in v.items()} if k == "infos" else jnp.asarray(v) for k, v in tree.items()}
    opened = flashbax_vault("game.vlt", as_jax, rel_dir=str(root), vault_uid="Good", metadata=metadata)
    from flashbax.buffers.trajectory_buffer import TrajectoryBufferState

    state = TrajectoryBufferState(
        experience=as_jax, current_index=jnp.array(tree["actions"].shape[1]), is_full=jnp.array(False)
    )
    opened.write(state, source_interval=(0, tree["actions"].shape[1]))
    return root / "game.vlt" / "Good"


def flashbax_read(path):
    found = flashbax_vault(path.parent.name, rel_dir=str(path.parent.parent), vault_uid=path.name)
    return {name: np.asarray(values) for name, values in leaves(found.read().experience)}


def leaves(tree, above=""):
    """The arrays by the name that a vault gives them."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}.", value
