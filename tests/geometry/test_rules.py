"""The windows of each layer type."""

from __future__ import annotations

import numpy as np
import pytest
from flax import linen as nn

from cnn.geometry import Field, describe
from cnn.layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    BlurPool,
    Conv,
    DenseSpatial,
    GlobalMaxPool,
    MaxPool,
    Permute,
)
from tests.geometry.oracles import gradient_field


@pytest.mark.parametrize(
    ("layer", "size", "field"),
    [
        (DenseSpatial(1, 3, padding=1, radius=2), 9, Field((5,), (1,), (2,))),
        (DenseSpatial(1, 2, 2, radius=1), 8, Field((2,), (2,), (0,))),  # centres between cells
        (BlurPool(3, 2), 8, Field((3,), (2,), (1,))),
        (AdaptiveAvgPool(4), 8, Field((2,), (2,), (0,))),
        (AdaptiveMaxPool(8), 8, Field((1,), (1,), (0,))),
        (AdaptiveAvgPool(3), 8, Field((4,), (0,), (0,), False)),  # bins of 3, 4 and 3
        (DenseSpatial(1, 3), 8, None),
        (Permute(tuple(range(8))), 8, Field((1,), (1,), (0,))),
        (Permute((1, 0, 3, 2, 5, 4, 7, 6)), 8, Field((1,), (0,), (-1,))),
        (GlobalMaxPool(), 8, None),
        (MaxPool(3), 8, Field((3,), (3,), (0,))),
        (Conv(1, 3, padding=((-1, 0),)), 8, Field((3,), (1,), (-1,))),
    ],
)
def test_the_field_of_one_layer(layer: nn.Module, size: int, field: Field | None) -> None:
    (found,) = describe(layer, (size, 1)).layers
    assert found.field == field
    if field is not None and field.is_map:
        p = found.shape[0] // 2
        ((first, last),) = field.of((p,))
        seen = gradient_field(layer, (size, 1), unit=(p,))
        assert np.flatnonzero(seen).tolist() == list(range(first, last + 1))
