"""The transpose of a strided window: which outputs each input position reaches."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.window import WindowSpec, dilated


def dilate_output(
    value: float, g: Float[Array, "batch *out c"], spec: WindowSpec
) -> tuple[Float[Array, "batch *dilated c"], WindowSpec]:
    """Insert `value` between and around outputs, so that inputs see them through windows.

    With g⁺[s·p] = g[p] and `value` elsewhere, input i sees through tap a the element
    g⁺[i + lo − r·(k − 1 − a)]: the output in whose window i is tap k − 1 − a. Also return the
    windows of the inputs on g⁺, which have stride 1 and no padding.
    """
    spans, rank = dilated(spec.window, spec.dilation), len(spec.window)
    ends = [
        (d - 1 - lo, n - 1 + lo - (m - 1) * s, s - 1)
        for n, m, d, s, (lo, _) in zip(
            spec.size, spec.out, spans, spec.strides, spec.pairs, strict=True
        )
    ]
    g = lax.pad(g, jnp.array(value, g.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    return g, WindowSpec(g.shape[1:-1], spec.window, (1,) * rank, ((0, 0),) * rank, spec.dilation)
