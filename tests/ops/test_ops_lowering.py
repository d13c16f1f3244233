"""Lowerings against the definitions in `lax`: value, first and second gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.errors import InputError
from cnn.ops import cpu
from cnn.ops.cpu.depthwise import depthwise
from cnn.ops.cpu.kernel_gradient import by_taps
from cnn.ops.cpu.matmul import product
from cnn.ops.cpu.pointwise import pointwise
from cnn.ops.cpu.pool import max_pool
from cnn.ops.cpu.toeplitz import local_toeplitz, toeplitz
from cnn.ops.cpu.winograd import winograd
from cnn.ops.window import Pairs
from tests.ops import loops
from tests.ops.drawn import Case, cases, numbers

Op = Callable[..., jax.Array]
few = settings(max_examples=settings().max_examples // 6)  # each compiles three derivatives


def agree(lowered: Op, reference: Op, *arrays: np.ndarray) -> None:
    """Compare value, gradients, and the gradients of a product with the gradients, exactly."""

    def derivatives(op: Op) -> Callable[..., tuple]:
        def weighted(*arrays: jax.Array) -> jax.Array:
            y = op(*arrays)
            weights = jnp.arange(y.size, dtype=y.dtype).reshape(y.shape) % 5 - 2
            return jnp.sum(y * y * weights)

        def slope(*arrays: jax.Array) -> jax.Array:
            first = jax.grad(weighted, tuple(range(len(arrays))))(*arrays)
            return sum(jnp.sum(g * (jnp.arange(g.size).reshape(g.shape) % 3)) for g in first)

        everything = tuple(range(len(arrays)))
        return jax.jit(
            lambda *a: (op(*a), jax.grad(weighted, everything)(*a), jax.grad(slope, everything)(*a))
        )

    with jax.enable_x64(True):  # whole numbers are exact
        doubles = [a.astype(np.float64) for a in arrays]
        ours, theirs = derivatives(lowered)(*doubles), derivatives(reference)(*doubles)
        jax.tree.map(assert_array_equal, ours, theirs)


def definition(case: Case, groups: int) -> Op:
    spatial = "DHW"[3 - len(case.at.size) :]
    return partial(
        jax.lax.conv_general_dilated,
        window_strides=case.at.strides,
        padding=list(zip(case.at.before, case.at.after, strict=True)),
        rhs_dilation=case.at.dilation,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
        feature_group_count=groups,
    )


def placement(case: Case) -> ops.WindowSpec:
    size, window, strides, before, after, dilation = case.at
    return ops.WindowSpec(size, window, strides, tuple(zip(before, after, strict=True)), dilation)


@few
@given(case=cases(modes=["zeros"]))
def test_depthwise_convolution(case: Case) -> None:
    kernel = numbers(case.rng, (*case.at.window, 1, case.c_in))
    agree(partial(depthwise, at=placement(case)), definition(case, case.c_in), case.x(), kernel)


@few
@given(case=cases(modes=["zeros"]))
def test_convolution_with_one_tap(case: Case) -> None:
    one = tuple(1 for _ in case.at.window)
    case = case._replace(groups=1, at=case.at._replace(window=one))
    assume(min(n + lo + hi for n, lo, hi in zip(case.at.size, *case.at[3:5], strict=True)) > 0)
    agree(partial(pointwise, at=placement(case)), definition(case, 1), case.x(), case.kernel())


@few
@given(case=cases(modes=["zeros"]))
def test_convolution_with_few_channels(case: Case) -> None:
    one = tuple(1 for _ in case.at.window)
    case = case._replace(groups=1, at=case.at._replace(strides=one, dilation=one))
    agree(partial(toeplitz, at=placement(case)), definition(case, 1), case.x(), case.kernel())


@few
@given(case=cases(modes=["zeros"]))
def test_local_convolution_with_few_channels(case: Case) -> None:
    one = tuple(1 for _ in case.at.window)
    case = case._replace(groups=1, at=case.at._replace(strides=one, dilation=one))
    pairs = placement(case).pairs
    reference = partial(ops.conv_tiled, padding=pairs)
    agree(
        partial(local_toeplitz, at=placement(case)), reference, case.x(), case.kernel(*case.at.out)
    )


@few
@given(case=cases(modes=["zeros"]))
def test_max_pooling_and_its_ties(case: Case) -> None:
    """Whole numbers from -4 to 4 are full of ties; `lax` has no gradient under dilation."""
    case = case._replace(at=case.at._replace(dilation=tuple(1 for _ in case.at.size)))
    at = case.at
    assume(all(any(at.cell(p, a) for a in loops.indices(at.window)) for p in loops.indices(at.out)))
    reference = partial(
        jax.lax.reduce_window,
        init_value=-jnp.inf,
        computation=jax.lax.max,
        window_dimensions=(1, *at.window, 1),
        window_strides=(1, *at.strides, 1),
        padding=((0, 0), *zip(at.before, at.after, strict=True), (0, 0)),
    )
    agree(partial(max_pool, at=placement(case)), reference, case.x())


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 131, 1000])
def test_kernel_gradients_are_sums_over_all_rows(count: int) -> None:
    x, g = numbers(np.random.default_rng(0), (2, 1, count, 3))
    at = ops.window_spec((count,), 1)
    kernel = jnp.ones((1, 1, 3))
    slope = jax.jit(jax.grad(lambda w: jnp.vdot(depthwise(x, w, at), g)))(kernel)
    assert_array_equal(slope[0, 0], (x * g).sum((0, 1)))


@pytest.mark.parametrize(
    ("pairs", "most_bytes"),
    [
        pytest.param(((1, 1), (1, 1)), 2**25, marks=pytest.mark.slow),
        (((0, 2), (-1, 3)), 1),
    ],
)
def test_winograd(pairs: Pairs, most_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 it is the definition but for rounding; one example at a time, or all at once."""
    rng = np.random.default_rng(0)
    for name in ("MOST_BYTES", "MOST_KEPT"):
        monkeypatch.setattr(sys.modules[winograd.__module__], name, most_bytes)
    x, kernel = numbers(rng, (2, 5, 8, 3)), numbers(rng, (3, 3, 3, 2))
    at = ops.window_spec((5, 8), 3, 1, pairs)
    reference = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding=pairs,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    with jax.enable_x64(True):
        doubles = x.astype(np.float64), kernel.astype(np.float64)
        lowered = partial(winograd, at=at)
        g = numbers(rng, reference(*doubles).shape).astype(np.float64)

        def derivatives(op: Op) -> tuple:
            def slope(x: jax.Array, kernel: jax.Array) -> jax.Array:
                first = jax.grad(lambda *a: jnp.vdot(op(*a) ** 2, g), (0, 1))(x, kernel)
                return sum(jnp.vdot(a, b) for a, b in zip(first, (x, kernel), strict=True))

            y, back = jax.vjp(op, *doubles)
            return y, back(g), jax.grad(slope, (0, 1))(*doubles)

        ours, theirs = (jax.jit(partial(derivatives, op))() for op in (lowered, reference))
        jax.tree.map(partial(assert_allclose, rtol=1e-10, atol=1e-8), ours, theirs)


