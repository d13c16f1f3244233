"""What each primitive sees: against derivatives, and against changes of one pixel."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array

from cnn.geometry.reading import read_function
from cnn.geometry.seen import EXACT, NOTHING

N, CHANNELS = 8, 2
Function = Callable[[Array], Array]


def changed(f: Function, draws: int = 12) -> np.ndarray:
    """Return which pixels can change each entry of f(x): (*output, n), by changing each in turn."""
    x = jax.random.normal(jax.random.key(0), (draws, 1, N, CHANNELS))
    other = jax.random.normal(jax.random.key(1), (draws, N, 1, N, CHANNELS))
    here = jnp.eye(N)[:, None, :, None]
    moved = jnp.where(here == 1, other * 3, x[:, None])
    run = jax.jit(jax.vmap(f))
    change = jnp.abs(jax.jit(jax.vmap(run))(moved) - run(x)[:, None])
    return np.moveaxis(np.asarray((change > 1e-5).any(0)), 0, -1)  # less is rounding


def seen(f: Function) -> np.ndarray:
    """Return which pixels each entry of f(x) may see, as read from the program: (*output, n)."""
    reading = read_function(lambda _, x: f(x), {}, (N, CHANNELS))
    (output,) = reading.outputs
    first, last = np.broadcast_to(output.seen[0].bounds[EXACT], (2, *output.shape))
    p = np.arange(N)
    return (first[..., None] <= p) & (p <= -last[..., None]) & (first[..., None] < NOTHING)


def hulls(mask: np.ndarray) -> np.ndarray:
    """Return the mask with all pixels between the first and the last one set."""
    return np.logical_or.accumulate(mask, -1) & np.flip(
        np.logical_or.accumulate(np.flip(mask, -1), -1), -1
    )


def weights(*shape: int) -> Array:
    return jax.random.normal(jax.random.key(2), shape)


def conv(x: Array, window: int = 3, stride: int = 1, **options: object) -> Array:
    kernel = weights(window, x.shape[-1] // int(options.pop("groups", 1)), 4)  # type: ignore[call-overload]
    groups = x.shape[-1] // kernel.shape[1]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        options.pop("padding", "VALID"),  # type: ignore[arg-type]
        dimension_numbers=("NHC", "HIO", "NHC"),
        feature_group_count=groups,
        **options,  # type: ignore[arg-type]
    )


def pool(x: Array, kind: Function, start: float, window: int = 3, stride: int = 2) -> Array:
    return lax.reduce_window(x, start, kind, (1, window, 1), (1, stride, 1), "SAME")  # type: ignore[arg-type]


def attention(x: Array) -> Array:
    scores = jax.nn.softmax(jnp.einsum("bnc,bmc->bnm", x, x @ weights(CHANNELS, CHANNELS)))
    return jnp.einsum("bnm,bmc->bnc", scores, x)


def steps(x: Array) -> Array:
    def step(carry: Array, row: Array) -> tuple[Array, Array]:
        carry = jnp.tanh(carry + row)
        return carry, carry

    return lax.scan(step, x[:, 0], jnp.moveaxis(x, 1, 0))[1].swapaxes(0, 1)


@jax.custom_vjp
def doubled(x: Array) -> Array:
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

FUNCTIONS: dict[str, Function] = {
    "conv": lambda x: conv(x, padding="SAME"),
    "strided": lambda x: conv(x, 3, 2),
    "dilated": lambda x: conv(x, 3, rhs_dilation=(3,)),
    "negative padding": lambda x: conv(x, 3, padding=((-1, 2),)),
    "transposed": lambda x: conv(x, 3, padding=((2, 2),), lhs_dilation=(2,)),
    "transposed, gaps": lambda x: conv(x, 2, padding=((1, 1),), lhs_dilation=(3,)),
    "grouped": lambda x: conv(x, 3, groups=2),
    "channels first": lambda x: lax.conv_general_dilated(
        x.swapaxes(1, 2), weights(4, 2, 3), (2,), "SAME", dimension_numbers=("NCH", "OIH", "NCH")
    ),
    "max_pool": lambda x: pool(x, lax.max, -jnp.inf),
    "sum_pool": lambda x: pool(x, lax.add, 0.0, 2, 1),
    "min_pool": lambda x: pool(x, lax.min, jnp.inf),
    "mean": lambda x: x.mean(1),
    "some": lambda x: x[:, 2:5].max(1),
    "argmax": lambda x: jnp.argmax(x[:, 1:4], 1),
    "cumsum": lambda x: jnp.cumsum(x, 1),
    "cummax, reverse": lambda x: lax.cummax(x, 1, reverse=True),
    "cumprod of channels": lambda x: jnp.cumprod(x, 2),
    "sort": lambda x: jnp.sort(x, 1),
    "sort channels": lambda x: jnp.sort(x, 2),
    "top_k": lambda x: lax.top_k(x[:, 2:6, 0], 2)[0],
    "take": lambda x: x[:, np.array([3, 1, 1, 7])],
    "take everywhere": lambda x: jnp.take(x, jnp.arange(x.shape[1])[::-1], 1),
    "embedding": lambda x: weights(5, 3)[(jnp.abs(x) * 2).astype(int).clip(0, 4)],
    "slice": lambda x: x[:, 1:7:3],
    "dynamic_slice": lambda x: lax.dynamic_slice_in_dim(x, jnp.argmax(x[0, :, 0]), 3, 1),
    "known dynamic_slice": lambda x: lax.dynamic_slice_in_dim(x, jnp.int32(2) + 1, 3, 1),
    "set": lambda x: x.at[:, 3].set(1.0),
    "add at": lambda x: x.at[:, np.array([0, 0])].add(x[:, 4:6]),
    "update slice": lambda x: lax.dynamic_update_slice(x, x[:, :2] * 2, (0, 5, 0)),
    "pad": lambda x: lax.pad(x, 0.0, ((0, 0, 0), (2, -1, 1), (0, 0, 0))),
    "concatenate": lambda x: jnp.concatenate([x[:, 4:], x[:, :2], jnp.zeros((1, 3, 2))], 1),
    "concatenate channels": lambda x: jnp.concatenate([x, jnp.roll(x, 1, 1)], 2),
    "roll": lambda x: jnp.roll(x, 3, 1),
    "stack": lambda x: jnp.stack([x, x[:, ::-1]], 1),
    "tile": lambda x: jnp.tile(x, (1, 2, 1)),
    "repeat": lambda x: jnp.repeat(x, 3, 1),
    "split": lambda x: jnp.split(x, 4, 1)[2],
    "patches": lambda x: x.reshape(1, 4, 2 * CHANNELS) @ weights(4, 3),
    "space to depth": lambda x: x.reshape(1, 4, 2, CHANNELS).swapaxes(2, 3).reshape(1, 4, 4) ** 2,
    "depth to space": lambda x: x.reshape(1, 16, 1) + 1,
    "flatten": lambda x: x.reshape(1, -1),
    "dense": lambda x: x.reshape(1, -1) @ weights(16, 3),
    "masked dense": lambda x: x[..., 0] @ (weights(8, 8) * np.tri(8, dtype=np.float32)),
    "masked by where": lambda x: x[..., 0] @ jnp.where(np.eye(8) == 1, weights(8, 8), 0.0),
    "two factors": lambda x: x * x[:, ::-1],
    "gate": lambda x: x * jax.nn.sigmoid(x.mean(1, keepdims=True)),
    "group norm": lambda x: (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True),
    "layer norm": lambda x: (x - x.mean(2, keepdims=True)) / (1 + x.std(2, keepdims=True)),
    "attention": attention,
    "fft": lambda x: jnp.abs(jnp.fft.rfft(x, axis=1)),
    "resize": lambda x: jax.image.resize(x, (1, 12, CHANNELS), "linear"),
    "nearest": lambda x: jax.image.resize(x, (1, 4, CHANNELS), "nearest"),
    "scan": steps,
    "reverse scan": lambda x: lax.scan(
        lambda c, r: (c + r, c), jnp.zeros((1, 2)), x.swapaxes(0, 1), reverse=True
    )[1],
    "fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: c + jnp.roll(c, 1, 1), x),
    "while": lambda x: lax.while_loop(lambda y: jnp.abs(y).sum() < 50, lambda y: 2 * y, x),
    "cond": lambda x: lax.cond(x[0, 0, 0] > 0, lambda y: y[:, 1:], lambda y: 2 * y[:, :-1], x),
    "switch": lambda x: lax.switch(1, [lambda y: y, lambda y: y[:, ::-1]], x) + 0,
    "remat": jax.checkpoint(lambda x: conv(jnp.tanh(x))),
    "custom_vjp": lambda x: conv(doubled(x)),
    "relu": lambda x: conv(jax.nn.relu(x)),
    "vmap": lambda x: jax.vmap(jnp.sin)(x)[:, 1:],
    "rev": lambda x: lax.rev(x, (1,)) + 0,
    "clip": lambda x: jnp.clip(x, -1, 1),
    "barrier": lambda x: lax.optimization_barrier((x, x[:, ::-1]))[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_primitive_sees(name: str) -> None:
    f = FUNCTIONS[name]
    assert seen(f).tolist() == hulls(changed(f)).tolist()


CHAINED = [
    *("conv", "strided", "dilated", "negative padding", "transposed", "grouped", "max_pool"),
    *(
        "sum_pool",
        "cumsum",
        "take everywhere",
        "slice",
        "set",
        "pad",
        "roll",
        "tile",
        "two factors",
    ),
    *("concatenate channels", "layer norm", "relu", "remat", "clip", "rev", "sort channels"),
]


@pytest.mark.slow
@hypothesis.given(st.lists(st.sampled_from(CHAINED), min_size=1, max_size=3), st.booleans())
def test_chains_and_branches(names: list[str], branch: bool) -> None:
    """A unit sees the pixels from the first to the last of those that change it."""

    def f(x: Array) -> Array:
        y = x
        for name in names:
            if y.shape[1] < 4 or y.shape[1] > 24 or y.shape[-1] % 2:
                break
            y = FUNCTIONS[name](y)
        return y + x[:, : y.shape[1], :1].sum(1, keepdims=True) if branch else y

    found, true = seen(f), hulls(changed(f, 24))
    assert found.tolist() == true.tolist()


def test_a_primitive_that_is_not_known_is_named() -> None:
    reading = read_function(lambda _, x: jnp.linalg.qr(x)[0] + 1, {}, (N, CHANNELS))
    assert reading.outputs[0].unknown == "qr"
    assert reading.rows.rows[0].macs is None


def test_what_is_seen_is_forgotten_with_the_value() -> None:
    """Each unit of a flat 64×64 map has bounds of its own: 4 × 4 bytes × 2 axes, 131 KB a value."""

    def fifty_values(params: object, x: Array) -> Array:
        y = x.reshape(1, -1)
        for _ in range(50):
            y = jnp.tanh(y) + y
        return y

    tracemalloc.start()
    read_function(fifty_values, {}, (64, 64, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 131e3
