"""Normalization layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import layers
from cnn.errors import InputError
from cnn.layers import BatchNorm, GroupNorm, LocalResponseNorm


def test_batch_norm_uses_the_batch_in_training_and_averages_in_inference() -> None:
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (500, 4, 2))
    layer = BatchNorm(momentum=0.0)
    made = layer.init(jax.random.key(0), x)
    np.testing.assert_allclose(layer.apply(made, x), x, rtol=1e-4)  # mean 0, variance 1 so far
    y, updated = layer.apply(made, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1)), 1, rtol=1e-4)
    np.testing.assert_allclose(layer.apply({**made, **updated}, x), y, atol=1e-4)


def test_group_norm_of_a_mean_far_from_zero() -> None:
    x = (1e5 + 10 * np.random.default_rng(0).standard_normal((3, 16, 16, 4))).astype(np.float32)
    layer = GroupNorm(groups=2)
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    groups = np.asarray(y, np.float64).reshape(3, -1, 2, 2)
    np.testing.assert_allclose(groups.std((1, 3)), 1, rtol=1e-3)


def test_normalization_choices() -> None:
    assert layers.normalization("batch", 8) == (BatchNorm(),)
    assert layers.normalization("none", 8) == ()
    with pytest.raises(InputError, match=r"^norm must be .*, got 'layer'"):
        layers.normalization("layer", 8)  # type: ignore[arg-type]


def test_groups_that_do_not_divide_the_channels() -> None:
    message = "groups must divide the channels: got groups=2, channels=3"
    with pytest.raises(InputError, match=message):
        GroupNorm(groups=2).init(jax.random.key(0), jnp.zeros((2, 8, 3)))


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (24, 12), (63, 21), (64, 32), (112, 28), (512, 32)],
)
def test_group_normalization_has_at_most_32_groups_of_two_channels_or_more(
    channels: int, groups: int
) -> None:
    assert layers.normalization("group", channels) == (GroupNorm(groups),)


def test_local_response_norm_by_loops() -> None:
    x = 20 * np.random.default_rng(1).normal(size=(2, 3, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for b, i, c in np.ndindex(x.shape):
        near = [x[b, i, j] ** 2 for j in range(max(0, c - 2), min(6, c + 2) + 1)]
        expected[b, i, c] = x[b, i, c] / (2 + 1e-4 * sum(near)) ** 0.75
    y = LocalResponseNorm().apply({}, jnp.asarray(x))
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_local_response_norm_in_bfloat16_is_rounded_once() -> None:
    """Where Σ x² counts: the divisor is 2 to 3, and a power of a rounded one is off by more."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 5, 16)), jnp.bfloat16)
    layer = LocalResponseNorm(alpha=0.1)
    expected = layer.apply({}, x.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(layer.apply({}, x), expected)
