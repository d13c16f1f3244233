"""1×1 convolution as one product of two matrices, all positions of all examples in the rows.

y[b, p, o] = Σ_c x[b, s·p − lo, c] · w[c, o]
"""

from __future__ import annotations

from jaxtyping import Array, Float

from cnn.ops.cpu.patches import pad_with, taps
from cnn.ops.window import WindowSpec


def pointwise(
    x: Float[Array, "batch *spatial c_in"], kernel: Float[Array, "*ones c_in c_out"], at: WindowSpec
) -> Float[Array, "batch *out c_out"]:
    """Convolve with a window of one tap."""
    (seen,) = taps(pad_with(0.0, x, at.pairs), at)
    c_in, c_out = kernel.shape[-2:]
    return (seen.reshape(-1, c_in) @ kernel.reshape(c_in, c_out)).reshape(*seen.shape[:-1], c_out)
