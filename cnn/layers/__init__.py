"""Layers as values: hyper-parameters are fields, and inside each stands one call to an operation.

A layer that no parent has bound yet is a frozen dataclass: `Conv(64, window=3, strides=2)` can be
printed, compared, hashed and cloned. `init` and `apply` are Flax Linen's. Called without more, a
layer infers; `train=True` makes the layers that differ (`BatchNorm`, `Dropout`) train.

The windowed layers share their fields, so a rung of the ladder of biases is a class name:

    Conv          local, shared          y_p = Σ_a x[s·p + a] w[a]
    ConvTiled     local, partly shared   y_p = Σ_a x[s·p + a] w[p mod period, a]
    ConvLocal     local, not shared      y_p = Σ_a x[s·p + a] w[p, a]
    DenseSpatial  neither                y_p = Σ_j x[j] w[j, p]

They start with kernels from N(0, scale / fan_in), hence with the same output variance, and with
biases of zero.
"""

from cnn.layers.activations import GELU, ReLU, Sigmoid, Tanh
from cnn.layers.combinators import Chain, Concat, Residual, call
from cnn.layers.conv import (
    Conv,
    ConvBase,
    ConvLocal,
    ConvTiled,
    DenseSpatial,
    SeparableConv,
)
from cnn.layers.dense import Dense, Flatten
from cnn.layers.normalization import (
    BatchNorm,
    Dropout,
    GroupNorm,
    LocalResponseNorm,
    Norm,
    normalization,
)
from cnn.layers.permute import Permute
from cnn.layers.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlurPool,
    GlobalAvgPool,
    GlobalMaxPool,
    Maxout,
    MaxPool,
)

__all__ = [
    "GELU",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "BlurPool",
    "Chain",
    "Concat",
    "Conv",
    "ConvBase",
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
    "Maxout",
    "Norm",
    "Permute",
    "ReLU",
    "Residual",
    "SeparableConv",
    "Sigmoid",
    "Tanh",
    "call",
    "normalization",
]
