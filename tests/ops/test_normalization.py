"""Normalization: by hand, against Flax and PyTorch, and over devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.errors import InputError


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.standard_normal((8, 5, 4, 3))
    return tuple(a.astype(np.float32) for a in (x, rng.uniform(1, 2, 3), rng.standard_normal(3)))


def test_batch_norm_by_hand() -> None:
    """Of 0, 4, 5, 3 the mean is 3 and the variance (9 + 1 + 4 + 0) / 4."""
    x = jnp.array([[0.0, 4.0], [5.0, 3.0]])[..., None]
    y, mean, variance = ops.batch_norm(x, jnp.array([2.0]), jnp.array([1.0]), epsilon=0.0)
    assert_allclose(mean, [3.0])
    assert_allclose(variance, [3.5])
    assert_allclose(y[..., 0], 1 + 2 * np.array([[-3, 1], [2, 0]]) / np.sqrt(3.5), rtol=1e-6)


def test_value_and_gradients_agree_with_flax() -> None:
    x, scale, bias = drawn()
    layer = nn.BatchNorm(use_running_average=False, epsilon=1e-5)
    g = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)

    def theirs(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)},
        }
        return jnp.vdot(layer.apply(variables, x, mutable=["batch_stats"])[0], g)

    def ours(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return jnp.vdot(ops.batch_norm(x, scale, bias)[0], g)

    found, expected = (jax.grad(f, (0, 1, 2))(x, scale, bias) for f in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_value_and_gradient_agree_with_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, scale, bias = drawn()
    given = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    y = torch.nn.functional.batch_norm(
        given, None, None, torch.tensor(scale), torch.tensor(bias), training=True
    )
    (y**2 * torch.arange(5.0)[:, None]).sum().backward()
    weights = jnp.arange(5.0)[:, None, None]

    def f(x: jax.Array) -> jax.Array:
        return jnp.sum(ops.batch_norm(x, scale, bias)[0] ** 2 * weights[None])

    assert_allclose(ops.batch_norm(x, scale, bias)[0].transpose(0, 3, 1, 2), y.detach(), atol=1e-5)
    assert_allclose(jax.grad(f)(x).transpose(0, 3, 1, 2), given.grad, rtol=1e-3, atol=1e-4)


def test_over_devices_the_batch_is_the_whole() -> None:
    x, scale, bias = drawn()
    mesh = jax.sharding.Mesh(jax.devices(), "data")
    split = jax.shard_map(
        lambda x: ops.batch_norm(x, scale, bias, axis="data"),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=(P("data"), P(), P()),
    )
    for part, whole in zip(jax.jit(split)(x), ops.batch_norm(x, scale, bias), strict=True):
        assert_allclose(part, whole, rtol=1e-4, atol=1e-5)


def far_from_zero(mean: float, deviation: float, n: int = 64) -> np.ndarray:
    """Return examples of which the first one is further from the mean than the others."""
    x = mean + deviation * np.random.default_rng(0).standard_normal((n, 9, 3))
    x[0] += 5 * deviation
    return x.astype(np.float32)


@pytest.mark.parametrize(("mean", "deviation"), [(3e3, 1.0), (1e5, 10.0), (-4e4, 0.5)])
def test_a_mean_far_from_zero_costs_no_digits(mean: float, deviation: float) -> None:
    """E[x²] − μ² in float32 has none of those of σ² left. The input itself has 1e-2 / σ of them."""
    x = far_from_zero(mean, deviation)
    exact = x.astype(np.float64)
    y, found, variance = ops.batch_norm(x, jnp.ones(3), jnp.zeros(3), epsilon=0.0)
    assert_allclose(found, exact.mean((0, 1)), rtol=1e-6)
    assert_allclose(variance, exact.var((0, 1)), rtol=1e-4)
    expected = (exact - exact.mean((0, 1))) / exact.std((0, 1))
    # Two roundings of a number of the size of mean / deviation.
    assert_allclose(y, expected, atol=2 * abs(mean) / deviation * 2**-23)


def test_over_devices_a_mean_far_from_zero_costs_no_digits() -> None:
    """Each device has another mean: 4e4, 4e4 + 2, …"""
    x = far_from_zero(4e4, 1.0) + 2 * np.repeat(np.arange(4, dtype=np.float32), 16)[:, None, None]
    mesh = jax.sharding.Mesh(jax.devices(), "data")
    split = jax.shard_map(
        lambda x: ops.batch_norm(x, jnp.ones(3), jnp.zeros(3), axis="data")[1:],
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P(),
    )
    mean, variance = jax.jit(split)(x)
    exact = x.astype(np.float64)
    assert_allclose(mean, exact.mean((0, 1)), rtol=1e-6)
    assert_allclose(variance, exact.var((0, 1)), rtol=1e-4)


def test_statistics_of_bfloat16_are_float32() -> None:
    """257 ones and 255 zeros: in bfloat16 a running sum would stop at 256."""
    x = jnp.zeros((512, 1, 1), jnp.bfloat16).at[:257].set(1)
    one = jnp.ones(1, jnp.bfloat16)
    y, mean, variance = ops.batch_norm(x, one, 0 * one)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    assert_array_equal(mean, [257 / 512])
    assert_allclose(variance, [257 * 255 / 512**2], rtol=1e-6)


def test_a_scale_of_another_shape() -> None:
    x, scale, bias = drawn()
    with pytest.raises(InputError, match=r"scale must have shape \(3,\), got \(2,\)"):
        ops.batch_norm(x, scale[:2], bias)


def test_group_norm_by_hand() -> None:
    """Groups {0, 4, 2, 2} and {1, 1, 5, 9} of 2 channels at 2 positions: variances 2 and 11."""
    x = jnp.array([[[0.0, 4.0, 1.0, 1.0], [2.0, 2.0, 5.0, 9.0]]])
    scale, bias = jnp.array([1.0, 1.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    y = ops.group_norm(x, scale, bias, groups=2, epsilon=0.0)
    first, second = np.array([[-2, 2], [0, 0]]) / np.sqrt(2), np.array([[-3, -6], [1, 10]])
    expected = np.concatenate([np.add(first, [0, 1]), second / np.sqrt(11)], -1)
    assert_allclose(y[0], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_and_its_gradients_agree_with_flax(groups: int) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((2, 5, 4, 6)).astype(np.float32) for _ in range(2))
    scale, bias = (rng.standard_normal(6).astype(np.float32) for _ in range(2))
    layer = nn.GroupNorm(groups, epsilon=1e-5, use_fast_variance=False)

    def theirs(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return layer.apply({"params": {"scale": scale, "bias": bias}}, x)

    def ours(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return ops.group_norm(x, scale, bias, groups=groups)

    (y, back), (expected, expected_back) = (
        jax.vjp(f, *map(jnp.asarray, (x, scale, bias))) for f in (ours, theirs)
    )
    assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(back(jnp.asarray(g)), expected_back(jnp.asarray(g)), strict=True):
        assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_group_norm_of_shapes_that_do_not_fit() -> None:
    for groups in (4, 0, 1.5):
        with pytest.raises(
            InputError, match=f"groups must divide the channels: got groups={groups}"
        ):
            ops.group_norm(jnp.ones((1, 2, 6)), jnp.ones(6), jnp.ones(6), groups=groups)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"scale must have shape \(6,\), got \(3,\)"):
        ops.group_norm(jnp.ones((1, 2, 6)), jnp.ones(3), jnp.ones(6), groups=2)
