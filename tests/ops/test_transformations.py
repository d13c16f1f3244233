"""Every operation under `jit`, `vmap`, `grad` to second order and `export`, in bfloat16, empty."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.ops import filters
from cnn.ops.implementations import use

STRIDED = {"strides": 2, "padding": ((1, 2),), "padding_mode": "reflect"}
GROUPED = {**STRIDED, "groups": 2, "dilation": 2}
SIGNAL = (2, 7, 2)

OPERATIONS: dict[str, tuple[Callable[..., jax.Array], list[tuple[int, ...]]]] = {
    "conv": (lambda *a: ops.conv(*a, **GROUPED), [SIGNAL, (3, 1, 4), (4,)]),
    "convolve": (lambda *a: ops.convolve(*a, **STRIDED), [SIGNAL, (3, 2, 3), (3,)]),
    "conv_transpose": (
        lambda *a: ops.conv_transpose(*a, **GROUPED, output_shape=7),
        [(2, 3, 4), (3, 1, 4), (2,)],
    ),
    "conv_tiled": (lambda *a: ops.conv_tiled(*a, **GROUPED), [SIGNAL, (2, 3, 1, 4), (2, 4)]),
    "conv_local": (lambda *a: ops.conv_local(*a, **STRIDED), [SIGNAL, (4, 3, 2, 3), (4, 3)]),
    "conv_group": (
        lambda *a: ops.conv_group(*a, group="flip", strides=2, padding=1),
        [SIGNAL, (3, 2, 1, 2), (2,)],
    ),
    "group_pool": (lambda x: ops.group_pool(x, "flip"), [SIGNAL]),
    "positional_attention": (
        lambda *a: ops.positional_attention(*a[:4], a[4] / 10, *a[5:], **STRIDED),
        [SIGNAL, (3, 2, 3), (3, 2, 2), (3, 1), (3,), (3,), (3,)],
    ),
    "token_mixing": (ops.token_mixing, [SIGNAL, (7, 3), (3,)]),
    "dense_spatial": (ops.dense_spatial, [SIGNAL, (7, 2, 3, 2), (3, 2)]),
    "depthwise_conv": (lambda *a: ops.depthwise_conv(*a, **STRIDED), [SIGNAL, (3, 1, 4), (4,)]),
    "pointwise_conv": (ops.pointwise_conv, [SIGNAL, (2, 3), (3,)]),
    "separable_conv": (
        lambda *a: ops.separable_conv(*a, **STRIDED),
        [SIGNAL, (3, 1, 4), (4, 3), (3,)],
    ),
    "conv_matrix": (lambda a: ops.conv_matrix(a, (7, 2), **GROUPED), [(3, 1, 4)]),
    "patches": (lambda x: ops.patches(x, 3, **STRIDED), [SIGNAL]),
    "max_pool": (lambda x: ops.max_pool(x, 3, strides=2, padding=1), [SIGNAL]),
    "max_pool_dilated": (lambda x: ops.max_pool(x, 2, padding=1, dilation=2), [SIGNAL]),
    "avg_pool": (lambda x: ops.avg_pool(x, 3, strides=2, padding=1, dilation=2), [SIGNAL]),
    "adaptive_max_pool": (lambda x: ops.adaptive_max_pool(x, 3), [SIGNAL]),
    "adaptive_avg_pool": (lambda x: ops.adaptive_avg_pool(x, 3), [SIGNAL]),
    "global_max_pool": (ops.global_max_pool, [SIGNAL]),
    "global_avg_pool": (ops.global_avg_pool, [SIGNAL]),
    "max_pool_channels": (lambda x: ops.max_pool_channels(x, 2), [SIGNAL]),
    "blur_pool": (ops.blur_pool, [SIGNAL]),
    "finite_difference": (
        lambda x: ops.depthwise_conv(x, jnp.tile(filters.finite_difference().astype(x.dtype), 2)),
        [SIGNAL],
    ),
}
operations = pytest.mark.parametrize("name", OPERATIONS)


def draw(name: str, copies: tuple[int, ...] = ()) -> tuple[Callable[..., jax.Array], list]:
    """Return an operation with arrays for it; no two values are closer than 0.03."""
    op, shapes = OPERATIONS[name]
    rng = np.random.default_rng(0)
    sizes = [int(np.prod((*copies, *shape))) for shape in shapes]
    values = [rng.permutation(np.linspace(-2, 2, n, dtype=np.float32)) for n in sizes]
    return op, [v.reshape(*copies, *shape) for v, shape in zip(values, shapes, strict=True)]


@operations
def test_values_and_gradients_mapped_in_bfloat16_and_one_by_one_in_float32(name: str) -> None:
    """Compare `jit`, `vmap` over every argument and `vjp` in bfloat16 with float32, in one go."""
    op, arrays = draw(name, copies=(2,))
    halves = [a.astype(jnp.bfloat16) for a in arrays]

    @jax.jit
    def value_and_gradients(*arrays: jax.Array) -> tuple:
        y, backward = jax.vjp(op, *arrays)
        return y, *backward(jnp.ones_like(y))

    rough = jax.device_get(jax.vmap(value_and_gradients)(*halves))
    for i in range(2):
        fine = jax.device_get(value_and_gradients(*[h[i].astype(np.float32) for h in halves]))
        for r, f in zip(rough, fine, strict=True):
            assert r.dtype == jnp.bfloat16
            assert f.dtype == jnp.float32
            close = 0.01 * np.abs(f).max()
            assert_allclose(r[i].astype(np.float32), f, rtol=0.01, atol=close)


def sum_of_squares(op: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Square the outputs, so that linear operations have a second derivative."""
    return lambda *arrays: jnp.sum(op(*arrays) ** 2)


