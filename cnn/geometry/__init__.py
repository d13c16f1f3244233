"""Geometry: everything that can be known of a network before any data.

`describe` says, layer by layer, shapes, parameters, multiply-accumulates, memory and receptive
fields; `compare` what changes between two models; `input_size_for` which input an output needs.
The receptive field comes in three ways that share nothing but where the windows of a layer stand:
forwards (`describe`), backwards (`backward_field`), and by the gradient (`gradient_field`), inside
which most of the weight falls on less (`effective_field`).
"""

from cnn.geometry.backward import backward_field, input_size_for
from cnn.geometry.comparison import Comparison, compare, pair
from cnn.geometry.description import Geometry, Layer, describe
from cnn.geometry.gradient import effective_field, gradient_field, spread, uniform_field
from cnn.geometry.receptive_field import Field, Misaligned
from cnn.geometry.tables import HEADS
from cnn.geometry.trace import Seen, trace

__all__ = [
    "HEADS",
    "Comparison",
    "Field",
    "Geometry",
    "Layer",
    "Misaligned",
    "Seen",
    "backward_field",
    "compare",
    "describe",
    "effective_field",
    "gradient_field",
    "input_size_for",
    "pair",
    "spread",
    "trace",
    "uniform_field",
]