@few
@given(case=cases(modes=["zeros"]))
def test_kernel_gradients_by_taps(case: Case) -> None:
    case = case._replace(groups=1)
    lowered = partial(by_taps, at=placement(case), definition=definition(case, 1))
    agree(lowered, definition(case, 1), case.x(), case.kernel())


@few
@given(sizes=st.lists(st.integers(1, 4), min_size=3, max_size=5), seed=st.integers(0, 2**16))
def test_product(sizes: list[int], seed: int) -> None:
    rng, (*batch, c_in, c_out) = np.random.default_rng(seed), sizes
    agree(product, jnp.matmul, numbers(rng, (*batch, c_in)), numbers(rng, (c_in, c_out)))


@pytest.mark.parametrize(("of_x", "of_w"), [(1, 0), (0, 1), (1, 1)])
def test_forward_mode_of_a_product(of_x: int, of_w: int) -> None:
    """By the product rule; what has no tangent is left out."""
    rng = np.random.default_rng(0)
    x, dx, w, dw = (jnp.asarray(numbers(rng, (3, 3))) for _ in range(4))

    def moved(t: jax.Array) -> jax.Array:
        return product(x + t * dx if of_x else x, w + t * dw if of_w else w)

    _, found = jax.jvp(moved, (jnp.float32(0),), (jnp.float32(1),))
    assert_array_equal(found, of_x * (dx @ w) + of_w * (x @ dw))


