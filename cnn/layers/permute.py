"""The order of positions."""

from __future__ import annotations

import math

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn.errors import InputError


class Permute(nn.Module):
    """Move the positions: position p gets the value of position `order[p]`, channels together.

    Positions are counted in row-major order over the spatial axes.
    """

    order: tuple[int, ...]

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *spatial c"]:
        positions = math.prod(x.shape[1:-1])
        if sorted(self.order) != list(range(positions)):
            raise InputError(
                f"order of length {len(self.order)} is no permutation of the {positions} positions "
                f"of {x.shape[1:]}: make one by cnn.data.permutation({positions}, seed)"
            )
        flat = x.reshape(x.shape[0], positions, x.shape[-1])
        return flat[:, np.array(self.order)].reshape(x.shape)
