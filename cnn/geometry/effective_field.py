"""How the weight of a unit is distributed over its receptive field (Luo et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from cnn.errors import InputError, unknown_name
from cnn.geometry.paths import follow_paths
from cnn.geometry.reading import Reading, checked_shape, read_model
from cnn.geometry.receptive_field import field_of
from cnn.geometry.value import Value

Paths = dict[object, Array]
"""For each value, by its key, how many paths lead to each of its entries."""


def uniform_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    variables: PyTree = None,
) -> Float[np.ndarray, "*spatial"]:
    """Return the share of each pixel in a unit's gradient if all weights are equal; sum 1.

    It counts the paths from the pixels to the unit (Luo et al. 2016, section 2.1). Pooling becomes
    a sum, activations the identity, and products of features the sum of their factors: no path is
    lost, so the pixels above 0 are exactly those that the unit sees. All are 0 if it sees nothing
    but padding.

    Args:
      model: any Linen module of one input.
      input_shape: `(*spatial, channels)`.
      layer: its name in `describe`; by default the last one whose units form a map.
      unit: a position on the layer's map, by default its middle. Units of a layer
        without a map count as one.
      variables: as in `describe`.
    """
    shape = checked_shape(input_shape)
    reading = read_model(model, shape, variables)
    last = _last_step(reading, layer, shape)
    if last is None:
        return _at_pixel(shape, unit)
    steps = [step for step, _ in reading.steps[: last[0] + 1]]
    output = steps[-1].outputs[last[1]]
    index = _index(output, unit)

    def value(x: Array) -> Array:
        paths: Paths = {reading.x.key: x}
        for step in steps:
            made = follow_paths(step, [paths.get(v.key) for v in step.operands])
            paths |= {v.key: y for v, y in zip(step.outputs, made, strict=True)}
        return paths[output.key][index].sum()

    gradient = jax.jit(jax.grad(value))(jnp.ones((1, *shape)))[0]
    density = np.asarray(gradient, np.float64).sum(-1)
    return density / max(density.sum(), np.finfo(float).tiny)


def spread(density: Float[np.ndarray, "*spatial"]) -> tuple[float, ...]:
    """Return the standard deviation of a density over the pixels, in pixels per axis.

    √(Σ q_i (i − μ)²) with μ = Σ q_i i and q the marginal. For n uniform convolutions with windows
    of 3 it is √(2n / 3), where the receptive field is 2n + 1.
    """
    deviations = []
    for axis, n in enumerate(density.shape):
        others = tuple(a for a in range(density.ndim) if a != axis)
        q = density.sum(others) / density.sum()
        mean = q @ np.arange(n)
        deviations.append(math.sqrt(q @ (np.arange(n) - mean) ** 2))
    return tuple(deviations)


def _last_step(reading: Reading, layer: str | None, shape: Sequence[int]) -> tuple[int, int] | None:
    """Return the step of a layer's output, and which output; by default of the last map."""
    rows = reading.rows.rows
    names = [row.name for row in rows]
    if layer is not None and layer not in names:
        raise unknown_name("layer", layer, names)
    found = None if layer is None else names.index(layer)
    if layer is None:
        for i, row in enumerate(rows):
            field = None if row.unknown else field_of(row.seen, shape[:-1])
            if field is not None and field.is_map:
                found = i
    if found is None:
        return None
    key = rows[found].output
    return next(
        (i, j)
        for i, (step, _) in enumerate(reading.steps)
        for j, value in enumerate(step.outputs)
        if value.key is key
    )


def _at_pixel(shape: Sequence[int], unit: Sequence[int] | None) -> np.ndarray:
    density = np.zeros(shape[:-1])
    density[tuple(n // 2 for n in shape[:-1]) if unit is None else tuple(unit)] = 1
    return density


def _index(output: Value, unit: Sequence[int] | None) -> tuple[Any, ...]:
    """Return the index of a unit's channels in a value."""
    axes = [seen.axis for seen in output.seen]
    size = tuple(0 if axis is None else output.shape[axis] for axis in axes)
    at = tuple(n // 2 for n in size) if unit is None else tuple(unit)
    if len(at) != len(axes) or not all(0 <= p < n for p, n in zip(at, size, strict=True) if n):
        raise InputError(f"unit must be a position on a map of size {size}, got {unit}")
    places = dict(zip(axes, at, strict=True))
    return tuple(places.get(axis, slice(None)) for axis in range(len(output.shape)))
