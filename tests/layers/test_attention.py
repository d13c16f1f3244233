"""Attention starts as a convolution, and is described as what sees all positions."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers import PositionalAttention
from cnn.layers.serialization import from_spec, to_spec
from cnn.probes import effective_receptive_field, learned_locality


def test_weights_have_the_documented_shapes_and_starts() -> None:
    layer = PositionalAttention(5, (3, 2), dilation=(1, 2), locality=4.0, gate=-1.0)
    made = layer.init(jax.random.key(0), jnp.zeros((1, 6, 6, 4)))["params"]
    assert made["kernel"].shape == (3, 2, 4, 5)
    assert made["bias"].shape == (5,)
    np.testing.assert_array_equal(made["query"], np.zeros((3, 2, 4, 4)))
    np.testing.assert_array_equal(made["offsets"][..., 0], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(made["offsets"][..., 1], [[0, 2], [0, 2], [0, 2]])
    np.testing.assert_array_equal(made["strengths"], np.full((3, 2), 4))
    np.testing.assert_array_equal(made["gates"], np.full((3, 2), -1))


def test_describe_says_that_it_sees_all_and_what_it_costs() -> None:
    """9 heads from 81 positions to 121 padded ones, and to 81 by content."""
    (layer,) = describe(PositionalAttention(5, 3, padding=1), (9, 9, 3)).layers
    assert (layer.kind, layer.shape, layer.field) == ("PositionalAttention", (9, 9, 5), None)
    assert layer.params == 9 * 3 * 5 + 5 + 9 * 3 * 3 + 9 * 2 + 9 + 9
    by_position, by_content = 9 * 81 * 121 * 3, 2 * 9 * 81 * 81 * 3
    assert layer.macs == by_position + by_content + 81 * 3 * 27 + 81 * 27 * 5


@pytest.mark.slow
def test_at_full_strength_it_sees_its_taps() -> None:
    x = jax.random.normal(jax.random.key(0), (1, 7, 7, 2))
    for strength, outside in [(30.0, (0, 1e-8)), (1.0, (1e-2, 1))]:
        layer = PositionalAttention(3, 3, padding=1, dilation=2, locality=strength, gate=30.0)
        f = partial(layer.apply, layer.init(jax.random.key(1), x))
        field = np.array(effective_receptive_field(f, x))
        field /= field.max()
        taps = np.ix_([1, 3, 5], [1, 3, 5])  # of the output at (2, 2), less the padding
        away = np.ones((7, 7), bool)
        away[taps] = False
        assert outside[0] <= field[away].max() <= outside[1]


@pytest.mark.slow
def test_training_moves_every_weight() -> None:
    """Content scores start at zero, but not at a saddle."""
    x = jax.random.normal(jax.random.key(0), (2, 6, 2))
    layer = PositionalAttention(3, 3, locality=1.0, gate=1.0)
    made = layer.init(jax.random.key(1), x)
    slopes = jax.grad(lambda w: (layer.apply(w, x) ** 2).sum())(made)["params"]
    assert all(float(jnp.abs(slope).min()) > 0 for slope in jax.tree.leaves(slopes))


def test_json_rebuilds_it() -> None:
    layer = PositionalAttention(8, (3, 3), locality=1.0, padding=1)
    assert from_spec(to_spec(layer)) == layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (PositionalAttention(4, 3, groups=3), "groups of PositionalAttention must be 1, got 3"),
        (PositionalAttention(4, 3, locality=0.0), r"locality must be positive, got 0\.0"),
        (PositionalAttention(4, (3, 3)), "window must be an int, or one int"),
    ],
)
def test_an_invalid_field_raises_one_line(layer: PositionalAttention, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        layer.init(jax.random.key(0), jnp.zeros((2, 8, 3)))
    assert "\n" not in str(error.value)


def test_its_kernel_has_no_locality() -> None:
    with pytest.raises(InputError, match="has no fixed offsets: its heads move"):
        learned_locality(jnp.ones((3, 1, 1)), PositionalAttention(1, 3), 1)
