"""Geometry: what is known of a network before any data.

`describe` returns shapes, parameters, multiply-accumulates, memory and receptive fields by layer,
`compare` what changes between two models, `input_size_for` the input that an output size needs.
`uniform_field` shows how a unit's weight is distributed over its receptive field.
"""

from cnn.geometry.comparison import Comparison, compare, pair
from cnn.geometry.description import HEADS, Geometry, Layer, describe
from cnn.geometry.effective_field import spread, uniform_field
from cnn.geometry.input_size import input_size_for
from cnn.geometry.receptive_field import Field, MisalignedError
from cnn.geometry.trace import LayerTrace, trace

__all__ = [
    "HEADS",
    "Comparison",
    "Field",
    "Geometry",
    "Layer",
    "LayerTrace",
    "MisalignedError",
    "compare",
    "describe",
    "input_size_for",
    "pair",
    "spread",
    "trace",
    "uniform_field",
]
