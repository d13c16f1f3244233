"""Models as JSON."""

import json
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Concat, Conv, ConvTiled, MaxPool, Residual
from cnn.layers.serialization import differences, from_spec, to_spec
from cnn.models import lenet5

NESTED = Chain(
    (
        Conv(8, window=(3, 3), padding=((1, 0), (0, 1)), name="first"),
        Concat((ConvTiled(4, 3, period=(2, 1)), Residual(BatchNorm(), shortcut=MaxPool(2)))),
    )
)


@pytest.mark.parametrize("model", [NESTED, lenet5(), Conv(3, 1)], ids=["nested", "lenet5", "conv"])
def test_a_line_of_json_rebuilds_the_model(model: nn.Module) -> None:
    line = json.dumps(to_spec(model))
    assert "\n" not in line
    assert from_spec(json.loads(line)) == model


def test_defaults_are_left_out() -> None:
    assert to_spec(Conv(8, window=3)) == {"layer": "Conv", "features": 8, "window": 3}


def test_a_foreign_module_is_named_but_not_rebuilt() -> None:
    spec = to_spec(Chain((nn.Dense(3),)))
    assert spec["layers"][0]["layer"] == "flax.linen.linear:Dense"
    json.dumps(spec)
    with pytest.raises(InputError, match=r"unknown layer 'flax\.linen\.linear:Dense'"):
        from_spec(spec)


def test_fields_of_a_foreign_module() -> None:
    """Functions, types and partial functions, as Flax's modules have them."""

    class Net(nn.Module):
        conv: Any
        act: Any = nn.relu
        widths: Any = None

    norm = partial(nn.BatchNorm, True, momentum=0.9, dtype=jnp.bfloat16)
    net = Net(norm, nn.gelu, {"a": (1, np.dtype("float32"))})
    spec = to_spec(net)
    assert spec["conv"] == {
        "partial": "flax.linen.normalization:BatchNorm",
        "0": True,
        "momentum": 0.9,
        "dtype": "jax.numpy:bfloat16",
    }
    assert spec["act"].endswith(":gelu")
    assert spec["widths"] == {"a": [1, "float32"]}
    json.dumps(spec)


def test_unknown_layer_and_field() -> None:
    with pytest.raises(InputError, match="unknown layer 'Convv': did you mean 'Conv'"):
        from_spec({"layer": "Convv"})
    with pytest.raises(InputError, match="layer Conv has no field 'size'"):
        from_spec({"layer": "Conv", "size": 3})


def test_differences_name_the_path() -> None:
    old = {"a": {"b": [1, 2]}, "c": 3}
    assert differences(old, old) == []
    assert differences(old, {"a": {"b": [1, 5]}, "d": 4}) == [
        "a.b[1]: 2 is not 5",
        "c: 3 is not None",
        "d: None is not 4",
    ]
    assert differences([1], [1, 2]) == [": [1] is not [1, 2]"]
    assert differences([1, []], (1, ())) == []
    assert differences([1], (2,)) == ["[0]: 1 is not 2"]
