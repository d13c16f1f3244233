"""Attention distance: how far the heads of attention look, and how open their gates are."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers import PositionalAttention
from cnn.layers.combinators import train_argument


class AttentionHeads(NamedTuple):
    """The heads of an attention layer, one per tap of its window."""

    distance: Float[Array, "*window"]
    """Mean distance in input positions, weighted by attention."""
    gate: Float[Array, "*window"]
    """Share of attention by position, from 0 to 1; the rest is by content."""


def attention_heads(
    model: nn.Module, variables: dict[str, Any], x: Float[Array, "batch *spatial c"]
) -> dict[str, AttentionHeads]:
    """Return distance and gate of the heads of every `PositionalAttention`, by the layers' paths.

    The attention of a head is A[p, j] = g · P[p, j] + (1 − g) · C[p, j] (`cnn.ops.attention`). Its
    distance is Σ_j A[p, j] |j − c_p|, the mean over inputs and output positions p, with the centre
    c_p of the window at p and the Euclidean norm. Padding counts as positions. A head at tap δ of a
    convolution, counted from the centre, has the distance |δ|. `learned_locality` is the measure of
    kernels with weights at fixed offsets.

    Args:
      model: Any Linen module. It runs as in inference. Of a layer that runs several times, the last
        run counts.
      variables: Its parameters and state.
      x: Inputs. Attention by content depends on them.

    Raises:
      InputError: If there is no such layer in the model.

    Reference:
      Dosovitskiy et al., "An Image is Worth 16x16 Words" (2021), and d'Ascoli et al., "ConViT"
      (2021), measure this distance between the patches of images (from memory, not checked).
    """
    found: dict[str, AttentionHeads] = {}

    def record(
        call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
    ) -> Any:
        layer = context.module
        if isinstance(layer, PositionalAttention) and context.method_name == "__call__":
            found["/".join(layer.path)] = _heads(layer, layer.variables["params"], args[0])
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        model.apply(variables, x, **train_argument(model, False))
    if not found:
        raise InputError(
            f"model must have a PositionalAttention of cnn.layers, got {type(model).__name__} "
            "without one: `ablations.attend` makes them of the layers Conv"
        )
    return found


def _heads(layer: PositionalAttention, params: Mapping[str, Array], x: Array) -> AttentionHeads:
    window, rank = params["gates"].shape, x.ndim - 2
    size, c_in, heads = x.shape[1:-1], x.shape[-1], math.prod(window)
    spec = ops.window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
    padded = ops.pad(x, spec.pairs, layer.padding_mode)
    spans = np.array(spec.dilation) * (np.array(window) - 1)  # from the first tap to the last one
    starts = _grid(spec.out) * spec.strides
    steps = _grid(padded.shape[1:-1]) - starts[:, None]  # from the first tap to each position

    scores = -jnp.square(steps[None] - params["offsets"].reshape(heads, 1, 1, rank)).sum(-1)
    strengths = params["strengths"].reshape(heads, 1, 1)
    by_position = _mean_distance(strengths * scores, steps - spans / 2)

    queries = padded[(slice(None), *(starts + spans // 2).T)]
    keys = x.reshape(len(x), -1, c_in)
    query = params["query"].reshape(heads, c_in, c_in)
    scores = jnp.einsum("npc,hcd,nid->nhpi", queries, query, keys) / math.sqrt(c_in)
    inputs = _grid(size) + [lo for lo, _ in spec.pairs] - starts[:, None]
    by_content = _mean_distance(scores, inputs - spans / 2).mean(0)

    gate = jax.nn.sigmoid(params["gates"])
    distance = gate * by_position.reshape(window) + (1 - gate) * by_content.reshape(window)
    return AttentionHeads(distance, gate)


def _mean_distance(scores: Array, steps: np.ndarray) -> Array:
    """Return Σ_j softmax_j(scores[..., p, j]) |steps[p, j]|, the mean over p."""
    far = np.linalg.norm(steps, axis=-1)
    return jnp.einsum("...pj,pj->...", jax.nn.softmax(scores), far.astype(scores.dtype)) / len(far)


def _grid(size: tuple[int, ...]) -> np.ndarray:
    """Return the positions of a map in row-major order, `(positions, rank)`."""
    return np.indices(size).reshape(len(size), -1).T
