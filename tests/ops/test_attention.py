"""Gated positional self-attention: the equation as loops, and the convolution as a limit."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.errors import InputError
from tests.ops import loops


def softmax(scores: list[float]) -> np.ndarray:
    shares = np.exp(np.array(scores) - max(scores))
    return shares / shares.sum()


def looped(
    x: np.ndarray, weights: dict[str, np.ndarray], windows: loops.Windows, mode: str
) -> np.ndarray:
    """y[p] = Σ_h (g Σ_j P[p, j] x[j] + (1 − g) Σ_i C[p, i] x[i]) · kernel[h], in float64."""
    sizes = zip(windows.size, windows.before, windows.after, strict=True)
    padded_size = tuple(n + lo + hi for n, lo, hi in sizes)
    spans = [(k - 1) * r + 1 for k, r in zip(windows.window, windows.dilation, strict=True)]
    one = (1,) * len(windows.size)
    each = windows._replace(window=padded_size, dilation=one, strides=one)
    y = np.zeros((len(x), *windows.out, weights["kernel"].shape[-1]))

    def padded(n: int, j: loops.Index) -> np.ndarray:
        cell = each.cell((0,) * len(j), j, mode)
        return np.zeros(x.shape[-1]) if cell is None else x[n, *cell]

    for n, p, h in np.ndindex(len(x), int(np.prod(windows.out)), int(np.prod(windows.window))):
        place = np.unravel_index(p, windows.out)
        head = np.unravel_index(h, windows.window)
        start = np.array(place) * windows.strides
        j = list(loops.indices(padded_size))
        away = [np.array(q) - start - weights["offsets"][head] for q in j]
        shares = softmax([-weights["strengths"][head] * (d**2).sum() for d in away])
        by_position = sum(s * padded(n, q) for s, q in zip(shares, j, strict=True))
        centre = padded(n, tuple(start + (np.array(spans) - 1) // 2))
        i = list(loops.indices(windows.size))
        scores = [centre @ weights["query"][head] @ x[n, *q] / x.shape[-1] ** 0.5 for q in i]
        by_content = sum(s * x[n, *q] for s, q in zip(softmax(scores), i, strict=True))
        g = 1 / (1 + np.exp(-weights["gates"][head]))
        y[n, *place] += (g * by_position + (1 - g) * by_content) @ weights["kernel"][head]
    return y


def draw(rng: np.random.Generator, window: tuple[int, ...], c_in: int, c_out: int) -> dict:
    shapes = {
        "kernel": (c_in, c_out),
        "query": (c_in, c_in),
        "offsets": (len(window),),
        "strengths": (),
        "gates": (),
    }
    return {k: rng.normal(size=(*window, *s)).astype(np.float32) for k, s in shapes.items()}


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize(
    ("size", "window", "strides", "dilation"),
    [((6,), (3,), (2,), (1,)), ((5,), (2,), (1,), (2,)), ((4, 3), (2, 3), (1, 2), (1, 1))],
)
def test_it_is_the_equation(
    size: tuple, window: tuple, strides: tuple, dilation: tuple, mode: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 2)).astype(np.float32)
    weights, bias = draw(rng, window, 2, 3), rng.normal(size=3).astype(np.float32)
    options: dict[str, Any] = {"strides": strides, "dilation": dilation, "padding": 1}
    y = ops.positional_attention(x, **weights, bias=bias, padding_mode=mode, **options)
    one = (1,) * len(size)
    windows = loops.Windows(size, window, strides, one, one, dilation)
    np.testing.assert_allclose(y, looped(x, weights, windows, mode) + bias, rtol=1e-4, atol=1e-5)


def test_one_head_by_hand() -> None:
    """At 1, 3, 8: the mean of all; a head that looks ahead by one; half of each."""
    x = jnp.array([1.0, 3, 8]).reshape(1, 3, 1)
    one, zero = jnp.ones((1, 1, 1)), jnp.zeros((1, 1, 1))

    def run(gate: float, padding: Any = 0) -> list[float]:
        strong, gates = jnp.array([60.0]), jnp.array([gate])
        y = ops.positional_attention(
            x, one, zero, jnp.array([[1.0]]), strong, gates, padding=padding
        )
        return np.asarray(y).ravel().round(4).tolist()

    assert run(-60.0) == [4, 4, 4]
    assert run(60.0) == [3, 8, 8]  # the last one has only itself to look at
    assert run(0.0) == [3.5, 6, 6]
    assert run(60.0, ((0, 1),)) == [3, 8, 0, 0]  # or the padding
    query = jnp.full((1, 1, 1), 60.0)  # content: the largest product
    y = ops.positional_attention(x, one, query, *(jnp.full(s, -60.0) for s in [(1, 1), (1,), (1,)]))
    np.testing.assert_allclose(y.ravel(), [8, 8, 8], rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel": (3, 1, 2)}, "kernel must have c_in / groups = 2"),
        ({"query": (3, 2, 3)}, r"query must have shape \(3, 2, 2\), got \(3, 2, 3\)"),
        ({"offsets": (3, 2)}, r"offsets must have shape \(3, 1\), got \(3, 2\)"),
        ({"strengths": (4,)}, r"strengths must have shape \(3,\), got \(4,\)"),
        ({"gates": ()}, r"gates must have shape \(3,\), got \(\)"),
    ],
)
def test_other_shapes_are_refused(changed: dict[str, tuple[int, ...]], message: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {"kernel": (3, 2, 2), "query": (3, 2, 2)}
    shapes |= {"offsets": (3, 1), "strengths": (3,), "gates": (3,)} | changed
    with pytest.raises(InputError, match=message):
        ops.positional_attention(
            jnp.zeros((1, 5, 2)), **{k: jnp.zeros(shape) for k, shape in shapes.items()}
        )
