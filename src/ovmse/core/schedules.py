"""Settings that change over the online phase: functions of progress in [0, 1].

`progress` is the spent share of the online budget of environment steps, so no schedule has a unit.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from ovmse.core.errors import UserError, check_known

Number = float | int
Shape = Literal["constant", "linear", "cosine", "exponential", "step"]


@dataclass(frozen=True)
class Schedule:
    """A setting that goes from `start` to `end` over the first `share` of the online budget, and stays there.

    Args:
        start: the value at the handover.
        end: the value from `share` of the budget on.
        share: a share of the budget of environment steps, in (0, 1].
        shape: how it gets there; ``step`` holds `start` until `share` and then jumps.

    Raises:
        UserError: for a share outside (0, 1], an unknown shape, or an exponential that reaches or crosses 0.
    """

    start: Number
    end: Number
    share: Number = 1.0
    shape: Shape = "linear"

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise UserError(f"a schedule's share must be greater than 0 and at most 1; got {self.share}.")
        check_known("schedule shape", self.shape, get_args(Shape))
        if self.shape == "constant" and self.start != self.end:
            raise UserError(f"a constant schedule has one value; got start {self.start} and end {self.end}.")
        if self.shape == "exponential" and not self.start * self.end > 0:
            raise UserError(f"an exponential schedule can't reach or cross 0; got {self.start} → {self.end}.")

    def __call__(self, progress: Number | Float[Array, ""]) -> Float[Array, ""]:
        """The value at `progress` in [0, 1]."""
        spent = jnp.clip(jnp.asarray(progress, jnp.float32) / self.share, 0.0, 1.0)
        if self.shape == "cosine":
            return self.end + (self.start - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * spent))
        if self.shape == "exponential":
            return self.start * (self.end / self.start) ** spent
        if self.shape == "step":
            return jnp.where(spent < 1.0, self.start, self.end)
        return self.start + (self.end - self.start) * spent

    def check_within(self, name: str, low: Number, high: Number) -> None:
        """Raise `UserError` unless every value lies in [low, high]; all shapes are monotone, so the ends decide."""
        if not (low <= self.start <= high and low <= self.end <= high):  # false for nan, too
            raise UserError(f"{name} must stay between {low} and {high}; got {self.start} → {self.end}.")


def constant(value: Number) -> Schedule:
    """The same value throughout."""
    return Schedule(value, value, 1.0, "constant")


def linear(start: Number, end: Number, share: Number = 1.0) -> Schedule:
    """A straight line from `start` to `end` over the first `share` of the budget."""
    return Schedule(start, end, share, "linear")


def cosine(start: Number, end: Number, share: Number = 1.0) -> Schedule:
    """Half a cosine wave: slow at both ends."""
    return Schedule(start, end, share, "cosine")


def exponential(start: Number, end: Number, share: Number = 1.0) -> Schedule:
    """A constant ratio per unit of progress; `start` and `end` need one sign and may not be 0."""
    return Schedule(start, end, share, "exponential")


def step(start: Number, end: Number, share: Number = 0.5) -> Schedule:
    """`start` until `share` of the budget is spent, then `end`."""
    return Schedule(start, end, share, "step")


def check_schedule(name: str, value: object) -> None:
    """Raise `UserError` unless `value` is a schedule."""
    if not isinstance(value, Schedule):
        raise UserError(f"{name} is a schedule, such as constant(0.1) or linear(1.0, 0.1); got {value!r}.")


def is_zero(number: object) -> bool:
    """Whether a setting is the constant 0, which switches off what it weighs; an argument of a program is not."""
    return isinstance(number, float | int) and number == 0


MAKERS = {make.__name__: make for make in (constant, linear, cosine, exponential, step)}
"""The ways to write a schedule, by name."""
