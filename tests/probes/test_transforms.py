"""Shifts, rotations and scalings against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.errors import InputError
from cnn.probes import rotate, scale, shift


@given(st.floats(-6, 6), st.integers(5, 9), st.integers(0, 2), st.floats(0, 6))
def test_a_wave_is_shifted_as_a_wave(by: float, n: int, k: int, phase: float) -> None:
    """cos(2πk(p - by)/n + φ), for all frequencies k below n / 2."""
    p = np.arange(n)

    def wave(at: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * k * at / n + phase).reshape(1, n, 1)

    moved = shift(jnp.asarray(wave(p), jnp.float32), by)
    np.testing.assert_allclose(moved, wave(p - by), atol=1e-4)


def test_integer_shifts_are_exact_and_per_axis() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 1))
    np.testing.assert_array_equal(shift(x, (1, -2)), np.roll(x, (1, -2), (1, 2)))
    np.testing.assert_array_equal(shift(x, 2.0), np.roll(x, (2, 2), (1, 2)))
    with pytest.raises(
        InputError, match=r"by must be a number, or one for each of 2 axes, got \(1,\)"
    ):
        shift(x, (1,))


def test_rotations_and_scalings_by_hand() -> None:
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    turned = [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    np.testing.assert_array_equal(rotate(x, 90)[0, ..., 0], turned)
    np.testing.assert_array_equal(rotate(x, -270)[0, ..., 0], turned)
    np.testing.assert_allclose(rotate(x, 90 + 1e-4)[0, ..., 0], turned, atol=1e-3)
    ramp = jnp.arange(5.0).reshape(1, 5, 1)
    np.testing.assert_allclose(scale(ramp, 2.0)[0, :, 0], [1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(scale(ramp, 0.5)[0, :, 0], [0, 0, 2, 4, 0])
    with pytest.raises(InputError, match="factor must be positive, got 0"):
        scale(ramp, 0)
    with pytest.raises(InputError, match=r"x must have shape .* got \(1, 5, 1\)"):
        rotate(ramp, 90)
