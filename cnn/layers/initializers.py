"""Initial weights: every rung of the ladder starts with the same output variance."""

from __future__ import annotations

import math

from flax import linen as nn


def normal(scale: float, fan_in: int) -> nn.initializers.Initializer:
    """Return the initialiser N(0, scale / fan_in), `fan_in` the inputs that one output sees.

    The output variance is then scale · E[x²], whatever the shape of the kernel: 2 keeps it through
    a ReLU (He et al. 2015, eq. 10), 1 without one (LeCun et al. 1998).
    """
    return nn.initializers.normal(math.sqrt(scale / fan_in))
