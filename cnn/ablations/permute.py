"""Permutation of the input's positions."""

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Permute


def permute_input(model: nn.Module, order: Sequence[int]) -> Chain:
    """Return a chain of a permutation of positions and `model`, its `layers_1`.

    Position p, in row-major order, gets the value of position `order[p]`.
    `cnn.data.permutation(shape, seed, block)` draws an order of positions or blocks. `init` raises
    `LayerError` if it is not a permutation of the input's positions.
    """
    return Chain((Permute(tuple(int(p) for p in order)), model))