def planned(kernels: list[jax.Array], x: jax.Array, at: ops.WindowSpec) -> int:
    """Return the bytes that XLA plans for the gradient of one Winograd layer after another."""

    def loss(kernels: list[jax.Array], x: jax.Array) -> jax.Array:
        for w in kernels:
            x = jnp.tanh(winograd(x, w, at))
        return jnp.square(x).sum()

    analysis = jax.jit(jax.grad(loss)).lower(kernels, x).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


def test_kernels_are_not_all_transformed_at_once() -> None:
    """Transformed, one of 64×64 takes 36 · 64² floats; a step through six needs few at a time."""
    at = ops.window_spec((8, 8), 3, padding="SAME")
    kernels, x = [jnp.ones((3, 3, 64, 64))] * 6, jnp.ones((1, 8, 8, 64))
    assert planned(kernels, x, at) < 4 * 36 * 64**2 * 4


def test_turns_take_memory_when_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set aside at the start of a step, the maps of eight layers, both ways, are some 9 MB."""
    for name in ("MOST_BYTES", "MOST_KEPT"):
        monkeypatch.setattr(sys.modules[winograd.__module__], name, 1)
    at = ops.window_spec((16, 16), 3, padding="SAME")
    assert planned([jnp.ones((3, 3, 32, 32))] * 8, jnp.ones((4, 16, 16, 32)), at) < 4e6


def test_a_turn_makes_its_own_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all sixteen turns together, for the kernel's gradient, take 4.7 MB."""
    monkeypatch.setattr(sys.modules[winograd.__module__], "MOST_KEPT", 1)
    at = ops.window_spec((32, 32), 3, padding="SAME")
    x, w = jnp.ones((16, 32, 32, 32)), jnp.ones((3, 3, 32, 32))

    def gradient(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        return jax.vjp(lambda w: winograd(x, w, at), w)[1](g)[0]

    analysis = jax.jit(gradient).lower(x, w, x).compile().memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 36 * 16 * 64 * 32 * 4


def test_a_product_lets_weights_be_replaced_in_place() -> None:
    """Gradients one by one need a copy of weights that an optimizer is given to write over."""

    def copies(multiply: Op) -> int:
        def step(weights: list[jax.Array], x: jax.Array) -> list[jax.Array]:
            def loss(weights: list[jax.Array]) -> jax.Array:
                return jnp.square(multiply(jnp.tanh(multiply(x, weights[0])), weights[1])).sum()

            return jax.tree.map(lambda w, g: w - g, weights, jax.grad(loss)(weights))

        compiled = jax.jit(step, donate_argnums=0).lower(
            [jnp.ones((64, 64))] * 2, jnp.ones((8, 64))
        )
        return compiled.compile().as_text().count(" copy(")

    assert copies(product) == 0
    assert copies(jnp.matmul) > 0


def choice(x: tuple[int, ...], kernel: tuple[int, ...], strides: int = 1, groups: int = 1) -> str:
    at = ops.window_spec(x[1:-1], kernel[:-2], strides, "SAME")
    chosen = cpu.conv_on_cpu(jnp.dot, jnp.zeros(x), jnp.zeros(kernel), at, groups)
    return chosen.func.__name__ if chosen else "definition"


def test_what_is_lowered_to_what() -> None:
    assert choice((1, 9, 9, 64), (1, 1, 64, 64), strides=2) == "pointwise"
    assert choice((1, 9, 9, 64), (3, 3, 1, 64), groups=64) == "depthwise"
    assert choice((1, 9, 9, 64), (3, 3, 1, 128), groups=64) == "definition"
    assert choice((1, 9, 9, 1), (5, 5, 1, 16)) == "toeplitz"
    assert choice((1, 9, 9, 3), (3, 3, 3, 64)) == "toeplitz"
    assert choice((1, 9, 9, 16), (3, 3, 16, 16)) == "toeplitz"
    assert choice((1, 9, 9, 32), (5, 5, 32, 96)) == "toeplitz"
    assert choice((128, 64, 64, 32), (5, 5, 32, 96)) == "by_taps"  # 1.7 GB
    assert choice((1, 9, 1), (5, 1, 16)) == "toeplitz"
    assert choice((1, 9, 32), (15, 32, 32)) == "by_taps"
    assert choice((9, 9, 9, 32), (3, 3, 32, 64)) == "winograd"
    assert choice((9, 9, 9, 24), (3, 3, 24, 64)) == "winograd"
    assert choice((9, 9, 9, 23), (3, 3, 23, 64)) == "by_taps"
    assert choice((1, 9, 9, 32), (3, 3, 32, 64)) == "by_taps"  # 5 tiles
    assert choice((9, 9, 9, 32), (3, 3, 32, 64), strides=2) == "by_taps"
    assert choice((1, 9, 9, 3), (11, 11, 3, 64), strides=4) == "definition"
    at, kernel = ops.window_spec((9, 9), 1), jnp.ones((1, 1, 4, 4))
    low = jnp.ones((1, 9, 9, 4), jnp.bfloat16)
    assert cpu.conv_on_cpu(jnp.dot, low, kernel, at, 1) is None
    assert cpu.dense_on_cpu(jnp.ones((1, 256)), jnp.ones((256, 256))) is product
    assert cpu.dense_on_cpu(jnp.ones((1, 255)), jnp.ones((255, 256))) is None
    x = jnp.ones((1, 9, 9, 1))
    assert cpu.conv_local_on_cpu(x, jnp.ones((9, 9, 1, 1, 1, 17)), at, 1) is None
    assert cpu.conv_local_on_cpu(x, jnp.ones((9, 9, 1, 1, 1, 16)), at, 2) is None
    assert cpu.conv_local_on_cpu(x, jnp.ones((9, 9, 1, 1, 1, 16)), at, 1) is not None


def is_lowered(f: Op, *arrays: jax.Array) -> bool:
    return "platform_index" in str(jax.make_jaxpr(f)(*arrays))


def test_the_definition_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNN_LOWERING", raising=False)
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1))
    conv, pool = jax.jit(lambda *a: ops.conv(*a)), jax.jit(lambda x: ops.max_pool(x, 2))
    assert is_lowered(conv, x, kernel)
    assert is_lowered(pool, x)
    with cpu.use("reference"):
        assert not is_lowered(conv, x, kernel)
        assert not is_lowered(pool, x)
    assert is_lowered(conv, x, kernel)
    monkeypatch.setenv("CNN_LOWERING", "reference")
    assert not is_lowered(lambda x: ops.max_pool(x, 2), x)
    with cpu.use("fastest"):
        assert is_lowered(lambda x: ops.max_pool(x, 2), x)
    monkeypatch.setenv("CNN_LOWERING", "quickest")
    with pytest.raises(InputError, match=r"^CNN_LOWERING 'quickest' is unknown: choose 'fastest'"):
        ops.max_pool(x, 2)
    with pytest.raises(InputError, match=r"^lowering 'slow' is unknown: choose 'fastest'"):
        cpu.use("slow")  # type: ignore[arg-type]
