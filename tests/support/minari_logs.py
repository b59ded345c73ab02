"""Minari datasets of a team, written by Minari itself."""

import warnings

import numpy as np
import pytest

minari = pytest.importorskip("minari")
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary  # noqa: E402
from minari.data_collector import EpisodeBuffer  # noqa: E402

FORMATS = ("hdf5", "arrow", "parquet")


UNEQUAL = {"unit10": (3, 4), "unit2": (2, 2)}  # features and actions of the agents


def spaces(agents, masked):
    def seen(features, actions):
        box = Box(-9, 9, (features,))
        return Dict({"observation": box, "action_mask": MultiBinary(actions)}) if masked else box

    return Dict({n: seen(*sizes) for n, sizes in agents.items()}), Dict(
        {n: Discrete(a) for n, (_, a) in agents.items()}
    )


def buffers(rng, agents, lengths, masked, infos=None):
    made = []
    for steps in lengths:
        obs = {n: rng.uniform(-9, 9, (steps + 1, f)).astype(np.float32) for n, (f, _) in agents.items()}
        masks = {n: np.ones((steps + 1, a), np.int8) for n, (_, a) in agents.items()}
        made.append(
            EpisodeBuffer(
                observations={n: {"observation": obs[n], "action_mask": masks[n]} for n in agents} if masked else obs,
                actions={n: rng.integers(0, a, steps) for n, (_, a) in agents.items()},
                rewards=rng.normal(size=steps),
                terminations=np.arange(steps) == steps - 1,
                truncations=np.zeros(steps, bool),
                infos=None if infos is None else infos(rng, steps),
            )
        )
    return made


def write(folder, made, observation_space, action_space, form="hdf5"):
    """The directory of a new dataset."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        dataset = minari.create_dataset_from_buffers(
            "team-v0", made, observation_space=observation_space, action_space=action_space, data_format=form
        )
    return dataset.storage.data_path.parent
