"""The explicit value of an ablation and the rewritten network compute the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnn import ablations, models
from cnn.ablations import Ablated
from cnn.layers import AvgPool, BatchNorm, Chain, Conv, Dense, Flatten, MaxPool, ReLU, Residual
from tests.ablations.foreign import assert_close

Ablation = Callable[[nn.Module], nn.Module]
ABLATIONS: dict[str, Ablation] = {
    "unshare": ablations.unshare,
    "unshare tied": partial(ablations.unshare, bias="tied"),
    "tile": partial(ablations.tile, period=2),
    "densify": ablations.densify,
    "localize": partial(ablations.localize, radius=2),
    "rewindow 5": partial(ablations.rewindow, window=(5, 5)),
    "rewindow 1": partial(ablations.rewindow, window=(1, 1)),
    "dilate": partial(ablations.dilate, rate=2),
    "repad": partial(ablations.repad, mode="circular"),
    "group": partial(ablations.group, groups=3, where=1),
    "separate": partial(ablations.separate, multiplier=2),
    "bottleneck": partial(ablations.bottleneck, channels=2),
    "bottleneck relu": partial(ablations.bottleneck, channels=2, activation=ReLU()),
    "factorize": ablations.factorize,
    "max": partial(ablations.repool, kind="max"),
    "avg": partial(ablations.repool, kind="avg"),
    "blur": partial(ablations.repool, kind="blur"),
    "stride": partial(ablations.repool, kind="stride"),
    "pool_window": partial(ablations.pool_window, window=3),
    "two": lambda model: ablations.unshare(ablations.rewindow(model, (3, 5))),
}


class StandIn(nn.Module):
    """A module that is not of `cnn.layers`."""


def rewritten(model: nn.Module, ablation: Ablation) -> Ablated:
    """Return the ablation of `model` as that of a network made elsewhere."""
    changed = ablation(StandIn())
    assert isinstance(changed, Ablated)
    return Ablated(model, changed.changes)


def moved(explicit: Any, shapes: Any) -> Any:
    """Return parameters of the explicit value in the tree of the rewritten network.

    What takes the place of a kernel is a dictionary there, and the last bias is beside it.
    """
    flat, used = flatten_dict(explicit), set()

    def find(path: tuple[str, ...]) -> jax.Array:
        at = path.index("kernel") if "kernel" in path[:-1] else len(path) - 1
        below = path[at + 1 :] or path[at:]
        same = [p for p in flat if p[:at] == path[:at] and p not in used]
        if path[-1] == "bias" and at == len(path) - 1:
            found = [p for p in same if p[-1] == "bias"][-1]
        else:
            found = next(p for p in same if p[at:] == below)
        used.add(found)
        return flat[found]

    order = sorted(flatten_dict(shapes), key=lambda path: ("kernel" not in path, path))
    return unflatten_dict({path: find(path) for path in order})


def check(model: nn.Module, ablation: Ablation, shape: tuple[int, ...], train: bool) -> None:
    """Compare outputs and input gradients, before and after a training step."""
    explicit, other = ablation(model), rewritten(model, ablation)
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    variables = jax.jit(explicit.init)(jax.random.key(1), x)
    shapes = jax.eval_shape(other.init, jax.random.key(1), x)
    same = {**variables, "params": moved(variables["params"], shapes["params"])}
    assert jax.tree.map(jnp.shape, same) == jax.tree.map(jnp.shape, shapes)

    @partial(jax.jit, static_argnums=0)
    def run(model: nn.Module, variables: Any) -> tuple[Any, Any, Any]:
        mutable = [name for name in variables if name != "params"] if train else False

        def loss(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
            options = {"train": True, "rngs": {"dropout": jax.random.key(3)}} if train else {}
            out = model.apply({**variables, "params": params}, x, mutable=mutable, **options)
            y = out[0] if train else out
            return jnp.square(y).mean(), out

        gradients, out = jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)
        step = jax.tree.map(lambda w, g: w - 0.01 * g, variables["params"], gradients[0])
        return out, gradients[1], step

    first, second = run(explicit, variables), run(other, same)
    assert_close(second[:2], first[:2])
    params = first[2]
    assert_close(second[2], moved(params, shapes["params"]))


SMALL = Chain(
    (
        Conv(3, (5, 5), padding="SAME"),
        BatchNorm(),
        ReLU(),
        MaxPool((2, 2)),
        Residual(Conv(3, (3, 3), padding=1, use_bias=False)),
        AvgPool((3, 3), 2, padding=1),
        Conv(4, (3, 3), strides=2, padding="SAME"),
        ReLU(),
        Flatten(),
        Dense(3),
    )
)


QUICK = ("unshare", "densify", "separate", "bottleneck relu", "blur")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in ABLATIONS]
)
def test_a_small_network(name: str) -> None:
    check(SMALL, ABLATIONS[name], (10, 9, 2), train=name in ("unshare", "separate"))


ZOO: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "cnn1d": (models.cnn1d(channels=3), (40, 1)),
    "lenet5": (models.lenet5(channels=(2, 3), hidden=(6,)), (20, 20, 1)),
    "lecture_cnn": (models.lecture_cnn(channels=(2, 3), hidden=6), (20, 20, 1)),
    "small_vgg": (models.small_vgg(channels=(2, 3), hidden=4, norm="batch"), (16, 16, 3)),
    "small_inception": (models.small_inception(width=1 / 16, norm="none"), (16, 16, 3)),
    "s_conv": (models.s_conv(alpha=1), (12, 12, 3)),
    "alexnet": (models.alexnet(10, width=0.02), (67, 67, 3)),
    "vgg11": (models.vgg11(10, width=0.02, norm="batch"), (32, 32, 3)),
    "googlenet": (models.googlenet(10, width=1 / 32), (33, 33, 3)),
    "resnet18": (models.resnet18(10, width=1 / 32), (33, 33, 3)),
}
POOLING = ("max", "avg", "blur", "stride", "pool_window")
IMPOSSIBLE = {
    *((kind, name) for kind in POOLING for name in ("cnn1d", "s_conv")),  # without pooling
    *(("blur", name) for name in ("alexnet", "vgg11", "googlenet")),  # maps too small to reflect
}


@pytest.mark.slow
@pytest.mark.parametrize("ablation", [n for n in ABLATIONS if n not in ("repad", "group")])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name: str, ablation: str) -> None:
    model, shape = ZOO[name]
    if (ablation, name) not in IMPOSSIBLE:
        rank = len(shape) - 1
        change = ABLATIONS[ablation]
        if rank == 1 and "rewindow" in ablation:
            change = partial(ablations.rewindow, window=(int(ablation[-1]),))
        if rank == 1 and ablation == "two":
            return
        check(model, change, shape, train=False)