@operations
def test_first_and_second_derivative_along_a_direction(name: str) -> None:
    """Reverse mode, and reverse over reverse, against finite differences in float64."""
    op, arrays = draw(name)
    rng = np.random.default_rng(1)
    f, h = sum_of_squares(op), 1e-3
    with jax.enable_x64(True):
        x = [a.astype(np.float64) for a in arrays]
        v = [rng.uniform(-1, 1, a.shape) for a in x]

        def slope(x: list[jax.Array]) -> jax.Array:
            gradients = jax.grad(lambda x: f(*x))(x)
            return sum(jnp.vdot(g, d) for g, d in zip(gradients, v, strict=True))

        first, gradients = jax.jit(jax.value_and_grad(slope))(x)
        second = sum(np.vdot(g, d) for g, d in zip(gradients, v, strict=True))
        at = jax.jit(f)
        before, here, after = (
            float(at(*[a + t * d for a, d in zip(x, v, strict=True)])) for t in (-h, 0, h)
        )
    assert_allclose(first, (after - before) / (2 * h), rtol=1e-4)
    assert_allclose(second, (after - 2 * here + before) / h**2, rtol=1e-4)


@pytest.mark.slow
@operations
def test_gradients_in_every_order_of_modes(name: str) -> None:
    op, arrays = draw(name)
    with jax.enable_x64(True):
        x = [jnp.asarray(a, jnp.float64) for a in arrays]
        check_grads(jax.jit(sum_of_squares(op)), x, order=2, atol=1e-4, rtol=1e-4, eps=1e-4)


def test_mixed_types_compute_in_the_wider_one() -> None:
    x, kernel = jnp.ones((1, 4, 1), jnp.bfloat16), jnp.ones((2, 1, 1), jnp.float32)
    assert ops.conv(x, kernel).dtype == jnp.float32
    assert_array_equal(ops.conv(x, kernel).ravel(), [2, 2, 2])


BATCHES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "conv": lambda x: ops.conv(x, jnp.ones((3, 3, 4, 2))),
    "conv, 32 channels": lambda x: ops.conv(x @ jnp.ones((4, 32)), jnp.ones((3, 3, 32, 32))),
    "pointwise": lambda x: ops.conv(x, jnp.ones((1, 1, 4, 2))),
    "depthwise": lambda x: ops.depthwise_conv(x, jnp.ones((3, 3, 1, 4))),
    "conv_local": lambda x: ops.conv_local(x, jnp.ones((6, 6, 3, 3, 4, 2))),
    "conv_tiled": lambda x: ops.conv_tiled(x, jnp.ones((2, 2, 3, 3, 4, 2))),
    "conv_group": lambda x: ops.conv_group(x, jnp.ones((3, 3, 4, 1, 2)), group="p4"),
    "dense": lambda x: ops.dense(x, jnp.ones((4, 2**15))),
    "positional_attention": lambda x: ops.positional_attention(
        x, jnp.ones((1, 1, 4, 2)), *(jnp.ones((1, 1, *s)) for s in [(4, 4), (2,), (), ()])
    ),
    "token_mixing": lambda x: ops.token_mixing(x, jnp.ones((8, 8, 6, 6))),
    "dense_spatial": lambda x: ops.dense_spatial(x, jnp.ones((8, 8, 4, 6, 6, 2))),
    "max_pool": lambda x: ops.max_pool(x, 2),
    "avg_pool": lambda x: ops.avg_pool(x, 2),
    "adaptive_max_pool": lambda x: ops.adaptive_max_pool(x, 3),
    "max_pool_channels": lambda x: ops.max_pool_channels(x, 2),
    "blur_pool": lambda x: ops.blur_pool(x),
    "conv_transpose": lambda x: ops.conv_transpose(x, jnp.ones((3, 3, 2, 4))),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_zero_is_a_batch(name: str) -> None:
    """It has the shape of a batch of one but for the batch, and a gradient."""
    f = BATCHES[name]
    with use("fastest"):
        one = jax.eval_shape(f, jnp.zeros((1, 8, 8, 4)))
        empty = jnp.zeros((0, 8, 8, 4))
        assert jax.eval_shape(f, empty).shape == (0, *one.shape[1:])
        assert jax.eval_shape(jax.grad(lambda x: f(x).sum()), empty).shape == empty.shape


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_unknown_size_is_exported(name: str) -> None:
    (batch,) = export.symbolic_shape("batch")
    with use("fastest"):
        made = export.export(jax.jit(BATCHES[name]))(
            jax.ShapeDtypeStruct((batch, 8, 8, 4), jnp.float32)
        )
    assert made.out_avals[0].shape[0] == batch
