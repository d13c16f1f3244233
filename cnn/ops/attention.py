"""Self-attention with one head per tap of a window, gated between content and position.

    y[p] = bias + Σ_h (g_h · Σ_j P_h[p, j] x[j] + (1 − g_h) · Σ_i C_h[p, i] x[i]) · kernel[h]

    P_h[p, j] = softmax_j(−α_h |j − s·p − Δ_h|²)        over the positions j of the padded input
    C_h[p, i] = softmax_i(x[centre of p] · M_h · x[i] / √c_in)     over the positions i of the input

with gates g = σ(λ), strides s, and the offset Δ of a head from the first tap of the window
(d'Ascoli et al. 2021). If Δ_h are the taps of a convolution, the strengths α are large and the
gates are open, then P_h selects tap h, and y is the convolution with the same kernel (Cordonnier,
Loukas and Jaggi 2020, theorem 1).

M_h is the product of the query and key matrices, and kernel[h] that of the value and output
matrices, of full rank.
"""

import math
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, promote_floats
from cnn.ops.dense import dense
from cnn.ops.options import WindowOptions, conv_spec
from cnn.ops.padding import pad
from cnn.ops.window import WindowSpec, dilated


def positional_attention(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    query: Float[Array, "*window c_in c_in"],
    offsets: Float[Array, "*window rank"],
    strengths: Float[Array, "*window"],
    gates: Float[Array, "*window"],
    bias: Float[Array, " c_out"] | None = None,
    **options: Unpack[WindowOptions],
) -> Float[Array, "batch *out c_out"]:
    """Return gated positional self-attention, with the equation of `cnn.ops.attention`.

    Args:
      x: `(batch, *spatial, c_in)`.
      kernel: `(*window, c_in, c_out)`, one matrix per head.
      query: `(*window, c_in, c_in)`, the matrices M of the content scores.
      offsets: `(*window, rank)`, Δ in input positions.
      strengths: `(*window,)`, α.
      gates: `(*window,)`, λ, the logits of the share of position.
      bias: `(c_out,)`, or None.
      **options: Where the windows are, as in `cnn.ops.conv`.

    Reference:
      d'Ascoli et al., "ConViT: Improving Vision Transformers with Soft Convolutional Inductive
      Biases" (2021). Cordonnier, Loukas and Jaggi, "On the Relationship between Self-Attention and
      Convolutional Layers" (2020).
    """
    parts = {"query": query, "offsets": offsets, "strengths": strengths, "gates": gates}
    x, kernel, *others = promote_floats(x=x, kernel=kernel, **parts)
    spec, mode, _ = conv_spec(x.shape, kernel.shape, **options)
    window, c_in, rank = spec.window, x.shape[-1], len(spec.window)
    shapes = [(*window, c_in, c_in), (*window, rank), window, window]
    for name, value, shape in zip(parts, others, shapes, strict=True):
        if value.shape != shape:
            raise InputError(f"{name} must have shape {shape}, got {value.shape}")
    heads, padded = math.prod(window), pad(x, spec.pairs, mode)
    query, offsets, strengths, gates = (
        value.reshape(heads, *value.shape[rank:]) for value in others
    )
    by_position = _attend_by_position(padded, offsets, strengths, spec)
    by_content = _attend_by_content(x, padded, query, spec)
    share = jax.nn.sigmoid(gates)[None, None, :, None]
    seen = by_position * share + by_content * (1 - share)
    c_out = kernel.shape[-1]
    y = dense(seen.reshape(*seen.shape[:-2], heads * c_in), kernel.reshape(heads * c_in, c_out))
    return add_bias(y.reshape(x.shape[0], *spec.out, c_out), bias)


def _attend_by_position(
    padded: Array, offsets: Array, strengths: Array, spec: WindowSpec
) -> Float[Array, "batch out heads c_in"]:
    """Return Σ_j P_h[p, j] x[j]."""
    heads, rank = len(strengths), len(spec.out)
    wide = jnp.promote_types(padded.dtype, jnp.float32)  # the squares are large
    offsets, strengths = offsets.astype(wide), strengths.astype(wide)
    score = jnp.zeros((heads,) + (1,) * 2 * rank, wide)
    for axis, (s, out) in enumerate(zip(spec.strides, spec.out, strict=True)):
        steps = np.arange(padded.shape[axis + 1]) - s * np.arange(out)[:, None]
        distance = steps[None] - offsets[:, axis, None, None]
        others = [1 + a for a in range(2 * rank) if a not in (axis, rank + axis)]
        score = score - jnp.expand_dims(strengths[:, None, None] * distance**2, others)
    places = math.prod(padded.shape[1:-1])
    shares = _softmax(score.reshape(heads, math.prod(spec.out), places), padded.dtype)
    batch, c_in = padded.shape[0], padded.shape[-1]
    line = padded.reshape(batch, places, c_in)
    flat = shares.transpose(1, 0, 2).reshape(-1, places)
    # one small product for each example: of one large product, XLA would transpose the result
    seen = jnp.matmul(jnp.broadcast_to(flat, (batch, *flat.shape)), line)
    return seen.reshape(batch, math.prod(spec.out), heads, c_in)


def _attend_by_content(
    x: Array, padded: Array, query: Array, spec: WindowSpec
) -> Float[Array, "batch out heads c_in"]:
    """Return Σ_i C_h[p, i] x[i]. The query at p is the padded input at the centre of the window."""
    spans = dilated(spec.window, spec.dilation)
    steps = zip(spans, spec.strides, spec.out, strict=True)
    centres = [slice((d - 1) // 2, (d - 1) // 2 + s * (n - 1) + 1, s) for d, s, n in steps]
    batch, c_in = x.shape[0], x.shape[-1]
    centre = padded[(slice(None), *centres)].reshape(batch, math.prod(spec.out), c_in)
    keys = x.reshape(batch, math.prod(spec.size), c_in)  # which are the values, too
    queries = jnp.einsum("npc,hcd->nphd", centre, query) / math.sqrt(c_in)
    # exp(scores) and its sum meet the values before they are divided: there are fewer of these
    scores = jnp.einsum("nphd,nid->nphi", queries, keys)
    wide = scores.astype(jnp.promote_types(x.dtype, jnp.float32))
    weights = jnp.exp(wide - jax.lax.stop_gradient(wide.max(-1, keepdims=True)))
    seen = jnp.einsum("nphi,nic->nphc", weights.astype(x.dtype), keys)
    return (seen / weights.sum(-1, keepdims=True)).astype(x.dtype)


def _softmax(scores: Array, dtype: jnp.dtype) -> Array:
    """Return the shares of the last axis as `dtype`, computed in float32 or wider."""
    wide = jnp.promote_types(scores.dtype, jnp.float32)
    return jax.nn.softmax(scores.astype(wide), axis=-1).astype(dtype)
