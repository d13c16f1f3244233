"""Geometry: what is known of a network before any data: shapes, costs, receptive fields."""

from cnn.geometry.comparison import Comparison, compare, pair
from cnn.geometry.description import HEADS, Geometry, Layer, describe, describe_function
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
    "describe_function",
    "input_size_for",
    "pair",
    "spread",
    "trace",
    "uniform_field",
]
