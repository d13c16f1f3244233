"""What stands between a parameter and its convolution, and where a convolution may be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cnn import ablations
from cnn.ablations import lift
from cnn.errors import InputError
from cnn.layers import Chain, Conv
from tests.ablations.foreign import assert_close, images

X = images(6, 2)
convolve = partial(
    lax.conv_general_dilated,
    window_strides=(1, 1),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)


class Kernel(nn.Module):
    """A convolution whose kernel `transform` computes from a parameter of `shape`."""

    transform: Callable[..., jax.Array]
    shape: tuple[int, ...] = (3, 3, 2, 4)
    apply_twice: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.normal(1.0), self.shape)
        y = convolve(x, self.transform(kernel, x))
        return convolve(nn.relu(y[..., :2]), self.transform(kernel, x)) if self.apply_twice else y


def standardized(kernel: jax.Array, x: jax.Array) -> jax.Array:
    axes = (0, 1, 2)
    centred = kernel - kernel.mean(axes, keepdims=True)
    return centred / (kernel.std(axes, keepdims=True) + 1e-5)


@jax.custom_vjp
def rounded(kernel: jax.Array) -> jax.Array:
    """Round to eighths, with the gradient of the identity."""
    return jnp.round(kernel * 8) / 8


rounded.defvjp(lambda kernel: (rounded(kernel), None), lambda _, g: (g,))
MASK = np.arange(9).reshape(3, 3, 1, 1) % 2


class LowRank(nn.Module):
    """A convolution whose kernel is the product of two parameters, each scaled by a third."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        u = self.param("u", nn.initializers.normal(1.0), (3, 3, 2, 2))
        v = self.param("v", nn.initializers.normal(1.0), (2, 4))
        scale = self.param("scale", nn.initializers.ones_init(), ())
        return scale * convolve(x, scale * u @ v)


COMPUTED: dict[str, nn.Module] = {
    "cast": nn.Conv(4, (3, 3), dtype=jnp.bfloat16),
    "standardized": Kernel(standardized),
    "mask": Kernel(lambda kernel, x: kernel * MASK),
    "moved": Kernel(lambda kernel, x: kernel.transpose(3, 2, 1, 0), (4, 2, 3, 3)),
    "rounded": Kernel(lambda kernel, x: rounded(kernel)),
    "twice": Kernel(lambda kernel, x: kernel, apply_twice=True),
    "low rank": LowRank(),
    "weight norm": nn.WeightNorm(nn.Conv(4, (3, 3))),
    "checkpoint": nn.remat(nn.Conv, policy=jax.checkpoint_policies.dots_saveable)(4, (3, 3)),
}


def gradient(model: nn.Module, variables: Any) -> Any:
    """Return the gradient of a sum over outputs, with respect to the variables."""
    weight = jax.random.normal(jax.random.key(2), (*X.shape[:-1], 4))

    def loss(variables: Any) -> jax.Array:
        return (model.apply(variables, X) * weight).astype(jnp.float32).sum()

    return jax.jit(jax.grad(loss))(variables)


@pytest.mark.parametrize("name", COMPUTED)
def test_a_kernel_is_computed_at_each_position(name: str) -> None:
    """Outputs are equal, gradients up to the sum over positions; a changed position is alone."""
    model = COMPUTED[name]
    variables, unshared = model.init(jax.random.key(0), X), ablations.unshare(model)
    lifted = lift(variables, model, unshared, X.shape[1:])
    expected = jax.eval_shape(unshared.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, expected)
    y = model.apply(variables, X)
    assert_close(unshared.apply(lifted, X), y)
    gradients, tied = gradient(unshared, lifted), gradient(model, variables)
    summed = jax.tree.map(lambda g, t: g.sum(tuple(range(g.ndim - t.ndim))), gradients, tied)
    assert_close(summed, tied, 1e-2 if name == "cast" else 1e-5)
    one = jax.tree.map(lambda w: w.at[2, 3].set(w[2, 3][::-1]) if w.ndim > 2 else w, lifted)
    differs = jnp.abs(unshared.apply(one, X) - y).max((0, 3)) > 1e-2
    if name != "twice":
        assert jnp.argwhere(differs).tolist() == [[2, 3]]


