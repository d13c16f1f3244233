"""Keys that draw rows by their position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.train.positional_key import POSITIONAL, positional_key


@pytest.mark.parametrize(
    "draw",
    [
        lambda key, rows: jax.random.bernoulli(key, 0.3, (rows, 5)),
        lambda key, rows: jax.random.normal(jax.random.fold_in(key, 7), (rows, 2, 3)),
        lambda key, rows: jax.random.uniform(jax.random.split(key, 3)[1], (rows,)),
    ],
    ids=["drawn", "folded", "split"],
)
def test_parts_of_a_batch_draw_parts_of_one_array(draw) -> None:
    key = jax.random.key(3)
    whole = draw(positional_key(key, 0), 6)
    for first in (2, 3):
        part = draw(positional_key(key, jnp.int32(first)), 2)
        np.testing.assert_array_equal(part, whole[first : first + 2])
    assert len(np.unique(whole, axis=0)) == 6 or whole.dtype == bool


def test_drawn_values_are_independent_and_have_their_distribution() -> None:
    """Of 4 · 10⁴ Bernoulli(0.3), the mean is within 4 standard errors, and so is that of products
    of neighbours, across rows, columns, keys and steps: 0.09."""
    keys = [positional_key(jax.random.key(seed), 0) for seed in (0, 1)]
    folded = positional_key(jax.random.fold_in(jax.random.key(0), 1), 0)
    a, b, c = (np.asarray(jax.random.bernoulli(k, 0.3, (200, 200))) for k in (*keys, folded))
    assert abs(a.mean() - 0.3) < 4 * np.sqrt(0.21 / 4e4)
    for other in (np.roll(a, 1, axis=0), np.roll(a, 1, axis=1), b, c):
        assert abs((a & other).mean() - 0.09) < 4 * np.sqrt(0.09 * 0.91 / 4e4)


def test_a_key_of_a_seed_and_a_scalar() -> None:
    key = jax.random.key(5, impl=POSITIONAL)
    assert key.shape == ()
    one, other = (float(jax.random.uniform(jax.random.fold_in(key, i))) for i in (0, 1))
    assert one != other
    assert 0 <= one < 1
