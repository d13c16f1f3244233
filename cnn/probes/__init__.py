"""Probes: what is measured on a model and its weights.

Most take any function `f` from inputs `(batch, *spatial, channels)` to outputs: a whole network,
`functools.partial(model.apply, variables)`, or what one of its layers puts out, from
`layer_functions`. They call it a few times as it is: jit it where that pays.
"""

from cnn.probes.equivariance import (
    Map,
    equivariance_error,
    invariance_error,
    layer_functions,
    shift_consistency,
    shift_error,
)
from cnn.probes.learned import learned_locality, learned_sharing
from cnn.probes.position import effective_receptive_field, position_leak
from cnn.probes.transforms import rotate, scale, shift

__all__ = [
    "Map",
    "effective_receptive_field",
    "equivariance_error",
    "invariance_error",
    "layer_functions",
    "learned_locality",
    "learned_sharing",
    "position_leak",
    "rotate",
    "scale",
    "shift",
    "shift_consistency",
    "shift_error",
]
