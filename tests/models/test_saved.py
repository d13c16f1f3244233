"""A model and its weights in one file, written and read again."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import linen as nn

from cnn import ablations, models
from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Conv, Dense, Flatten
from tests.small import assert_same

MODEL = Chain((Conv(3, (3,)), BatchNorm(), Flatten(), Dense(2)))
SHAPE = (6, 1)
VARIABLES = MODEL.init(jax.random.key(0), np.zeros((1, *SHAPE)))


@pytest.mark.parametrize("change", [lambda m: m, ablations.unshare, ablations.densify])
def test_what_is_written_is_read(change: Any, tmp_path: Path) -> None:
    model = change(MODEL)
    variables = model.init(jax.random.key(1), np.zeros((1, *SHAPE)))
    models.save(tmp_path / "a.safetensors", model, variables, SHAPE)
    again, read = models.load(str(tmp_path / "a.safetensors"))
    assert again == model
    assert_same(read, variables)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_other_programs_find_arrays_by_path_and_the_value_of_the_model(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    models.save(path, MODEL, VARIABLES, SHAPE)
    arrays = safetensors.numpy.load_file(path)
    assert arrays["params/layers_0/kernel"].shape == (3, 1, 3)
    assert arrays["batch_stats/layers_1/mean"].shape == (3,)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["model"])["layers"][0] == {
        "layer": "Conv",
        "features": 3,
        "window": [3],
    }
    assert json.loads(metadata["input_shape"]) == [6, 1]


class Net(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width)(x)


def test_a_model_from_elsewhere_has_to_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    variables = Net().init(jax.random.key(0), np.zeros((1, *SHAPE)))
    models.save(path, Net(), variables, SHAPE)
    with pytest.raises(InputError, match="unknown layer"):
        models.load(path)
    again, read = models.load(path, Net())
    assert again == Net()
    assert_same(read, variables)
    with pytest.raises(InputError, match=r"model must be that of .*width: None is not 5"):
        models.load(path, Net(5))


def test_what_cannot_be_written(tmp_path: Path) -> None:
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((tmp_path / "a.npz", MODEL, VARIABLES, SHAPE), r"path must end in \.safetensors, got"),
        ((tmp_path / "no" / "a.safetensors", MODEL, VARIABLES, SHAPE), "cannot be written"),
        (
            (tmp_path / "a.safetensors", MODEL, VARIABLES, (7, 1)),
            r"layers_3/kernel must have",
        ),
        ((tmp_path / "a.safetensors", MODEL, {}, SHAPE), r"must have shape .* got None"),
        ((tmp_path / "a.safetensors", MODEL, VARIABLES, (6,)), r"input_shape must be \(\*spatial"),
        ((tmp_path / "a.safetensors", MODEL, VARIABLES, "61"), "input_shape must be"),
    ]
    for arguments, message in cases:
        with pytest.raises(InputError, match=message):
            models.save(*arguments)
    assert [*tmp_path.iterdir()] == []


def test_what_holds_no_model(tmp_path: Path) -> None:
    whole, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    models.save(whole, MODEL, VARIABLES, SHAPE)
    content = whole.read_bytes()
    arrays = safetensors.numpy.load_file(whole)
    spec = {"model": json.dumps({"layer": "Conv"}), "input_shape": "[6, 1]"}
    made = {
        "cut": content[:-8],
        "empty": b"",
        "no metadata": safetensors.numpy.save(arrays),
        "a broken value": safetensors.numpy.save(arrays, {"model": "{", "input_shape": "[6]"}),
    }
    for what, bytes_of in made.items():
        other.write_bytes(bytes_of)
        with pytest.raises(InputError, match=r"b\.safetensors' holds no model") as error:
            models.load(other)
        assert "\n" not in str(error.value), what
    other.write_bytes(safetensors.numpy.save(arrays, spec))
    with pytest.raises(InputError, match="layer Conv needs field 'features'"):
        models.load(other)
    arrays.pop("params/layers_0/bias")
    with safetensors.safe_open(whole, "numpy") as file:
        other.write_bytes(safetensors.numpy.save(arrays, file.metadata()))
    with pytest.raises(InputError, match=r"params/layers_0/bias must have shape \(3,\) in this"):
        models.load(other)
    with pytest.raises(InputError, match="holds no model"):
        models.load(tmp_path / "none.safetensors")
