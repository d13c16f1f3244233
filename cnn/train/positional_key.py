"""Random keys whose bits depend on the place of an example in the batch, not on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Int, Key, UInt32

Data = UInt32[Array, " 3"]
"""The data of a Threefry key, and the position of the first row."""


def positional_key(key: Key[Array, ""], first: Int[Array, ""] | int) -> Key[Array, ""]:
    """Return a key that draws rows `first`, `first + 1`, ... of one array that `key` determines.

    Row i of whatever is drawn, for any module and by any function of `jax.random`, is that of
    position `first + i`. So devices that hold parts of a batch draw parts of one mask, if the first
    axis of the mask is the batch. Keys that are folded in or split keep the position.
    """
    words = jax.random.bits(key, (2,), "uint32")
    return jax.random.wrap_key_data(jnp.append(words, jnp.uint32(first)), impl=POSITIONAL)


def _threefry(data: Data) -> Key[Array, ""]:
    return jax.random.wrap_key_data(data[:2], impl="threefry2x32")


def _seed(seed: Int[Array, ""]) -> Data:
    return jnp.append(jax.random.key_data(jax.random.key(seed, impl="threefry2x32")), jnp.uint32(0))


def _fold_in(data: Data, number: Int[Array, ""] | int) -> Data:
    folded = jax.random.key_data(jax.random.fold_in(_threefry(data), number))
    return jnp.append(folded, data[2])


def _split(data: Data, shape: tuple[int, ...]) -> UInt32[Array, "*shape 3"]:
    keys = jax.random.key_data(jax.random.split(_threefry(data), shape))
    return jnp.concatenate([keys, jnp.broadcast_to(data[2:], (*shape, 1))], axis=-1)


def _random_bits(data: Data, bit_width: int, shape: tuple[int, ...]) -> Array:
    key, dtype = _threefry(data), f"uint{bit_width}"
    if not shape:
        return jax.random.bits(key, (), dtype)

    def row(position: UInt32[Array, ""]) -> Array:
        return jax.random.bits(jax.random.fold_in(key, position), shape[1:], dtype)

    return jax.vmap(row)(data[2] + jnp.arange(shape[0], dtype=jnp.uint32))


POSITIONAL = define_prng_impl(
    key_shape=(3,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="positional",
    tag="positional",
)
