"""Layers as values: hyper-parameters are fields, and inside each stands one call to an operation.

A layer that no parent has bound yet is a frozen dataclass: `Conv(64, window=3, strides=2)` can be
printed, compared, hashed and cloned. `init` and `apply` are Flax Linen's. Called without more, a
layer infers; `train=True` makes the layers that differ (`BatchNorm`, `Dropout`) train.

The windowed layers share their fields, so a rung of the ladder of biases is a class name:

    Conv          local, shared          y_p = Σ_a x[s·p + a] w[a]
    ConvTiled     local, partly shared   y_p = Σ_a x[s·p + a] w[p mod period, a]
    ConvLocal     local, not shared      y_p = Σ_a x[s·p + a] w[p, a]
    DenseSpatial  neither                y_p = Σ_j x[j] w[j, p]

They start with kernels from N(0, gain / fan_in), hence with the same output variance, and with
biases of zero.
"""

from cnn.layers.compose import Branches, Chain, Residual, call
from cnn.layers.normalization import (
    BatchNorm,
    Dropout,
    GroupNorm,
    LocalResponseNorm,
    Norm,
    normalization,
)
from cnn.layers.pointwise import GELU, Dense, Flatten, ReLU, Sigmoid, Tanh
from cnn.layers.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlurPool,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    MaxPoolChannels,
)
from cnn.layers.positions import Permute
from cnn.layers.windowed import (
    Conv,
    ConvLocal,
    ConvTiled,
    DenseSpatial,
    SeparableConv,
    Windowed,
)

__all__ = [
    "GELU",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "BlurPool",
    "Branches",
    "Chain",
    "Conv",
    "ConvLocal",
    "ConvTiled",
    "Dense",
    "DenseSpatial",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "LocalResponseNorm",
    "MaxPool",
    "MaxPoolChannels",
    "Norm",
    "Permute",
    "ReLU",
    "Residual",
    "SeparableConv",
    "Sigmoid",
    "Tanh",
    "Windowed",
    "call",
    "normalization",
]
