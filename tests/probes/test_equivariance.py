"""Equivariance, invariance and consistency errors: zero where theory says so, and only there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ops
from cnn.errors import InputError
from cnn.layers import (
    BatchNorm,
    Chain,
    Concat,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    ReLU,
    Residual,
)
from cnn.models import mlp
from cnn.probes import (
    ArrayFn,
    equivariance_error,
    invariance_error,
    layer_functions,
    rotate,
    scale,
    shift,
    shift_consistency,
    shift_error,
)


def with_integers(
    model: nn.Module, shape: tuple[int, ...], seed: int = 0
) -> tuple[ArrayFn, jax.Array]:
    """Return the model with small integers as weights, and such inputs: no sum is rounded.

    A compiled convolution does not sum in the same order at all positions. With other weights the
    error of an equivariant network is 1e-7, not 0.
    """
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.integers(-4, 5, shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    made = jax.tree.map(lambda w: jnp.asarray(rng.integers(-3, 4, w.shape), w.dtype), params)
    return jax.jit(functools.partial(model.apply, made)), x


def stack(rank: int, mode: str, **fields: object) -> Chain:
    window = (3,) * rank
    first = Conv(4, window, padding=1, padding_mode=mode, **fields)
    return Chain((first, ReLU(), Conv(3, window, padding=1, padding_mode=mode), ReLU()))


SHAPES = {1: (2, 13, 2), 2: (2, 9, 8, 2), 3: (2, 5, 6, 4, 1)}


@pytest.mark.parametrize("rank", SHAPES)
def test_circular_stacks_are_exactly_equivariant(rank: int) -> None:
    f, x = with_integers(stack(rank, "circular"), SHAPES[rank])
    assert float(jnp.abs(f(x)).max()) > 0
    for by in (1, -2, tuple(range(3, 3 + rank))):
        assert float(shift_error(f, x, by)) == 0.0


def test_with_any_weights_the_error_is_that_of_rounding() -> None:
    model = stack(1, "circular")
    x = jax.random.normal(jax.random.key(0), SHAPES[1])
    f = jax.jit(functools.partial(model.apply, jax.jit(model.init)(jax.random.key(1), x)))
    assert float(shift_error(f, x, 3)) < 1e-6


def test_with_stride_2_even_shifts_alone_have_no_error() -> None:
    f, x = with_integers(stack(2, "circular", strides=2), (2, 8, 12, 2))
    errors = {by: float(shift_error(f, x, by, strides=2)) for by in range(1, 7)}
    assert [by for by, error in errors.items() if error == 0.0] == [2, 4, 6]
    assert min(errors[by] for by in (1, 3, 5)) > 0.1
    assert float(shift_error(f, x, (2, 1), strides=2)) > 0.1


def test_zero_padding_errs_at_the_border_alone() -> None:
    """Two 3×3 layers carry the border two positions inwards; a shift by one moves it by one."""
    f, x = with_integers(stack(2, "zeros"), (2, 12, 12, 2))
    assert float(shift_error(f, x, 1)) > 0.1
    assert float(shift_error(f, x, 1, margin=2)) > 0
    assert float(shift_error(f, x, 1, margin=3)) == 0.0


def test_the_error_by_hand() -> None:
    """f keeps the first of four positions. After a shift by one both are wrong: √(1² + 2²) / 1."""

    def f(x: jax.Array) -> jax.Array:
        return x * jnp.array([1.0, 0, 0, 0]).reshape(1, 4, 1)

    x = jnp.array([1.0, 0.0, 0.0, 2.0]).reshape(1, 4, 1)
    assert float(shift_error(f, x, 1)) == pytest.approx(5**0.5)
    assert float(invariance_error(f, x, functools.partial(shift, by=1))) == pytest.approx(1.0)
    assert float(invariance_error(f, x, lambda x: 3 * x)) == pytest.approx(2.0)


def test_linear_maps_alone_are_equivariant_to_fractional_shifts() -> None:
    """A circular convolution and an interpolation are filters, which commute; a ReLU is not."""
    x = jax.random.normal(jax.random.key(0), (2, 16, 15, 2))
    linear = Conv(3, (3, 3), padding=1, padding_mode="circular")
    f = functools.partial(linear.apply, linear.init(jax.random.key(1), x))
    assert float(shift_error(f, x, (0.5, 0.3))) < 1e-5
    assert float(shift_error(lambda x: nn.relu(f(x)), x, (0.5, 0.3))) > 0.05


SYMMETRIC = jnp.array([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]]).reshape(3, 3, 1, 1)


def test_symmetric_kernels_alone_are_equivariant_to_quarter_turns() -> None:
    x = jax.random.randint(jax.random.key(0), (2, 9, 9, 1), -4, 5).astype(jnp.float32)
    turn = functools.partial(rotate, degrees=90)
    f = functools.partial(ops.conv, kernel=SYMMETRIC)
    assert float(equivariance_error(f, x, turn)) == 0.0
    f = functools.partial(ops.conv, kernel=SYMMETRIC.at[0, 1].set(-4.0))
    assert float(equivariance_error(f, x, turn)) > 0.5


def test_convolutions_are_not_equivariant_to_scale_or_other_angles() -> None:
    """Not even with a symmetric kernel, away from the border and on a smooth image."""
    p = np.arange(21) - 10
    bump = np.exp(-(p[:, None] ** 2 + (2 * p) ** 2) / 30)
    x = jnp.asarray(bump, jnp.float32).reshape(1, 21, 21, 1)
    edges = functools.partial(ops.conv, kernel=ops.filters.sobel())
    for transform in (functools.partial(rotate, degrees=30), functools.partial(scale, factor=1.5)):
        assert float(equivariance_error(edges, x, transform, margin=3)) > 0.2
        same = functools.partial(equivariance_error, lambda x: 2 * x, x, transform)
        assert float(same()) == 0.0


def test_bad_input() -> None:
    x = jnp.ones((1, 4, 6, 1))
    with pytest.raises(InputError, match=r"give the output_transform"):
        equivariance_error(lambda x: x, x, lambda x: x[:, 1:], lambda y: y)
    with pytest.raises(InputError, match="margin 2 leaves no position"):
        shift_error(lambda x: x, x, 1, margin=2)


def test_consistency_by_hand() -> None:
    """The class is the first value: over shifts -1, 0, 1 of a b b b it is b, a, b."""

    def f(x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(x[:, 0, 0].astype(int), 3)

    x = jnp.array([0.0, 1, 1, 1]).reshape(1, 4, 1)
    assert float(shift_consistency(f, x, 1)) == pytest.approx(1 / 3)
    assert float(shift_consistency(f, x + 1, 1, "zeros")) == 0.0  # 2, 1, and the 0 of the border
    both = jnp.concatenate([x, jnp.ones_like(x)])
    assert float(shift_consistency(f, both, 1)) == pytest.approx((1 / 3 + 1) / 2)


def test_a_circular_network_with_global_pooling_is_invariant_and_consistent() -> None:
    x = jax.random.normal(jax.random.key(0), (16, 6, 6, 1))
    results = []
    for model in (Chain((stack(2, "circular"), GlobalAvgPool(), Dense(4))), mlp(4, (8,))):
        f = jax.jit(functools.partial(model.apply, jax.jit(model.init)(jax.random.key(1), x)))
        moved = functools.partial(shift, by=(1, 2))
        results.append((float(invariance_error(f, x, moved)), float(shift_consistency(f, x, 1))))
    (error, consistency), (dense_error, dense_consistency) = results
    assert error < 1e-6 and consistency == 1.0
    assert dense_error > 0.5 and dense_consistency < 0.9


def test_functions_by_layer() -> None:
    body = Chain((Conv(4, (3,), padding=1), BatchNorm()))
    model = Chain(
        (Residual(body, Conv(4, (1,))), Concat((MaxPool(2), Conv(2, (2,), 2))), Flatten())
    )
    x = jax.random.normal(jax.random.key(0), (2, 8, 3))
    made = jax.jit(model.init)(jax.random.key(1), x)
    functions = layer_functions(model, made, x.shape[1:])
    assert list(functions) == [
        "layers_0/shortcut",
        "layers_0/body/layers_0",
        "layers_0/body/layers_1",
        "layers_0/body",
        "layers_0",
        "layers_1/branches_0",
        "layers_1/branches_1",
        "layers_1",
    ]
    at = made["params"]["layers_0"]
    inside = ops.conv(x, at["body"]["layers_0"]["kernel"], padding=1)
    np.testing.assert_allclose(functions["layers_0/body/layers_0"](x), inside, rtol=1e-5)
    y = functions["layers_0"](x)
    shortcut = ops.conv(x, at["shortcut"]["kernel"])
    np.testing.assert_allclose(y, functions["layers_0/body"](x) + shortcut, rtol=1e-5)
    np.testing.assert_array_equal(functions["layers_1/branches_0"](x), ops.max_pool(y, 2))
    np.testing.assert_array_equal(functions["layers_1"](x).reshape(2, -1), model.apply(made, x))
    alone = layer_functions(Conv(4, (3,)), Conv(4, (3,)).init(jax.random.key(0), x), (8, 3))
    assert list(alone) == [""] and alone[""](x).shape == (2, 6, 4)
