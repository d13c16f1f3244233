"""Initial weights: the layers of `cnn.layers.conv` all start with the same output variance."""

import math
from typing import Any

from flax import linen as nn
from jaxtyping import Array

from cnn.errors import InputError
from cnn.ops.window import MAX_POSITIONS, MAX_SIZE


def check_features(features: int) -> None:
    """Raise `InputError` unless the number of output channels is one."""
    if features < 0:
        raise InputError(f"features must be 0 or more, got {features}")
    if features > MAX_SIZE:
        raise InputError(f"features must be below 2^31, got {features}")


def fan_in_normal(scale: float, fan_in: int) -> nn.initializers.Initializer:
    """Return the initializer N(0, scale / fan_in), for outputs that depend on `fan_in` inputs.

    The output variance is then scale · E[x²]. Scale 2 keeps it through a ReLU (He et al. 2015,
    eq. 10), 1 without one (LeCun et al. 1998). `nn.initializers.variance_scaling` would compute
    the fan-in from the kernel's shape, which is wrong for kernels that are not shared.
    """
    if fan_in < 1 or not scale >= 0:
        raise InputError(
            f"a kernel must have 1 input or more and a scale of 0 or more, got {fan_in} and {scale}"
        )
    normal = nn.initializers.normal(math.sqrt(scale / fan_in))

    def initialize(key: Array, shape: tuple[int, ...], *dtype: Any, **options: Any) -> Array:
        if math.prod(shape) > MAX_POSITIONS:
            raise InputError(f"a kernel must have at most 2^40 weights, got shape {shape}")
        return normal(key, shape, *dtype, **options)

    return initialize
