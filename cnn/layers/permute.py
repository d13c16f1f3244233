"""Reordering of positions."""

import math

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn.errors import InputError


class Permute(nn.Module):
    """Permute the positions: position p of the output is position `order[p]` of the input.

    Positions are numbered in row-major order. All channels of a position move together.
    """

    order: tuple[int, ...]

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *spatial c"]:
        positions = math.prod(x.shape[1:-1])
        if sorted(self.order) != list(range(positions)):
            raise InputError(
                f"order must be a permutation of the {positions} positions of {x.shape[1:]}, got "
                f"one of length {len(self.order)}: use cnn.data.permutation({positions}, seed)"
            )
        flat = x.reshape(x.shape[0], positions, x.shape[-1])
        return flat[:, np.array(self.order)].reshape(x.shape)
