"""Sharing changes the class of a layer and keeps all its fields."""

from __future__ import annotations

from cnn import ablations
from cnn.layers import Chain, Conv, ConvLocal, ConvTiled, ReLU

CONV = Conv(3, (5,), strides=2, padding=2, padding_mode="reflect", use_bias=False, scale=0.5)


def test_only_the_class_changes() -> None:
    fields = {"strides": 2, "padding": 2, "padding_mode": "reflect", "use_bias": False}
    local = ConvLocal(3, (5,), **fields, scale=0.5)
    assert ablations.unshare(CONV) == local
    assert ablations.tile(CONV, 3) == ConvTiled(3, (5,), **fields, scale=0.5, period=3)
    assert ablations.share(local) == CONV
    model = Chain((CONV, ReLU(), CONV))
    assert ablations.share(ablations.tile(ablations.unshare(model), 2)) == model
