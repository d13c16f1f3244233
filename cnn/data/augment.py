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


def mixup(key: Key[Array, ""], x: Example, other: Example) -> tuple[Example, Float[Array, ""]]:
    """Return λ x + (1 - λ) other and λ, uniform from 0 to 1 (Zhang et al. 2018, with α = 1)."""
    share = jax.random.uniform(key)
    return share * x + (1 - share) * other, share


def cutmix(key: Key[Array, ""], x: Example, other: Example) -> tuple[Example, Float[Array, ""]]:
    """Paste a window of `other` into `x`; return that and the share of positions left of `x`.

    The window has the proportions of the example, a random centre, and a share of the area that is
    uniform from 0 to 1, before the border cuts it off (Yun et al. 2019, with α = 1).
    """
    sizes = x.shape[:-1]
    area_key, centre_key = jax.random.split(key)
    side = jax.random.uniform(area_key) ** (1 / len(sizes))
    centre = jax.random.randint(centre_key, (len(sizes),), 0, jnp.array(sizes))
    inside = jnp.ones((), bool)
    for i, n, c in zip(jnp.indices(sizes, sparse=True), sizes, centre, strict=True):
        start = c - (side * n / 2).astype(int)
        inside = inside & (i >= start) & (i < start + (side * n).astype(int))
    return jnp.where(inside[..., None], other, x), 1 - inside.mean()


MIXING = {f.__name__: f for f in (mixup, cutmix)}
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
            raise unknown_name("augmentation", name, [*AUGMENTATIONS, *MIXING])
        key, subkey = jax.random.split(key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(subkey, positions)
        x = jax.vmap(AUGMENTATIONS[name])(keys, x)
    return x


def mix(
    name: str,
    key: Key[Array, ""],
    positions: Int[Array, " batch"],
    x: Float[Array, "batch *spatial channels"],
) -> tuple[Float[Array, "batch *spatial channels"], Float[Array, " batch"]]:
    """Mix each example with its neighbour, 2i with 2i + 1, and return also its own share.

    Both of a pair are mixed in the same way. Devices must have whole pairs.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, positions // 2)
    return jax.vmap(MIXING[name])(keys, x, partners(x))


def partners(a: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """Return the array with the entries 2i and 2i + 1 exchanged."""
    return a.reshape(-1, 2, *a.shape[1:])[:, ::-1].reshape(a.shape)
