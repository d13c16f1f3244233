"""The order of the input's positions."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Permute


def permute_input(model: nn.Module, order: Sequence[int]) -> Chain:
    """Put a permutation of the positions in front: `model` itself is `layers_1` of the result.

    Position p, counted in row-major order, gets the value of position `order[p]`. Whole or in
    blocks: `cnn.data.permutation(shape, seed, block)` makes the order. `init` raises `LayerError`
    where it is no permutation of the input's positions.
    """
    return Chain((Permute(tuple(int(p) for p in order)), model))
