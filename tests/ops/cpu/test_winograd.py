"""3×3 convolution by Winograd's transform: values, derivatives and memory."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from cnn import ops
from cnn.ops.cpu import winograd as module
from cnn.ops.cpu.winograd import winograd
from cnn.ops.window import Pairs
from tests.ops.cpu.against_lax import Op
from tests.ops.strategies import numbers


@pytest.mark.parametrize(
    ("pairs", "max_bytes"),
    [
        pytest.param(((1, 1), (1, 1)), 2**25, marks=pytest.mark.slow),
        (((0, 2), (-1, 3)), 1),
    ],
)
def test_winograd(pairs: Pairs, max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 it is the definition up to rounding, in one chunk or in one per example."""
    rng = np.random.default_rng(0)
    for name in ("MAX_BYTES", "MAX_STORED_BYTES"):
        monkeypatch.setattr(module, name, max_bytes)
    x, kernel = numbers(rng, (2, 5, 8, 3)), numbers(rng, (3, 3, 3, 2))
    implementation = partial(winograd, spec=ops.window_spec((5, 8), 3, 1, pairs))
    definition = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding=pairs,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    with jax.enable_x64(True):
        doubles = x.astype(np.float64), kernel.astype(np.float64)
        g = numbers(rng, definition(*doubles).shape).astype(np.float64)

        def derivatives(op: Op) -> tuple:
            def slope(x: jax.Array, kernel: jax.Array) -> jax.Array:
                first = jax.grad(lambda *a: jnp.vdot(op(*a) ** 2, g), (0, 1))(x, kernel)
                return sum(jnp.vdot(a, b) for a, b in zip(first, (x, kernel), strict=True))

            y, backward = jax.vjp(op, *doubles)
            return y, backward(g), jax.grad(slope, (0, 1))(*doubles)

        found, expected = (jax.jit(partial(derivatives, f))() for f in (implementation, definition))
        jax.tree.map(partial(assert_allclose, rtol=1e-10, atol=1e-8), found, expected)


def temporary_bytes(kernels: list[jax.Array], x: jax.Array, spec: ops.WindowSpec) -> int:
    """Return what XLA allocates for the gradient of a chain of Winograd layers."""

    def loss(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in kernels:
            x = jnp.tanh(winograd(x, w, spec))
        return jnp.square(x).sum()

    analysis = jax.jit(jax.grad(loss)).lower(kernels, x).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_kernels_are_not_all_transformed_at_once() -> None:
    """A transformed 64×64 kernel takes 36 · 64² floats; a step through six holds few at a time."""
    spec = ops.window_spec((8, 8), 3, padding="SAME")
    kernels, x = [jnp.ones((3, 3, 64, 64))] * 6, jnp.ones((1, 8, 8, 64))
    assert temporary_bytes(kernels, x, spec) < 4 * 36 * 64**2 * 4


@pytest.mark.slow
def test_chunks_are_allocated_when_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allocated when the step begins, the maps of eight layers, both ways, take some 9 MB."""
    for name in ("MAX_BYTES", "MAX_STORED_BYTES"):
        monkeypatch.setattr(module, name, 1)
    spec = ops.window_spec((16, 16), 3, padding="SAME")
    kernels, x = [jnp.ones((3, 3, 32, 32))] * 8, jnp.ones((4, 16, 16, 32))
    assert temporary_bytes(kernels, x, spec) < 4e6


def test_a_chunk_computes_its_own_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the kernel's gradient, the tiles of all sixteen chunks together take 4.7 MB."""
    monkeypatch.setattr(module, "MAX_STORED_BYTES", 1)
    spec = ops.window_spec((32, 32), 3, padding="SAME")
    x, w = jnp.ones((16, 32, 32, 32)), jnp.ones((3, 3, 32, 32))

    def gradient(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        return jax.vjp(lambda w: winograd(x, w, spec), w)[1](g)[0]

    analysis = jax.jit(gradient).lower(x, w, x).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 36 * 16 * 64 * 32 * 4
