"""Schedules: values computed by hand, ends that are met exactly, and what is refused."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from ovmse.core.errors import UserError
from ovmse.core.schedules import Schedule, constant, cosine, exponential, linear, step


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (constant(0.3), {0.0: 0.3, 0.5: 0.3, 1.0: 0.3}),
        (linear(1.0, 0.1), {0.0: 1.0, 0.5: 0.55, 1.0: 0.1}),
        (linear(1.0, 0.2, share=0.5), {0.25: 0.6, 0.5: 0.2, 0.9: 0.2}),
        (linear(0.0, 1.0), {0.25: 0.25}),
        (cosine(1.0, 0.0), {0.0: 1.0, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0.0}),
        (cosine(0.2, 1.0, share=0.4), {0.0: 0.2, 0.2: 0.6, 0.4: 1.0, 1.0: 1.0}),
        (exponential(1.0, 0.01), {0.0: 1.0, 0.5: 0.1, 1.0: 0.01}),
        (exponential(0.8, 0.1, share=0.75), {0.25: 0.4, 0.5: 0.2, 0.75: 0.1, 1.0: 0.1}),
        (step(1.0, 0.1), {0.0: 1.0, 0.499: 1.0, 0.5: 0.1, 1.0: 0.1}),
        (step(0.0, 1.0, share=1.0), {0.999: 0.0, 1.0: 1.0}),
    ],
)
def test_values_by_hand(schedule, points):
    for progress, value in points.items():
        assert float(schedule(progress)) == pytest.approx(value, abs=1e-6)
        assert float(jax.jit(schedule)(jnp.float32(progress))) == pytest.approx(value, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(["linear", "cosine", "exponential", "step"]),
    start=st.floats(0.01, 1),
    end=st.floats(0.01, 1),
    share=st.floats(0.01, 1),
    early=st.floats(-0.5, 1.5),
    late=st.floats(-0.5, 1.5),
)
def test_every_shape_goes_one_way_from_start_to_end(shape, start, end, share, early, late):
    schedule = Schedule(start, end, share, shape)
    early, late = sorted((early, late))
    values = [start, *(float(schedule(p)) for p in (0.0, early, late, 1.0)), end]
    tolerance = 1e-5
    direction = 1 if end >= start else -1
    assert all(direction * (b - a) >= -tolerance for a, b in zip(values, values[1:], strict=False))
    assert values[1] == pytest.approx(start, abs=tolerance)
    assert values[-2] == pytest.approx(end, abs=tolerance)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: linear(1.0, 0.1, share=0.0), "share must be greater than 0"),
        (lambda: linear(1.0, 0.1, share=1.5), "at most 1; got 1.5"),
        (lambda: linear(1.0, 0.1, share=float("nan")), "got nan"),
        (lambda: exponential(1.0, 0.0), "can't reach or cross 0"),
        (lambda: exponential(-1.0, 1.0), "can't reach or cross 0"),
        (lambda: Schedule(1.0, 0.0, 1.0, "constant"), "one value"),
    ],
)
def test_unusable_schedules_are_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


NAN = float("nan")


@pytest.mark.parametrize(
    "bad",
    [
        linear(-0.1, 1.0),
        linear(0.0, 1.1),
        linear(NAN, 0.0),
        linear(0.0, NAN),
    ],
)
def test_limits_name_what_leaves_them(bad):
    linear(0.0, 1.0).check_within("ε", 0.0, 1.0)
    with pytest.raises(UserError, match="ε must stay between 0.0 and 1.0"):
        bad.check_within("ε", 0.0, 1.0)
