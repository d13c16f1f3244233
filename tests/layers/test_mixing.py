"""Token mixing: one matrix over positions, shared by all channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers import Chain, Conv, GlobalAvgPool, ReLU, Residual, TokenMixing
from cnn.layers.serialization import from_spec, to_spec


def test_weights_have_the_documented_shapes() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 3))
    y, made = TokenMixing(3, 1).init_with_output(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, made["params"]) == {"kernel": (6, 5, 6, 5), "bias": (6, 5)}
    np.testing.assert_allclose(y, ops.token_mixing(x, made["params"]["kernel"]), rtol=1e-6)
    small = TokenMixing(3, (2, 2), strides=2, use_bias=False)
    y, made = jax.eval_shape(small.init_with_output, jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, made["params"]) == {"kernel": (6, 5, 3, 2)}
    assert y.shape == (2, 3, 2, 3)


def test_it_starts_with_the_output_variance_of_the_other_layers() -> None:
    x = jax.random.normal(jax.random.key(0), (64, 20, 20, 4)) + 1.0  # E[x²] = 2
    y, _ = jax.jit(TokenMixing(4, 1, scale=1.5).init_with_output)(jax.random.key(1), x)
    assert float((y**2).mean()) / (1.5 * 2) == pytest.approx(1.0, abs=0.1)


def test_describe_says_that_it_sees_all_and_what_it_costs() -> None:
    """A small mixer: a patch stem of 4×4, then positions, then channels."""
    stem = Conv(8, 4, strides=4)
    model = Chain((stem, Residual(TokenMixing(8, 1)), ReLU(), Conv(8, 1), GlobalAvgPool()))
    patches, mixed = describe(model, (16, 16, 3)).layers[:2]
    assert patches.field is not None and patches.field.size == (4, 4)
    assert (mixed.kind, mixed.field, mixed.unknown) == ("TokenMixing", None, "")
    assert mixed.params == 16 * 16 + 16
    assert mixed.macs == 16 * 16 * 8


def test_json_rebuilds_it() -> None:
    layer = TokenMixing(8, (1, 1), strides=2)
    assert from_spec(to_spec(layer)) == layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (TokenMixing(4, 1), "features of TokenMixing must be the 3 input channels, got 4: a point"),
        (TokenMixing(3, 1, groups=3), "groups of TokenMixing must be 1, got 3"),
        (TokenMixing(3, 1, padding_mode="circular"), "must be 'zeros', got 'circular'"),
        (TokenMixing(3, 9), "window must fit into the padded size 8"),
    ],
)
def test_an_invalid_field_raises_one_line(layer: TokenMixing, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        layer.init(jax.random.key(0), jnp.zeros((2, 8, 3)))
    assert "\n" not in str(error.value)
