"""Random changes of examples that keep their class: pure functions of a key, run on the device.

Each is `f(key, x)` for one example `(*spatial, channels)` of any rank. What comes in from beyond
the border is zero, the mean of standardised data. Sizes are shares of the side, so that one name
means the same for all data: a crop of CIFAR-10 pads by 4 of 32 positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

Example = Float[Array, "*spatial channels"]


def crop(key: Key[Array, ""], x: Example) -> Example:
    """Pad every side by an eighth with zeros and take a window of the old size anywhere."""
    margins = [n // 8 for n in x.shape[:-1]]
    padded = jnp.pad(x, [*((m, m) for m in margins), (0, 0)])
    start = jax.random.randint(key, (len(margins),), 0, 2 * jnp.array(margins) + 1)
    return lax.dynamic_slice(padded, (*start, 0), x.shape)


def flip(key: Key[Array, ""], x: Example) -> Example:
    """Mirror the last spatial axis (left and right) with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key), x[..., ::-1, :], x)


def shift(key: Key[Array, ""], x: Example) -> Example:
    """Move by up to an eighth along each axis; what leaves on one side comes in on the other."""
    most = jnp.array([n // 8 for n in x.shape[:-1]])
    by = jax.random.randint(key, most.shape, -most, most + 1)
    return jnp.roll(x, by, axis=tuple(range(x.ndim - 1)))


def cutout(key: Key[Array, ""], x: Example) -> Example:
    """Set a window of half the side to zero, its centre anywhere (DeVries & Taylor 2017)."""
    sizes = x.shape[:-1]
    start = jax.random.randint(key, (len(sizes),), 0, jnp.array(sizes))
    inside = jnp.ones((), bool)
    for axis, n in enumerate(sizes):
        distance = jnp.arange(n) - (start[axis] - n // 4)
        within = (distance >= 0) & (distance < n // 2)
        inside = inside & jnp.expand_dims(within, [d for d in range(x.ndim) if d != axis])
    return jnp.where(inside, 0, x)


NAMED: dict[str, Callable[[Array, Array], Array]] = {
    "crop": crop,
    "flip": flip,
    "shift": shift,
    "cutout": cutout,
}


def augment(
    names: Sequence[str],
    key: Key[Array, ""],
    positions: Int[Array, " batch"],
    x: Float[Array, "batch *spatial channels"],
) -> Float[Array, "batch *spatial channels"]:
    """Apply the named changes in turn, to each example by a key of its position in the batch.

    So what happens to an example does not depend on how many devices split the batch.
    """
    for name in names:
        key, own = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(own, positions)
        x = jax.vmap(NAMED[name])(keys, x)
    return x
