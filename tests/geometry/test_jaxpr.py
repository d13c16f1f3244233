"""Equations that only move their operand, and single equations computed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from cnn.geometry.jaxpr import evaluate, moved_axes

X = jnp.arange(24.0).reshape(2, 3, 4)
MOVES: dict[str, tuple[Callable[[jax.Array], jax.Array], list[int | None]]] = {
    "transpose": (lambda x: x.transpose(1, 2, 0), [2, 0, 1]),
    "cast": (lambda x: x.astype(jnp.bfloat16), [0, 1, 2]),
    "name": (lambda x: checkpoint_name(x, "x"), [0, 1, 2]),
    "new axis": (lambda x: lax.broadcast_in_dim(x, (2, 1, 3, 4), (0, 2, 3)), [0, 2, 3]),
    "repeat": (lambda x: lax.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)), [1, 2, 3]),
    "merge": (lambda x: lax.reshape(x, (6, 4)), [None, None, 1]),
    "split": (lambda x: lax.reshape(x, (2, 3, 2, 2)), [0, 1, None]),
    "other split": (lambda x: lax.reshape(x, (3, 2, 4)), [None, None, 2]),
}


@pytest.mark.parametrize("name", MOVES)
def test_each_axis_is_followed(name: str) -> None:
    """By hand, and by the sizes and values along the axis."""
    move, expected = MOVES[name]
    (eqn,) = jax.make_jaxpr(move)(X).eqns
    assert moved_axes(eqn) == expected
    for axis, now in enumerate(expected):
        if now is not None:
            rows = [move(X).take(jnp.array([i]), now) for i in range(X.shape[axis])]
            sums = [float(row.astype(float).sum()) for row in rows]
            own = X.sum(tuple({0, 1, 2} - {axis}))
            np.testing.assert_allclose(sums, own * (move(X).size / X.size))


def test_an_axis_of_size_one_is_repeated() -> None:
    (eqn,) = jax.make_jaxpr(lambda x: lax.broadcast_in_dim(x, (4, 3), (0, 1)))(X[0, :1, :3]).eqns
    assert moved_axes(eqn) == [None, 1]
    (eqn,) = jax.make_jaxpr(lambda x: lax.squeeze(x, (1,)))(X[:, :1]).eqns
    assert moved_axes(eqn) == [0, None, 1]


def test_other_equations_are_no_moves() -> None:
    for other in (jnp.sin, lambda x: x + x, lambda x: lax.rev(x, (0,))):
        (eqn,) = jax.make_jaxpr(other)(X).eqns
        assert moved_axes(eqn) is None


def test_an_equation_keeps_its_derivative() -> None:
    @jax.custom_jvp
    def double(x: jax.Array) -> jax.Array:
        return 2 * x

    double.defjvp(lambda primals, tangents: (double(*primals), 7 * tangents[0]))
    (eqn,) = jax.make_jaxpr(double)(3.0).eqns
    assert jax.value_and_grad(lambda x: evaluate(eqn, x)[0])(3.0) == (6.0, 7.0)
    (eqn,) = jax.make_jaxpr(jax.jit(lambda x: (x, x + 1)))(3.0).eqns
    assert evaluate(eqn, 3.0) == [3.0, 4.0]
