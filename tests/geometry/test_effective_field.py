"""How a unit's weight is distributed over its field: closed forms."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import models
from cnn.errors import InputError
from cnn.geometry import describe, spread, uniform_field
from cnn.layers import Chain, Conv


@pytest.mark.parametrize("n", [1, 3, 8])
def test_uniform_stack(n: int) -> None:
    """n convolutions with windows of 3: field 2n + 1, standard deviation √(2n / 3)."""
    model = Chain(tuple(Conv(1, (3, 3)) for _ in range(n)))
    shape = (2 * n + 5, 2 * n + 3, 1)
    assert describe(model, shape).receptive_field == (2 * n + 1,) * 2
    density = uniform_field(model, shape)
    assert density.sum() == pytest.approx(1)
    assert spread(density) == pytest.approx((math.sqrt(2 * n / 3),) * 2, rel=1e-5)


def test_random_weights_spread_like_uniform_ones() -> None:
    """The mean square gradient over weights, without nonlinearities (Luo et al. 2016, 2.2)."""
    model = Chain(tuple(Conv(8, 3, use_bias=False) for _ in range(4)))

    @jax.jit
    def energy(key: jax.Array) -> jax.Array:
        x = jnp.ones((1, 13, 1))
        variables = model.init(key, x)
        return jnp.square(jax.grad(lambda x: model.apply(variables, x)[0, 2].sum())(x))[0, :, 0]

    density = np.mean([energy(key) for key in jax.random.split(jax.random.key(0), 300)], 0)
    assert spread(density)[0] == pytest.approx(math.sqrt(2 * 4 / 3), rel=0.05)
    assert spread(density) == pytest.approx(spread(uniform_field(model, (13, 1))), rel=0.05)


def test_spread_by_hand() -> None:
    """Half at 0 and half at 4: 2 from the mean. One row: nothing across it."""
    assert spread(np.array([[1.0, 0, 0, 0, 1.0]])) == (0.0, 2.0)


def test_a_unit_that_sees_only_padding_has_no_weight() -> None:
    assert uniform_field(Conv(1, 1, padding=2), (3, 1), unit=(0,)).tolist() == [0, 0, 0]


def test_unknown_layer_and_unit() -> None:
    model = models.lecture_cnn()
    with pytest.raises(InputError, match=r"unknown layer 'layer_3': did you mean 'layers_3'"):
        uniform_field(model, (28, 28, 1), "layer_3")
    with pytest.raises(InputError, match=r"unit must be .* of size \(4, 4\), got \(4, 0\)"):
        uniform_field(model, (28, 28, 1), unit=(4, 0))


class Squeezed(nn.Module):
    """A convolution, its map shifted, and one behind a statistic of the map."""

    shift: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Conv(2, (3,))(x)
        if self.shift:
            return jnp.roll(y, self.shift, 1)
        return nn.Conv(2, (3,))(y * y.mean(1, keepdims=True))


def test_the_field_is_that_of_the_last_map_and_not_of_what_moves_it() -> None:
    """By hand: unit 6 of 12 sees pixels 5 to 7, and behind two convolutions all are reached."""
    assert set(np.flatnonzero(uniform_field(Squeezed(2), (12, 1)))) == {5, 6, 7}
    assert len(np.flatnonzero(uniform_field(Squeezed(), (12, 1)))) == 12
