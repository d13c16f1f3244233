"""Probes: measurements on a model and its weights.

Most take a function `f` from inputs `(batch, *spatial, channels)` to outputs: a whole network,
`functools.partial(model.apply, variables)`, or the output of one of its layers, from
`layer_functions`. They do not jit `f`. Invalid arguments raise `cnn.errors.InputError`.
"""

from cnn.probes.attention import AttentionHeads, attention_heads
from cnn.probes.equivariance import (
    ArrayFn,
    equivariance_error,
    invariance_error,
    layer_functions,
    shift_consistency,
    shift_error,
)
from cnn.probes.learned import learned_locality, learned_sharing
from cnn.probes.lie_derivative import (
    Motion,
    layerwise_lie_error,
    lie_derivative,
    lie_error,
    lie_generator,
    low_pass,
)
from cnn.probes.position import effective_receptive_field, position_leak
from cnn.probes.transforms import rotate, scale, shift

__all__ = [
    "ArrayFn",
    "AttentionHeads",
    "Motion",
    "attention_heads",
    "effective_receptive_field",
    "equivariance_error",
    "invariance_error",
    "layer_functions",
    "layerwise_lie_error",
    "learned_locality",
    "learned_sharing",
    "lie_derivative",
    "lie_error",
    "lie_generator",
    "low_pass",
    "position_leak",
    "rotate",
    "scale",
    "shift",
    "shift_consistency",
    "shift_error",
]
