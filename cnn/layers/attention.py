"""Self-attention that can begin as a convolution."""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.conv import ConvBase


class PositionalAttention(ConvBase):
    """Gated positional self-attention (d'Ascoli et al. 2021), with one head per tap of the window.

    It starts as the convolution with the same fields and kernel: head h attends to tap h, and not
    to content. The larger `locality` and `gate`, the smaller the difference: of the order of e^−12
    at the default. Training may move, widen and open every head. ConViT starts at 1 and 1, where a
    head sees its neighbourhood and gives 27 % to content.

    Kernel `(*window, c_in, features)` and bias as those of `Conv`; `query` `(*window, c_in, c_in)`
    starts at zero, where content attention is the mean over all positions; `offsets` `(*window,
    rank)` start at the taps; `strengths` and `gates` `(*window,)` at `locality` and `gate`.

    Attributes:
      locality: The strength α of the positional scores −α |distance from the tap|².
      gate: The logit of the share of positional attention.
      groups: Must be 1.
    """

    locality: float = 12.0
    gate: float = 12.0

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        window, c_in = self._window(x), x.shape[-1]
        if self.groups != 1:
            raise InputError(f"groups of PositionalAttention must be 1, got {self.groups}")
        if not self.locality > 0:
            raise InputError(f"locality must be positive, got {self.locality}")
        kernel = self._kernel((*window, c_in, self.features), self.fan_in(x.shape[1:]))
        query = self.param("query", nn.initializers.zeros, (*window, c_in, c_in))
        offsets = self.param("offsets", self._taps, (*window, len(window)))
        strengths = self.param("strengths", nn.initializers.constant(self.locality), window)
        gates = self.param("gates", nn.initializers.constant(self.gate), window)
        parts = (kernel, query, offsets, strengths, gates, self._bias((self.features,)))
        return ops.positional_attention(x, *parts, **self._options())

    def _taps(self, key: Array, shape: tuple[int, ...]) -> Array:
        """Return the position of each tap from the first one, in input positions."""
        dilation = ops.per_axis(self.dilation, shape[-1], "dilation")
        axes = [r * np.arange(k) for k, r in zip(shape, dilation, strict=False)]
        return jnp.asarray([*itertools.product(*axes)], jnp.float32).reshape(shape)
