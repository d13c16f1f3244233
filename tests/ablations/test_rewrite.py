"""Selection of layers by name and predicate."""

from __future__ import annotations

import pytest

from cnn import ablations, models
from cnn.errors import InputError
from cnn.layers import Chain, Conv, ConvLocal, Dense, Flatten, ReLU
from cnn.layers.tree import leaf_layers


def test_where() -> None:
    model = Chain((Conv(1, (3,)), Chain((Conv(2, (3,)), ReLU())), Flatten(), Dense(3)))
    local = Chain((Conv(1, (3,)), Chain((ConvLocal(2, (3,)), ReLU())), Flatten(), Dense(3)))
    assert list(leaf_layers(model)) == [
        "layers_0",
        "layers_1/layers_0",
        "layers_1/layers_1",
        "layers_2",
        "layers_3",
    ]
    assert ablations.unshare(model, where=["layers_1/layers_0"]) == local
    assert ablations.unshare(model, where="layers_1") == local
    assert ablations.unshare(model, where=lambda name, layer: layer.features == 2) == local
    assert ablations.unshare(model, where=1) == ablations.unshare(model, where=[-1]) == local
    for where, message in [
        (2, "where must be a number below 2, got 2: .* layers_0, layers_1/layers_0"),
        (["layers_7"], "unknown layer 'layers_7'"),
        ("layers_3", "layer layers_3: .* not change Dense: .* layers_0, layers_1/layers_0"),
        (lambda name, layer: False, "where selects no layer .* layers_0, layers_1/layers_0"),
    ]:
        with pytest.raises(InputError, match=message):
            ablations.unshare(model, where=where)
    with pytest.raises(InputError, match="the model has no layer that this ablation changes"):
        ablations.unshare(models.mlp())
