"""Flax Linen layers. Their hyper-parameters are fields, and each calls one operation of `cnn.ops`.

An unbound layer is a frozen dataclass: `Conv(64, window=3, strides=2)` can be printed, compared,
hashed and cloned. `init` and `apply` are those of Linen; they raise `cnn.errors.InputError` for an
invalid field or input. `train=True` selects the training mode of `BatchNorm` and `Dropout`.

These layers share their fields, so exchanging the class changes one inductive bias:

    ConvGroup     over rotations, too    y_p,r = Σ_a x[s·p + a] w[r⁻¹ a]
    Conv          local, shared          y_p = Σ_a x[s·p + a] w[a]
    ConvTiled     local, partly shared   y_p = Σ_a x[s·p + a] w[p mod period, a]
    ConvLocal     local, not shared      y_p = Σ_a x[s·p + a] w[p, a]
    DenseSpatial  neither                y_p = Σ_j x[j] w[j, p]
    TokenMixing   over channels alone    y_p,c = Σ_j x[j, c] w[j, p]

They all start with the same output variance: kernels from N(0, scale / fan_in), and zero biases.
"""

from cnn.layers.activations import GELU, ReLU, Sigmoid, Tanh
from cnn.layers.attention import PositionalAttention
from cnn.layers.combinators import Chain, Concat, Residual, apply_layer
from cnn.layers.conv import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial, SeparableConv
from cnn.layers.dense import Dense, Flatten
from cnn.layers.group import BatchNormGroup, ConvGroup, GroupPool
from cnn.layers.mixing import TokenMixing
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
    "BatchNormGroup",
    "BlurPool",
    "Chain",
    "Concat",
    "Conv",
    "ConvBase",
    "ConvGroup",
    "ConvLocal",
    "ConvTiled",
    "Dense",
    "DenseSpatial",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "GroupPool",
    "LocalResponseNorm",
    "MaxPool",
    "Maxout",
    "Norm",
    "Permute",
    "PositionalAttention",
    "ReLU",
    "Residual",
    "SeparableConv",
    "Sigmoid",
    "Tanh",
    "TokenMixing",
    "apply_layer",
    "normalization",
]
