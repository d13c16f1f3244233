"""Grain transforms change the training examples, alike however a run is divided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np
import pytest

from cnn.errors import InputError
from cnn.train import fit
from cnn.train.host_transforms import transform_examples
from cnn.train.input_pipeline import describe_inputs
from cnn.train.step import Batch
from tests.small import assert_close, assert_same, config, waves


@dataclass(frozen=True)
class Scale(grain.transforms.Map):
    by: float = 2.0

    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        return {**element, "x": self.by * element["x"]}


class Noise(grain.transforms.RandomMap):
    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**element, "x": element["x"] + rng.normal(size=element["x"].shape)}


class Cut(grain.transforms.Map):
    def map(self, element: dict[str, Any]) -> dict[str, Any]:
        return {**element, "x": element["x"][:-1]}


class Text(grain.transforms.Map):
    def map(self, element: dict[str, Any]) -> str:
        return "x"


def test_examples_by_hand() -> None:
    x, y = np.arange(12.0).reshape(2, 2, 3), np.array([[0, 1], [2, 3]])
    keys = np.stack([np.full((2, 2), 7), np.full((2, 2), 9), np.arange(4).reshape(2, 2)], -1)
    changed = transform_examples([Scale(3.0), Noise()], Batch(x, y), keys)
    for i in range(2):
        for j in range(2):
            drawn = np.random.default_rng([7, 9, 2 * i + j, 1]).normal(size=3)
            np.testing.assert_allclose(changed.x[i, j], 3 * x[i, j] + drawn)
    np.testing.assert_array_equal(changed.y, y)


def test_a_fixed_transform_is_that_of_the_data() -> None:
    import dataclasses

    data = waves()
    train = dataclasses.replace(data.train, x=np.float32(2) * data.train.x)
    once = fit(config(data=dataclasses.replace(data, train=train)))
    scaled = fit(config(transforms=(Scale(),)))
    assert_close(scaled.states[0].params, once.states[0].params, 1e-6)
    assert describe_inputs(data.train, (Scale(),)) == "data read from memory step by step"


def test_what_is_drawn_depends_on_seed_step_and_place_only(tmp_path: Path) -> None:
    """Not on the devices, the other seeds, or a stop in between."""
    fields: dict[str, Any] = {"transforms": (Noise(),), "augment": ("flip",)}
    two = fit(config(**fields, seeds=2, seed=4))
    alone = fit(config(**fields, seed=5, devices=2))
    assert_close(alone.states[0].params, two.states[1].params, 1e-5)
    fit(config(tmp_path, **fields, seed=5, steps=9))
    resumed = fit(config(tmp_path, **fields, seed=5, resume=True))
    assert_same(resumed.states[0].params, fit(config(**fields, seed=5)).states[0].params)
    kernels = [
        fit(config(augment=("flip",), seed=5)).states[0].params["layers_0"]["kernel"],
        resumed.states[0].params["layers_0"]["kernel"],
    ]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3
    with pytest.raises(InputError, match=r"is of another run: transforms: .* is not None"):
        fit(config(tmp_path, augment=("flip",), seed=5, steps=22, resume=True))
    with pytest.raises(
        InputError, match=r"another run: transforms\[0\]: .*test_host_transforms:Noi.* is not"
    ):
        fields["transforms"] = (Scale(),)
        fit(config(tmp_path, **fields, seed=5, steps=22, resume=True))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Cut(), r"transforms\[0\] Cut must return a dict with 'x' of shape \(12, 1\), got shape"),
        (Text(), r"transforms\[0\] Text must return a dict with 'x' of shape \(12, 1\), got str"),
        (print, r"transforms\[0\] must be a grain.transforms.Map or RandomMap, got builtin"),
    ],
)
def test_what_does_not_fit_is_one_line(transform: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        fit(config(tmp_path / "run", transforms=(transform,)))
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="map_devices must be shard_map for transforms, got pmap"):
        fit(config(transforms=(Scale(),), map_devices="pmap"))