def test_statistics_of_a_kernel_are_those_of_each_position() -> None:
    """Spectral normalization updates a vector, which then has positions like the kernel."""

    class Spectral(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
            return nn.SpectralNorm(nn.Conv(4, (3, 3)))(x, update_stats=train)

    model, unshared = Spectral(), ablations.unshare(Spectral())
    variables = model.init(jax.random.key(0), X)
    lifted = lift(variables, model, unshared, X.shape[1:])
    expected = jax.eval_shape(unshared.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, expected)
    y, old = model.apply(variables, X, train=True, mutable=["batch_stats"])
    same, new = unshared.apply(lifted, X, train=True, mutable=["batch_stats"])
    assert_close(same, y)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(
        jnp.shape, {"batch_stats": lifted["batch_stats"]}
    )
    assert_close(jax.tree.map(lambda v: v[3, 4], new), old)


class Case(nn.Module):
    """A first convolution, and `rest(kernel, x)` with the kernel of the second."""

    rest: Callable[[jax.Array, jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(2, (3, 3), name="first")(x)
        return self.rest(self.param("kernel", nn.initializers.normal(1.0), (3, 3, 2, 2)), x)


@jax.custom_vjp
def custom(kernel: jax.Array, x: jax.Array) -> jax.Array:
    return convolve(x, kernel)


custom.defvjp(lambda kernel, x: (custom(kernel, x), None), lambda _, g: (None, g))


def scanned(kernel: jax.Array, x: jax.Array) -> jax.Array:
    return lax.scan(lambda x, _: (convolve(x, kernel), None), x, None, length=2)[0]


REFUSED: dict[str, tuple[Callable[[jax.Array, jax.Array], jax.Array], str]] = {
    "dynamic": (lambda k, x: convolve(x, k * x.mean()), "depends on the input, or on random"),
    "used": (lambda k, x: convolve(x, k) * k.sum(), "kernel is also used by mul"),
    "two sizes": (
        lambda k, x: convolve(convolve(x, k)[:, ::2], k),
        "kernel is the kernel of several convolutions that differ",
    ),
    "scan": (scanned, "it is inside a scan"),
    "scan and outside": (
        lambda k, x: scanned(k, convolve(x, k)),
        "it is inside a scan",
    ),
    "cond": (
        lambda k, x: lax.cond(x.sum() > 0, lambda: convolve(x, k), lambda: x),
        "it is inside a cond",
    ),
    "while": (
        lambda k, x: lax.fori_loop(0, x[0, 0, 0, 0].astype(int), lambda i, x: convolve(x, k), x),
        "it is inside a while",
    ),
    "custom": (custom, "it is inside a function with a derivative of its own"),
    "transposed": (
        lambda k, x: convolve(x, k, lhs_dilation=(2, 2), padding=((1, 1), (1, 1))),
        "it is a transposed convolution, or the gradient of one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_convolution_that_cannot_be_changed_is_named(name: str) -> None:
    rest, message = REFUSED[name]
    with pytest.raises(InputError, match=f"{message}.* leave it out by `where`") as error:
        jax.eval_shape(ablations.unshare(Case(rest)).init, jax.random.key(0), X)
    assert "\n" not in str(error.value)
    others = ablations.unshare(Case(rest), where="first")
    made = jax.eval_shape(others.init, jax.random.key(0), X)["params"]
    assert made["first"]["kernel"].shape == (6, 6, 3, 3, 2, 2)
    assert made["kernel"].shape == (3, 3, 2, 2)


def test_a_kernel_that_is_computed_keeps_its_shape() -> None:
    for name, primitive in {"standardized": "reduce_sum", "mask": "mul", "low rank": "mul"}.items():
        message = f"its kernel passes through {primitive} before .* cannot have another shape"
        with pytest.raises(InputError, match=message):
            jax.eval_shape(ablations.rewindow(COMPUTED[name], (5, 5)).init, jax.random.key(0), X)
    wide = ablations.rewindow(COMPUTED["moved"], (5, 1))
    made = jax.eval_shape(wide.init, jax.random.key(0), X)
    assert made["params"]["kernel"].shape == (4, 2, 1, 5)


def test_a_border_outside_of_the_convolution_stays() -> None:
    """Circular padding before the convolution: a window of 5 would see zeros beyond it."""
    circular = nn.Conv(4, (3, 3), padding="CIRCULAR")
    made = circular.init(jax.random.key(0), X)
    unshared = ablations.unshare(circular)
    lifted = lift(made, circular, unshared, X.shape[1:])
    assert_close(unshared.apply(lifted, X), circular.apply(made, X))
    small = ablations.rewindow(circular, (1, 1))
    one = {**made["params"], "kernel": made["params"]["kernel"][1:2, 1:2]}
    expected = nn.Conv(4, (1, 1)).apply({"params": one}, X)
    assert_close(small.apply({"params": one}, X), expected)

    class Padded(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Conv(4, (3, 3), padding="VALID")(jnp.pad(x, ((0, 0), (1, 1), (2, 2), (0, 0))))

    wide = ablations.rewindow(Padded(), (5, 5))
    made = wide.init(jax.random.key(0), X)
    expected = nn.Conv(4, (5, 5), padding=((2, 2), (3, 3))).apply(
        {"params": made["params"]["Conv_0"]}, X
    )
    assert_close(wide.apply(made, X), expected)
    for model, border, changes in [
        (circular, "concatenate", [partial(ablations.rewindow, window=(5, 5)), ablations.densify]),
        (Padded(), "pad", [partial(ablations.repad, mode="circular"), ablations.densify]),
    ]:
        for change in changes:
            with pytest.raises(InputError, match=f"its input is padded by {border} before"):
                jax.eval_shape(change(model).init, jax.random.key(0), X)


def test_an_output_that_is_also_used_without_its_bias() -> None:
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            y = nn.Conv(4, (3, 3), use_bias=False, name="conv")(x)
            bias = self.param("bias", nn.initializers.ones_init(), (4,))
            return y * (y + jnp.broadcast_to(bias, y.shape))

    message = "its output is also used without the bias, .* pass bias='tied'"
    with pytest.raises(InputError, match=message):
        jax.eval_shape(ablations.unshare(Both()).init, jax.random.key(0), X)
    tied = ablations.unshare(Both(), bias="tied")
    variables = Both().init(jax.random.key(0), X)
    lifted = lift(variables, Both(), tied, X.shape[1:])
    assert_close(tied.apply(lifted, X), Both().apply(variables, X))


def test_a_bias_that_is_added_in_another_type() -> None:
    """The sum of the convolution, in bfloat16, would be rounded before the bias is added."""

    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            y = nn.Conv(4, (3, 3), use_bias=False, dtype=jnp.bfloat16, name="conv")(x)
            bias = self.param("bias", nn.initializers.ones_init(), (4,))
            return y.astype(jnp.float32) + jnp.broadcast_to(bias, y.shape)

    message = "layer conv: its bias is added to its output in float32, .* pass bias='tied'"
    with pytest.raises(InputError, match=message):
        jax.eval_shape(ablations.unshare(Mixed()).init, jax.random.key(0), X)


def test_what_is_added_at_each_position_is_no_bias() -> None:
    """A position embedding stays as it is."""

    class Embedded(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            y = nn.Conv(4, (3, 3), use_bias=False)(x)
            where = self.param("embedding", nn.initializers.normal(), (1, 6, 6, 4))
            return y + jnp.broadcast_to(where, y.shape)

    variables, unshared = Embedded().init(jax.random.key(0), X), ablations.unshare(Embedded())
    lifted = lift(variables, Embedded(), unshared, X.shape[1:])
    assert lifted["params"]["embedding"].shape == (1, 6, 6, 4)
    assert_close(unshared.apply(lifted, X), Embedded().apply(variables, X))


def test_a_checkpoint_recomputes_what_it_did() -> None:
    unshared = ablations.unshare(COMPUTED["checkpoint"])
    made = jax.eval_shape(unshared.init, jax.random.key(0), X)
    program = jax.make_jaxpr(lambda v: unshared.apply(v, X))(made)
    (eqn,) = (e for e in program.eqns if "prevent_cse" in e.params)
    assert eqn.params["policy"] is jax.checkpoint_policies.dots_saveable
    assert "dot_general" in str(eqn.params["jaxpr"])


def test_a_single_channel_has_a_bias_too() -> None:
    unshared = ablations.unshare(nn.Conv(1, (3, 3)))
    made = jax.eval_shape(unshared.init, jax.random.key(0), X)
    assert made["params"]["bias"].shape == (6, 6, 1)


def test_two_kernels_of_a_layer_have_different_names() -> None:
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for name in ("first", "second"):
                x = convolve(x, self.param(name, nn.initializers.normal(), (3, 3, 2, 2)))
            jax.debug.callback(lambda y: None, x)  # an equation without a result
            return x

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return Both(name="both")(x)

    assert list(ablations.list_layers(Net(), (6, 6, 2))) == ["both", "both#2"]
    all_of_it = ablations.unshare(Net(), where="both")
    made = jax.eval_shape(all_of_it.init, jax.random.key(0), X)["params"]["both"]
    assert {kernel.shape for kernel in made.values()} == {(6, 6, 3, 3, 2, 2)}
    second = ablations.unshare(Net(), where="both#2")
    made = jax.eval_shape(second.init, jax.random.key(0), X)["params"]["both"]
    assert made["first"].shape == (3, 3, 2, 2)
    assert made["second"].shape == (6, 6, 3, 3, 2, 2)


def test_precision_is_kept() -> None:
    model = nn.Conv(4, (3, 3), precision="highest")
    unshared = ablations.unshare(model)
    made = jax.eval_shape(unshared.init, jax.random.key(0), X)
    program = str(jax.make_jaxpr(unshared.apply)(made, X))
    assert "dot_general" in program
    assert "Precision.HIGHEST" in program


def test_pooling_is_recognized_only_where_it_is_certain() -> None:
    """A mean by its count, also with padding; a sum by another number, or used itself, is none."""

    def means(divide: Callable[[jax.Array], jax.Array]) -> tuple[int, ...]:
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: jax.Array) -> jax.Array:
                padding = ((0, 0), (1, 1), (1, 1), (0, 0))
                return divide(
                    lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), padding)
                )

        shape = jax.eval_shape(
            ablations.repool(Net(), "max").init_with_output, jax.random.key(0), X
        )
        return shape[0].shape

    counts = np.array([2.0, 3, 3, 3, 3, 2])
    inside = (counts[:, None] * counts)[None, :, :, None].astype(np.float32)
    for divide in (lambda y: y / 9, lambda y: y * (1 / 9), lambda y: y / inside):
        assert means(divide) == X.shape
    none = "the model has no layer that this ablation changes"
    for divide in (lambda y: y, lambda y: y / 8, lambda y: 9 / y):
        with pytest.raises(InputError, match=none):
            means(divide)
    with pytest.raises(InputError, match="the sum of its windows is also used undivided"):
        means(lambda y: y / 9 + y)


def test_where_by_predicate_and_number() -> None:
    """A predicate gets the path and the layer of `cnn.layers` that the convolution is."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.Conv(2, (3, 3), strides=2, name="a")(x)
            return nn.Conv(2, (1, 3), name="b")(nn.max_pool(x, (2, 2)))

    seen: dict[str, nn.Module] = {}
    by_stride = ablations.unshare(
        Net(), where=lambda n, v: bool(seen.setdefault(n, v).strides[0] > 1)
    )
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(by_stride.init, jax.random.key(0), X))
    assert seen == {
        "a": Conv(2, (3, 3), (2, 2), ((0, 1), (0, 1)), "zeros", (1, 1)),
        "b": Conv(2, (1, 3), (1, 1), ((0, 0), (1, 1)), "zeros", (1, 1)),
    }
    for where in (0, [-2], "a"):
        same = ablations.unshare(Net(), where=where)
        assert jax.tree.map(jnp.shape, jax.eval_shape(same.init, jax.random.key(0), X)) == shapes
    assert shapes["params"]["a"]["kernel"] == (3, 3, 3, 3, 2, 2)
    assert shapes["params"]["b"]["kernel"] == (1, 3, 2, 2)


def test_bad_input() -> None:
    class Branching(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Conv(2, (3, 3))(x) if x.sum() > 0 else x

    with pytest.raises(InputError, match=r"shapes or control flow depend on data: .* boolean"):
        jax.eval_shape(ablations.unshare(Branching()).init, jax.random.key(0), X)
    with pytest.raises(InputError, match="the model has no layer that this ablation changes"):
        ablations.unshare(nn.Dense(3)).init(jax.random.key(0), X)
    with pytest.raises(InputError, match="unknown layer 'Conv_7': choose one of layers_0"):
        ablations.unshare(Chain((nn.Conv(3, (3, 3)),)), where="Conv_7").init(jax.random.key(0), X)
    shape = r"the output must keep its shape \(6, 6, 3\), got \(4, 4, 3\)"
    with pytest.raises(InputError, match=shape):
        ablations.repad(nn.Conv(3, (3, 3)), padding="VALID").init(jax.random.key(0), X)


def test_the_bias() -> None:
    """Tied it stays; untied it gets positions, unless it is computed."""

    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.Conv(4, (3, 3), use_bias=False, name="conv")(x)
            return x + jnp.broadcast_to(
                8 * self.param("bias", nn.initializers.ones_init(), (4,)), x.shape
            )

    tied = ablations.unshare(nn.Conv(4, (3, 3)), bias="tied")
    made = tied.init(jax.random.key(0), X)
    assert made["params"]["bias"].shape == (4,)
    shifted = {"params": {**made["params"], "bias": jnp.arange(4.0)}}
    assert_close(
        tied.apply(shifted, X) - tied.apply(made, X),
        jnp.broadcast_to(jnp.arange(4.0), (3, 6, 6, 4)),
    )
    message = "layer conv: its bias passes through mul .* pass bias='tied'"
    with pytest.raises(InputError, match=message):
        ablations.unshare(Scaled()).init(jax.random.key(0), X)
    made = ablations.unshare(Scaled(), bias="tied").init(jax.random.key(0), X)
    assert made["params"]["bias"].shape == (4,)
    assert made["params"]["conv"]["kernel"].shape == (6, 6, 3, 3, 2, 4)
