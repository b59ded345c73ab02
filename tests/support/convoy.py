"""A small environment in PettingZoo's interface."""

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv  # noqa: E402


class Convoy(ParallelEnv):
    """Three unequal agents; the truck leaves after 2 steps, the others end, or are cut off, after `length`.

    The truck has 2 actions and sees 1 number; the bike has 4 actions from 1 on and a mask that forbids the
    first; the van sees one of 3 symbols and its mask comes with the observation.
    """

    metadata = {"name": "convoy"}
    possible_agents = ["truck", "bike", "van"]

    def __init__(self, length=4, cut=False, wins=False):
        self.length, self.cut, self.wins = length, cut, wins

    def observation_space(self, agent):
        return {
            "truck": spaces.Box(-1, 1, (1,)),
            "bike": spaces.Box(-1, 1, (2, 2)),
            "van": spaces.Dict({"observation": spaces.Discrete(3), "action_mask": spaces.MultiBinary(3)}),
        }[agent]

    def action_space(self, agent):
        return {"truck": spaces.Discrete(2), "bike": spaces.Discrete(4, start=1), "van": spaces.Discrete(3)}[agent]

    def reset(self, seed=None, options=None):
        self.rng, self.t, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self.observations(), self.infos()

    def observations(self):
        seen = {
            "truck": self.rng.random(1, np.float32),
            "bike": self.rng.random((2, 2), np.float32),
            "van": {"observation": self.t % 3, "action_mask": np.array([1, 0, 1], np.int8)},
        }
        return {agent: seen[agent] for agent in self.agents}

    def infos(self):
        won = {"won": self.t == self.length} if self.wins else {}
        masks = {"bike": {"action_mask": np.array([0, 1, 1, 1], np.int8)}}
        return {agent: {**won, **masks.get(agent, {})} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.last, self.t = actions, self.t + 1
        over = self.t == self.length
        observations, infos = self.observations(), self.infos()
        rewards = {agent: float(1 + self.possible_agents.index(agent)) for agent in self.agents}
        gone = {agent: over or (agent == "truck" and self.t == 2) for agent in self.agents}
        cut = {agent: gone[agent] and self.cut and agent != "truck" for agent in self.agents}
        terminated = {agent: gone[agent] and not cut[agent] for agent in self.agents}
        self.agents = [agent for agent in self.agents if not gone[agent]]
        return observations, rewards, terminated, cut, infos


HOLD = np.array([0, 1, 0])  # legal at every step
