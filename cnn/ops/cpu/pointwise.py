"""1×1 convolution as one matrix product, with all positions of all examples in the rows.

y[b, p, o] = Σ_c x[b, s·p − lo, c] · w[c, o]
"""

from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec


def pointwise(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*ones c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with a window of one tap."""
    (view,) = shifted_views(pad_constant(0.0, x, spec.pairs), spec)
    c_in, c_out = kernel.shape[-2:]
    return (view.reshape(-1, c_in) @ kernel.reshape(c_in, c_out)).reshape(*view.shape[:-1], c_out)
