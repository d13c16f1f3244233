"""Convolution in one group, in the way that is estimated to cost least."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Array, Float

from cnn.ops.cpu import (
    im2col,
    kernel_gradient,
    kn2row,
    strided,
    toeplitz,
    volumes,
    whole_map,
    winograd,
)
from cnn.ops.cpu.cost import Nanoseconds, Shape, constants
from cnn.ops.window import WindowSpec


class Way(NamedTuple):
    """A way to convolve in one group."""

    compute: Callable[[Array, Array, WindowSpec], Array]
    fits: Callable[[Shape, Shape, WindowSpec], bool]
    """Whether its own program and memory are within bounds."""
    cost: Callable[[Shape, Shape, WindowSpec, Nanoseconds], float]
    """The estimated time of the forward pass and both gradients."""


def convolve(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group, in a way that `fits`."""
    return WAYS[choice(x.shape, kernel.shape, spec)].compute(x, kernel, spec)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there is a way."""
    return bool(costs(x, kernel, spec, constants()))


def choice(x: Shape, kernel: Shape, spec: WindowSpec) -> str:
    """Return the name of the way that costs least."""
    found = costs(x, kernel, spec, constants())
    return min(found, key=found.__getitem__)


def costs(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> dict[str, float]:
    """Return the cost of each way that fits, and whose inner convolutions have one."""
    fitting = {name: way for name, way in WAYS.items() if way.fits(x, kernel, spec)}
    found = {name: way.cost(x, kernel, spec, ns) for name, way in fitting.items()}
    return {name: cost for name, cost in found.items() if cost < math.inf}


def _least(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the least cost of an inner convolution: infinity if no way fits."""
    return min(costs(x, kernel, spec, ns).values(), default=math.inf)


WAYS = {
    "im2col": Way(im2col.im2col, im2col.fits, im2col.cost),
    "kn2row": Way(kn2row.kn2row, kn2row.fits, kn2row.cost),
    "whole_map": Way(whole_map.whole_map, whole_map.fits, whole_map.cost),
    "toeplitz": Way(toeplitz.toeplitz, toeplitz.fits, toeplitz.cost),
    "winograd": Way(winograd.winograd, winograd.fits, winograd.cost),
    "kernel_gradient": Way(
        kernel_gradient.conv_with_kernel_gradient, kernel_gradient.fits, kernel_gradient.cost
    ),
    "strided": Way(
        partial(strided.strided, convolve=convolve),
        strided.fits,
        partial(strided.cost, convolve=_least),
    ),
    "volumes": Way(
        partial(volumes.volumes, convolve=convolve),
        volumes.fits,
        partial(volumes.cost, convolve=_least),
    ),
}
"""All ways; of equal ones the first is taken."""
