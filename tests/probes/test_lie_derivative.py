"""Lie derivatives: generators of known functions, and layers whose errors have a closed form."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.errors import InputError
from cnn.layers import (
    AvgPool,
    Chain,
    Conv,
    Dense,
    DenseSpatial,
    GlobalAvgPool,
    MaxPool,
    ReLU,
    Residual,
)
from cnn.probes import shift
from cnn.probes.lie_derivative import (
    Motion,
    layerwise_lie_error,
    lie_derivative,
    lie_error,
    lie_generator,
    low_pass,
)

CIRCULAR: dict[str, Any] = {"padding": "SAME", "padding_mode": "circular"}


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def wave(k: int, n: int) -> jax.Array:
    return jnp.sin(2 * np.pi * k * jnp.arange(n) / n)[None, :, None]


def image(size: tuple[int, ...], channels: int = 2) -> jax.Array:
    x = np.random.default_rng(0).normal(size=(2, *size, channels))
    return low_pass(jnp.asarray(x), 0.4)


def square(x: jax.Array) -> jax.Array:
    return x**2


@pytest.mark.parametrize("n", [15, 16])
def test_a_translation_of_a_wave(n: int) -> None:
    expected = -2 * np.pi * 3 / n * jnp.cos(2 * np.pi * 3 * jnp.arange(n) / n)
    made = lie_generator(wave(3, n), "translation")
    np.testing.assert_allclose(made[0, :, 0], expected, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_translation_is_the_derivative_of_shift(axis: int) -> None:
    x, t = image((8, 9)), 1e-4
    by = [0.0, 0.0]
    by[axis] = t
    slope = (shift(x, by) - shift(x, [-b for b in by])) / (2 * t)
    np.testing.assert_allclose(lie_generator(x, "translation", axis), slope, atol=1e-6)


def test_motions_of_a_gaussian() -> None:
    """With g = exp(−(u² + w²) / 2s²): ∂g/∂u = −u g / s²."""
    u, w = np.meshgrid(*[np.arange(31) - 15.0] * 2, indexing="ij")
    g, s = np.exp(-(u**2 + w**2) / 18), 3.0
    motions: dict[Motion, np.ndarray] = {
        "rotation": 0 * g,
        "scaling": (u**2 + w**2) / s**2 * g,
        "hyperbolic": 2 * u * w / s**2 * g,
    }
    for motion, expected in motions.items():
        made = lie_generator(jnp.asarray(g)[None, ..., None], motion)
        np.testing.assert_allclose(made[0, ..., 0], expected, atol=1e-4)
    off = u * g  # (−w, u): −(−w (1 − u²/s²) − u · u w/s²) g = w g
    made = lie_generator(jnp.asarray(off)[None, ..., None], "rotation")
    np.testing.assert_allclose(made[0, ..., 0], w * g, atol=1e-3)


def test_a_rotation_is_that_of_rot90() -> None:
    """A quarter turn is the flow of the generator for π / 2."""
    u, w = np.meshgrid(*[np.arange(41) - 20.0] * 2, indexing="ij")
    x = jnp.asarray((u + 0.5 * w) * np.exp(-(u**2 + w**2) / 32))[None, ..., None]
    steps, y = 400, x
    for _ in range(steps):  # midpoint rule
        half = y + np.pi / 4 / steps * lie_generator(y, "rotation")
        y = y + np.pi / 2 / steps * lie_generator(half, "rotation")
    np.testing.assert_allclose(y, jnp.rot90(x, axes=(1, 2)), atol=1e-2)


def test_a_circular_stack_has_no_error_under_translation() -> None:
    """Nor with squares, of frequencies below half the sampling rate; a ReLU makes higher ones."""
    x = image((12, 9))
    conv = Conv(3, 3, **CIRCULAR)
    first, second = (conv.init(jax.random.key(i), x) for i in (0, 1))
    second = {"params": {**second["params"], "kernel": jnp.ones((3, 3, 3, 3))}}

    def network(x: jax.Array, act: Any) -> jax.Array:
        y: jax.Array = conv.apply(second, act(conv.apply(first, x)))
        return y

    for axis in (0, 1):
        assert float(lie_error(partial(network, act=lambda y: y), x, "translation", axis)) < 1e-20
        assert float(lie_error(partial(network, act=square), x, "translation", axis)) < 1e-20
        assert float(lie_error(partial(network, act=jax.nn.relu), x, "translation", axis)) > 1e-3
    zeros = conv.clone(padding_mode="zeros")
    assert float(lie_error(partial(zeros.apply, first), x, "translation")) > 1e-3


def test_a_mask_has_a_known_derivative() -> None:
    """f(x) = m x: L f = −m x′ + (m x)′ = m′ x."""
    x, m = wave(2, 16), jnp.cos(2 * np.pi * 3 * jnp.arange(16) / 16)[None, :, None]
    slope = -lie_generator(m, "translation")
    np.testing.assert_allclose(
        lie_derivative(lambda x: m * x, x, "translation"), slope * x, atol=1e-12
    )


@pytest.mark.parametrize(("k", "error"), [(3, 0.0), (5, np.pi**2 / 2)])
def test_subsampling_aliases_what_is_above_a_quarter(k: int, error: float) -> None:
    """At stride 2 on 16 positions k becomes k − 8 above 4, which moves by π per step too far."""
    f = partial(
        Conv(1, 1, strides=2, use_bias=False).apply, {"params": {"kernel": jnp.ones((1,) * 3)}}
    )
    found = lie_error(f, wave(k, 16), "translation", strides=2)
    assert float(found) == pytest.approx(error, abs=1e-12)


def test_vectors_should_not_change() -> None:
    x = image((9, 9))
    model = Chain((Conv(3, 3, **CIRCULAR), GlobalAvgPool(), Dense(2)))
    f = partial(model.apply, model.init(jax.random.key(0), x))
    assert float(lie_error(f, x, "translation")) < 1e-20
    assert float(lie_error(f, x, "scaling")) > 1e-6
    flat = lie_derivative(lambda x: x.reshape(2, -1), x, "translation")
    np.testing.assert_allclose(flat.reshape(x.shape), lie_generator(x, "translation"))


def test_the_layer_that_breaks_it_has_the_error() -> None:
    """Only the zero padding of the second layer does; what follows passes it on."""
    x = image((9, 10))
    layers = (Conv(3, 3, **CIRCULAR), Chain((Conv(3, 3, padding=1), Conv(2, 1))), GlobalAvgPool())
    model = Chain(layers)
    made = model.init(jax.random.key(0), x)
    errors = layerwise_lie_error(model, made, x, "translation", axis=1)
    assert list(errors) == ["layers_0", "layers_1/layers_0", "layers_1/layers_1", "layers_2"]
    total = float(lie_error(partial(model.apply, made), x, "translation", 1))
    assert total > 1e-6
    assert float(errors["layers_1/layers_0"]) == pytest.approx(total)
    for name in ("layers_0", "layers_1/layers_1", "layers_2"):
        assert float(errors[name]) < 1e-20


@pytest.mark.parametrize(
    "motion",
    [pytest.param("translation", marks=pytest.mark.slow), "rotation", "scaling", "hyperbolic"],
)
def test_the_terms_of_two_layers_add_up(motion: Motion) -> None:
    """A translation by one position is one by half a position on the map of stride 2."""
    x = image((9, 9), 1)
    down = Conv(1, 3, strides=2)
    blocks = Chain((down, ReLU(), Residual(Conv(1, 3, padding=1)), AvgPool(2), Dense(3)))
    made = blocks.init(jax.random.key(0), x)
    terms = layerwise_lie_error(blocks, made, x, motion)
    assert list(terms) == [f"layers_{i}" for i in range(5)]
    assert float(terms["layers_4"]) < 1e-20  # channels alone
    pair = Chain((down, MaxPool(2)))
    made = pair.init(jax.random.key(0), x)
    first = partial(down.apply, {"params": made["params"]["layers_0"]})
    second = partial(MaxPool(2).apply, {})
    a = jax.jvp(second, (first(x),), (lie_derivative(first, x, motion, strides=2),))[1]
    b = lie_derivative(second, first(x), motion, strides=2)
    b = b / 2 if motion == "translation" else b
    total = lie_derivative(lambda x: second(first(x)), x, motion, strides=4)
    np.testing.assert_allclose(total, a + b, atol=1e-10)
    terms = layerwise_lie_error(pair, made, x, motion)
    np.testing.assert_allclose(terms["layers_0"], (a**2).mean(), rtol=1e-9)
    np.testing.assert_allclose(terms["layers_1"], (b**2).mean(), rtol=1e-9)


def test_low_pass_keeps_the_low_frequencies() -> None:
    x = wave(2, 16) + wave(5, 16)
    np.testing.assert_allclose(low_pass(x, 0.5), wave(2, 16), atol=1e-12)
    np.testing.assert_allclose(low_pass(x, 1.0), x, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: lie_generator(x, "shear"), "unknown motion 'shear': choose one of hyperbolic, "),
        (lambda x: lie_generator(x[:, 0], "rotation"), "motion 'rotation' needs 2 spatial axes"),
        (lambda x: lie_generator(x, "translation", 2), "axis must be from 0 to 1, got 2"),
        (lambda x: low_pass(x, 0.0), r"keep must be above 0 and at most 1, got 0\.0"),
        (lambda x: lie_derivative(lambda x: x[0], x, "scaling"), "f must return vectors or maps"),
        (
            lambda x: layerwise_lie_error(ReLU(), {}, x, "scaling"),
            "model must be a Chain, got ReLU",
        ),
        (
            lambda x: layerwise_lie_error(
                Chain((DenseSpatial(2, 3),)),
                {
                    "params": {
                        "layers_0": {
                            "kernel": jnp.ones((5, 5, 2, 3, 3, 2)),
                            "bias": jnp.ones((3, 3, 2)),
                        }
                    }
                },
                x,
                "scaling",
            ),
            "strides of layer layers_0 are not known",
        ),
    ],
)
def test_what_cannot_be_moved_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        call(jnp.ones((1, 5, 5, 2)))
    assert "\n" not in str(error.value)
