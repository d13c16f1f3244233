"""Position leak and effective receptive fields by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.errors import InputError
from cnn.layers import Chain, Conv, ReLU
from cnn.probes import effective_receptive_field, position_leak

position_leak = jax.jit(position_leak)  # compiles less than without


def test_zero_padding_tells_position_and_circular_padding_does_not() -> None:
    """Five random 3×3 layers, wide enough to carry position inwards from the border."""
    constant, noise = jnp.ones((2, 9, 9, 1)), jax.random.normal(jax.random.key(1), (200, 9, 9, 1))
    x = jnp.concatenate([constant, noise])
    leaks = {}
    for mode in ("zeros", "circular"):
        layers = [Conv(16, (3, 3), padding=1, padding_mode=mode), ReLU()] * 5
        h = jax.jit(Chain(tuple(layers)).init_with_output)(jax.random.key(0), x)[0]
        leaks[mode] = position_leak(h[:1], h[1:2]), position_leak(h[2:102], h[102:])
    np.testing.assert_array_less([0.8, 0.3], leaks["zeros"])
    np.testing.assert_allclose(leaks["circular"], 0, atol=0.01)


def test_the_regression_is_ridge_regression() -> None:
    """Feature t + 2 at t of power 2/3 + 4 (three positions, -1 0 1), so that W = v / (v + λ P)."""
    t = jnp.array([-1.0, 0.0, 1.0])
    h = (t + 2).reshape(1, 3, 1)
    v, power, ridge = 2 / 3, 2 / 3 + 4, 0.1
    w = v / (v + ridge * power)
    assert float(position_leak(h, h, ridge)) == pytest.approx(1 - (1 - w) ** 2, rel=1e-5)
    assert float(position_leak(h, -h + 4, ridge)) == pytest.approx(1 - (1 + w) ** 2, rel=1e-5)


def test_the_share_of_the_axes_that_leak() -> None:
    rows, columns = jnp.meshgrid(jnp.arange(5.0), jnp.arange(7.0), indexing="ij")
    both = jnp.stack([rows, columns], -1)[None]
    assert float(position_leak(both, both, 1e-6)) == pytest.approx(1.0, abs=1e-3)
    # The other axis has variance 4/9 on 7 positions, this one 1/2 on 5.
    share = (1 / 2) / (1 / 2 + 4 / 9)
    assert float(position_leak(both[..., :1], both[..., :1], 1e-6)) == pytest.approx(
        share, abs=1e-3
    )


@given(st.floats(-100, 100), st.integers(0, 100))
def test_rounding_errors_leak_nothing(level: float, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((1, 8, 1)) * 1e-7
    h = jnp.asarray(np.float32(level) * (1 + noise), jnp.float32)
    assert abs(float(position_leak(h, h))) < 1e-3


def test_maps_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"features \(1, 4, 2\) and held_out \(1, 5, 2\)"):
        position_leak(jnp.ones((1, 4, 2)), jnp.ones((1, 5, 2)))
    with pytest.raises(InputError, match="of two positions or more"):
        position_leak(jnp.ones((1, 1, 2)), jnp.ones((1, 1, 2)))


def test_the_effective_field_of_ones_is_a_binomial() -> None:
    """Two linear layers of three ones: 1 2 3 2 1 around the centre, times two outputs."""
    model = Chain((Conv(1, 3, padding=1), Conv(2, 3, padding=1)))
    x = jax.random.normal(jax.random.key(0), (3, 9, 1))
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    made = jax.tree.map(lambda w: jnp.ones(w.shape), params)
    field = effective_receptive_field(functools.partial(model.apply, made), x)
    np.testing.assert_allclose(field, [0, 0, 2, 4, 6, 4, 2, 0, 0])


def test_the_effective_field_is_a_mean_of_absolute_values_over_inputs() -> None:
    """f = x² at the centre, and minus its right neighbour: gradients 2 |x| and 1."""

    def f(x: jax.Array) -> jax.Array:
        return x**2 - jnp.roll(x, -1, 1)

    x = jnp.array([[0.0, 1.0, 0.0], [0.0, -3.0, 5.0]])[..., None]
    np.testing.assert_allclose(effective_receptive_field(f, x), [0, 4, 1])
    # Without a map there is no centre, and all outputs count: |2 x - 1|.
    field = effective_receptive_field(lambda x: f(x).sum(1), x)
    np.testing.assert_allclose(field, [1, (1 + 7) / 2, (1 + 9) / 2])


def test_the_power_of_the_gradient_in_the_effective_field() -> None:
    """Gradients 2 |x| of 2 and 6 at the centre, and 1: squares 4, 36 and 1."""
    x = jnp.array([[0.0, 1.0, 0.0], [0.0, -3.0, 5.0]])[..., None]
    field = effective_receptive_field(lambda x: x**2 - jnp.roll(x, -1, 1), x, power=2)
    np.testing.assert_allclose(field, [0, (4 + 36) / 2, 1])
