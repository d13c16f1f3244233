"""The parts of the airbench network against their equations."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers import Flatten
from cnn.models.airbench import Mirrored, ScaledBias, Whiten, airbench, whitening


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def smooth_images(n: int = 64, size: int = 12) -> np.ndarray:
    """Return noise with correlated neighbours and channels."""
    noise = numbers(n, size + 2, size + 2, 3)
    near = sum(noise[:, i : i + size, j : j + size] for i in range(3) for j in range(3))
    return (near + near.sum(-1, keepdims=True)).astype(np.float32)


def test_whitened_windows_are_uncorrelated_and_of_mean_square_one() -> None:
    x = smooth_images()
    kernel = whitening(x, size=2, epsilon=0.0)
    assert kernel.shape == (2, 2, 3, 24)
    y = np.asarray(ops.conv(x, kernel.astype(np.float32))).reshape(-1, 24)
    square = y[:, :12].T @ y[:, :12] / len(y)
    np.testing.assert_allclose(square, np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])


def test_epsilon_bounds_directions_without_variance() -> None:
    x = smooth_images()
    x[..., 2] = 0  # four directions without variance
    y = np.asarray(ops.conv(x, whitening(x, epsilon=0.1).astype(np.float32))).reshape(-1, 24)
    assert (np.square(y[:, :12]).mean(0) < 1).all()
    assert np.abs(whitening(x, epsilon=0.1)).max() <= 0.1**-0.5


@pytest.mark.parametrize("shape", [(4, 40, 1), (4, 5, 1, 3)])
def test_bad_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"x must be images .* got shape"):
        whitening(np.ones(shape))


def test_parameters_and_costs_by_hand() -> None:
    model = airbench(numbers(2, 2, 3, 24))
    kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    channels = 2 * 64 + 4 * 256  # scale, bias and shift of each
    x = jnp.zeros((1, 32, 32, 3))
    made = jax.eval_shape(model.init, jax.random.key(0), x)
    assert sum(a.size for a in jax.tree.leaves(made["params"])) == kernels + 3 * channels + 2560
    assert kernels + 3 * channels + 2560 == 1_973_632
    # 31 × 31 positions, then 15, 7 and 3 squared
    first, second = 9 * (24 * 31**2 + 64 * 15**2) * 64, 9 * (64 * 15**2 + 256 * 7**2) * 256
    third = 9 * (256 * 7**2 + 256 * 3**2) * 256
    whitened = 12 * 24 * 31**2  # its kernel is no parameter
    once = first + second + third + whitened + 2560
    assert describe(model.body, (32, 32, 3)).macs == once
    assert describe(model, (32, 32, 3)).macs == 2 * once  # the image and its mirror image
    assert round((first + second + third + whitened) / 1e6) == 118


def test_it_is_a_value_with_a_fixed_kernel() -> None:
    kernel = numbers(2, 2, 3, 4)
    assert airbench(kernel) == airbench(kernel)
    assert hash(airbench(kernel)) == hash(airbench(kernel.copy()))
    assert airbench(kernel) != airbench(2 * kernel)
    whiten = airbench(kernel).body.layers[0]
    x = smooth_images(2)
    assert isinstance(whiten, Whiten)
    assert whiten.init(jax.random.key(0), x) == {}
    np.testing.assert_allclose(whiten.apply({}, x), ops.conv(x, kernel.astype("f4")), rtol=1e-6)


def test_a_mirror_image_changes_training_but_not_inference() -> None:
    model = Mirrored(airbench(numbers(2, 2, 3, 4), 5, (8, 8)).body, scale=0.5)
    x = smooth_images(3)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    infer = jax.jit(model.apply)
    train = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    np.testing.assert_allclose(*(infer(variables, a) for a in (x, x[:, :, ::-1])), atol=1e-6)
    one, other = (np.asarray(train(variables, a)[0]) for a in (x, x[:, :, ::-1]))
    assert np.abs(one - other).max() > 0.01


def test_mirrored_is_the_scaled_mean_of_both() -> None:
    model = Mirrored(Flatten(), scale=3.0)
    x = jnp.array([1.0, 2.0, 5.0]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(model.apply({}, x), [[9.0, 6.0, 9.0]])  # 3 · (1 + 5) / 2, 3 · 2
    np.testing.assert_allclose(model.apply({}, x, train=True), [[3.0, 6.0, 15.0]])


def test_gradient_descent_changes_a_scaled_bias_64_times_as_much() -> None:
    layer, x = ScaledBias(), jnp.zeros((4, 3))
    params = {"bias": jnp.array([1.0, 0.0, 2.0])}

    def added(params: dict) -> jax.Array:
        return layer.apply({"params": params}, x)[0]

    gradient = jax.grad(lambda p: added(p).sum())(params)["bias"]  # of a bias it would be 1
    moved = added({"bias": params["bias"] - 0.1 * gradient}) - added(params)
    np.testing.assert_allclose(moved, [-6.4] * 3, rtol=1e-5)
