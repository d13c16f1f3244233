"""Factorization: equal functions and parameter counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations
from cnn.errors import LayerError
from cnn.layers import Chain, Conv, ConvLocal, ReLU


@pytest.mark.parametrize(
    "layer",
    [
        Conv(1, (7,), use_bias=False),
        Conv(1, (7,), padding=3, use_bias=False),
        Conv(1, (7,), padding="SAME", use_bias=False),
        Conv(1, (7,), padding="FULL", use_bias=False),
        Conv(1, (7,), strides=2, padding=((3, 1),), use_bias=False),
        Conv(1, (7,), padding=3, padding_mode="circular", use_bias=False),
        Conv(1, (7,), padding=6, dilation=2, padding_mode="reflect", use_bias=False),
    ],
    ids=["valid", "padded", "same", "full", "strided", "circular", "dilated"],
)
def test_a_linear_stack_of_threes_is_one_large_window(layer: Conv) -> None:
    """The product of three polynomials of degree 2, its coefficients by `numpy.convolve`."""
    stack = ablations.factorize(layer)
    assert [part.window for part in stack.layers] == [(3,)] * 3
    x = jax.random.normal(jax.random.key(0), (2, 20, 1))
    made = stack.init(jax.random.key(1), x)
    factors = [np.asarray(made["params"][f"layers_{i}"]["kernel"]).ravel() for i in range(3)]
    product = np.convolve(np.convolve(factors[0], factors[1]), factors[2])
    whole = layer.apply({"params": {"kernel": jnp.asarray(product).reshape(7, 1, 1)}}, x)
    np.testing.assert_allclose(stack.apply(made, x), whole, atol=1e-5)


def test_factors_by_hand() -> None:
    five = Conv(2, (5, 5), strides=2, padding="SAME")
    assert ablations.factorize(five, ReLU()) == Chain(
        (five.clone(window=(3, 3), strides=1), ReLU(), five.clone(window=(3, 3)))
    )
    assert ablations.factorize(Conv(2, (5, 1)), ReLU()).layers[0].window == (3, 1)
    assert ablations.factorize(Conv(2, (3, 3))) == Conv(2, (3, 3))
    with pytest.raises(LayerError, match=r"window must be odd, got \(4,\)"):
        ablations.factorize(Conv(2, (4,)))
    with pytest.raises(LayerError, match=r"layer layers_0: .* not apply to ConvLocal"):
        ablations.factorize(Chain((ConvLocal(2, (5,)),)))
    x = jnp.zeros((1, 8, 8, 16))

    def weights(model: nn.Module) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0), x)))

    lecture = Conv(32, (3, 3), use_bias=False)
    assert weights(ablations.separate(lecture)) == 656  # of 4,608
    assert weights(ablations.separate(lecture, 2)) == 1312
    assert weights(ablations.group(lecture, 4)) == 4608 // 4
    assert weights(ablations.bottleneck(lecture, 4)) == 16 * 4 + 9 * 4 * 32
    assert weights(ablations.bottleneck(lecture, 4, ReLU())) == 16 * 4 + 4 + 9 * 4 * 32
    assert ablations.separate(Conv(8, (1, 1))) == Conv(8, (1, 1))
    depthwise = Conv(16, (3, 3), groups=16)
    assert ablations.separate(depthwise) == depthwise
    with pytest.raises(LayerError, match="layer layers_0: groups must be 1, got 2"):
        ablations.separate(Chain((Conv(8, (3, 3), groups=2),)))
