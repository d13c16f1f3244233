"""Models as JSON."""

import json
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given

from cnn import ablations
from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Concat, Conv, ConvTiled, MaxPool, Residual
from cnn.layers.serialization import differences, from_spec, to_spec
from cnn.models import lenet5
from cnn.train.recipe import plain
from tests.mutations import mutated


class Mine(nn.Module):
    """A module of a user's own."""


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


def test_what_a_started_program_defines_has_the_name_that_imports_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`python -m package.study` runs the module as `__main__`; a script has no other name."""
    monkeypatch.setattr(Mine, "__module__", "__main__")
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.__spec__ = ModuleSpec("package.study", None)
    assert to_spec(Mine())["layer"] == plain(Mine) == "package.study:Mine"
    main.__spec__ = None
    assert to_spec(Mine())["layer"] == plain(Mine) == "__main__:Mine"


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


DEEP: Any = {"layer": "ReLU"}
for _ in range(100_000):
    DEEP = {"layer": "Residual", "body": DEEP}
CONV = {"layer": "Conv", "features": 8, "window": 3}


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (None, "spec of a layer must be an object with 'layer', got None"),
        ([CONV], f"spec of a layer must be an object with 'layer', got {str([CONV])[:37]}..."),
        ({"features": 8}, "spec of a layer must be an object with 'layer', got {'features': 8}"),
        ({"layer": []}, "spec of a layer must be an object with 'layer', got {'layer': []}"),
        ({"layer": "Conv", "window": 3}, "layer Conv needs field 'features': add it"),
        (CONV | {"parent": None}, "layer Conv has no field 'parent': remove it"),
        (CONV | {"features": "8"}, "features of layer Conv must be int, got '8'"),
        (CONV | {"features": True}, "features of layer Conv must be int, got True"),
        (CONV | {"window": ""}, "window of layer Conv must be int | Sequence[int], got ''"),
        (
            CONV | {"window": [3, 3.0]},
            "window of layer Conv must be int | Sequence[int], got [3, 3.0]",
        ),
        (
            CONV | {"padding_mode": "zero"},
            "padding_mode of layer Conv must be Literal['zeros', 'reflect', 'replicate', "
            "'circular'], got 'zero'",
        ),
        (
            {"layer": "Chain", "layers": 3},
            "layers of layer Chain must be tuple[Module, ...], got 3",
        ),
        (
            {"layer": "Residual", "body": {"layer": "Change", "ablation": "unshare"}},
            "body of layer Residual must be Module, got {'layer': 'Change', 'ablation': 'unsh...",
        ),
        ({"layer": "Change", "ablation": "unshare"}, "spec must be a layer, got a Change"),
        (
            {"layer": "Change", "ablation": "tile", "arguments": [["period"]]},
            "arguments of layer Change must be tuple[tuple[str, Any], ...], got [['period']]",
        ),
        (
            {"layer": "Change", "ablation": "tile", "arguments": [["size", 2]]},
            "ablation 'tile': missing a required argument: 'period'",
        ),
        (DEEP, "spec is nested too deeply for Python: nest fewer layers"),
    ],
    ids=range(17),
)
def test_a_malformed_spec_is_one_line(spec: Any, line: str) -> None:
    with pytest.raises(InputError) as error:
        from_spec(spec)
    assert str(error.value) == line


CHANGED = ablations.Ablated(
    NESTED,
    (
        ablations.change.Change("tile", (("period", (2, 1)),), "layers_0"),
        ablations.change.Change("unshare", (), (0, "layers_1")),
    ),
)


def test_names_of_an_ablation_are_rebuilt() -> None:
    assert from_spec(json.loads(json.dumps(to_spec(CHANGED)))) == CHANGED


@pytest.mark.parametrize(
    ("ablation", "arguments", "line"),
    [
        ("tile", [["period", "2"]], "period of tile must be int | Sequence[int], got '2'"),
        ("group", [["groups", []]], "groups of group must be int, got ()"),
        ("localize", [["radius", 1.5]], "radius of localize must be int | None, got 1.5"),
        ("factorize", [["activation", 0]], "activation of factorize must be Module | None, got 0"),
        ("unshare", [["bias", 3]], "bias of unshare must be Literal['untied', 'tied'], got 3"),
        (
            "unshare",
            [["bias", CONV]],
            "bias of unshare must be Literal['untied', 'tied'], got Conv(",
        ),
        ("unshare", [["kind", 3]], "ablation 'unshare': got an unexpected keyword argument 'kind'"),
    ],
)
def test_arguments_of_an_ablation_have_its_types(
    ablation: str, arguments: list[Any], line: str
) -> None:
    change = {"layer": "Change", "ablation": ablation, "arguments": arguments}
    with pytest.raises(InputError) as error:
        from_spec({"layer": "Ablated", "module": CONV, "changes": [change]})
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"layer": "SeparableConv", "features": 2, "window": 3, "multiplier": 0},
        {"layer": "Dense", "features": 2, "scale": -1.0},
        {"layer": "Chain", "layers": [CONV | {"features": 0}, CONV]},
    ],
    ids=range(3),
)
def test_a_kernel_without_inputs_or_of_negative_scale(spec: Any) -> None:
    model = from_spec(spec)
    with pytest.raises(InputError, match=r"a kernel must have 1 input or more and a scale of 0"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))


@pytest.mark.parametrize(
    "kind", ["Conv", "ConvTiled", "ConvLocal", "DenseSpatial", "SeparableConv", "Dense"]
)
def test_negative_features(kind: str) -> None:
    window = {} if kind == "Dense" else {"window": 3}
    model = from_spec({"layer": kind, "features": -1, **window})
    with pytest.raises(InputError, match="features must be 0 or more, got -1"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))


def test_numbers_of_numpy_are_numbers() -> None:
    change = ablations.change.Change("tile", (("period", np.int64(2)),))
    assert change.arguments == (("period", 2),)
    model = Conv(np.int64(8), 3, scale=np.float32(0.5))  # type: ignore[arg-type]
    assert json.dumps(to_spec(model)) == json.dumps(CONV | {"scale": 0.5})


@pytest.mark.slow
@given(mutated(json.loads(json.dumps(to_spec(CHANGED)))))
def test_a_mutated_spec_is_rebuilt_or_refused(spec: Any) -> None:
    try:
        model = from_spec(spec)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert from_spec(to_spec(model)) == model


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
