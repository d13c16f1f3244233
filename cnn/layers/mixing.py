"""Sharing over channels in the place of sharing over positions."""

import math
from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.conv import ConvBase


class TokenMixing(ConvBase):
    """One matrix over positions that all channels share, as in MLP-Mixer (Tolstikhin et al. 2021).

    Kernel `(*in_spatial, *out_spatial)`, bias `(*out_spatial,)`. It has neither locality nor
    sharing over positions, and full sharing over channels. It does not mix these; a pointwise
    `Conv` does. A `Conv` whose strides are its window, the patch stem, comes before it.

    The output has the size of a convolution with the same fields, and that is all that `window`,
    `strides`, `padding` and `dilation` set. `features` must be the input channels, `groups` 1.
    """

    @nn.nowrap
    def fan_in(self, shape: Sequence[int]) -> int:
        """Return how many numbers of an input `(*spatial, c_in)` an output depends on."""
        return math.prod(shape[:-1])

    @nn.nowrap
    def positions(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the output size."""
        return self._spec(size).out

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        self._window(x)
        if self.features != x.shape[-1]:
            raise InputError(
                f"features of TokenMixing must be the {x.shape[-1]} input channels, got "
                f"{self.features}: a pointwise Conv before it changes their number"
            )
        for name, value in (("groups", 1), ("padding_mode", "zeros")):
            if getattr(self, name) != value:
                raise InputError(
                    f"{name} of TokenMixing must be {value!r}, got {getattr(self, name)!r}"
                )
        size = x.shape[1:-1]
        out = self.positions(size)
        kernel = self._kernel((*size, *out), self.fan_in(x.shape[1:]))
        return ops.token_mixing(x, kernel, self._bias(out))
