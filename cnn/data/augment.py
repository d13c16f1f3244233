"""Random augmentations: pure functions `f(key, x)` of one example `(*spatial, channels)`.

They run on the device. Values beyond the border are zero, the mean of standardized data. Sizes are
fractions of the side: a crop of CIFAR-10 pads by 4 of 32 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from cnn.errors import unknown_name

Example = Float[Array, "*spatial channels"]


def crop(key: Key[Array, ""], x: Example) -> Example:
    """Pad each side with zeros by an eighth of its length, and crop a random window."""
    margins = [n // 8 for n in x.shape[:-1]]
    padded = jnp.pad(x, [*((m, m) for m in margins), (0, 0)])
    start = jax.random.randint(key, (len(margins),), 0, 2 * jnp.array(margins) + 1)
    return lax.dynamic_slice(padded, (*start, 0), x.shape)


def flip(key: Key[Array, ""], x: Example) -> Example:
    """Flip the last spatial axis (left and right) with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), x[..., ::-1, :], x)


def shift(key: Key[Array, ""], x: Example) -> Example:
    """Shift circularly by up to an eighth along each axis."""
    limit = jnp.array([n // 8 for n in x.shape[:-1]])
    by = jax.random.randint(key, limit.shape, -limit, limit + 1)
    return jnp.roll(x, by, axis=tuple(range(x.ndim - 1)))


def cutout(key: Key[Array, ""], x: Example) -> Example:
    """Set a window of half the side to zero, at a random centre (DeVries & Taylor 2017)."""
    sizes = x.shape[:-1]
    centre = jax.random.randint(key, (len(sizes),), 0, jnp.array(sizes))
    inside = jnp.ones((), bool)
    for i, n, c in zip(jnp.indices(sizes, sparse=True), sizes, centre, strict=True):
        inside = inside & (i >= c - n // 4) & (i < c - n // 4 + n // 2)
    return jnp.where(inside[..., None], 0, x)


AUGMENTATIONS = {f.__name__: f for f in (crop, flip, shift, cutout)}


def augment(
    names: Sequence[str],
    key: Key[Array, ""],
    positions: Int[Array, " batch"],
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch *spatial channels"]:
    """Apply the named augmentations in turn, each example with a key of its position in the batch.

    So the result does not depend on how many devices split the batch.

    Raises:
        InputError: If a name is unknown.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, AUGMENTATIONS)
        key, subkey = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(subkey, positions)
        x = jax.vmap(AUGMENTATIONS[name])(keys, x)
    return x
