"""The smallest input of an output size: against all smaller ones, and by hand."""

from __future__ import annotations

import hypothesis
import pytest

from cnn import models
from cnn.errors import InputError
from cnn.geometry import describe, input_size_for
from cnn.layers import Chain, Conv
from tests.geometry.oracles import networks


@hypothesis.settings(max_examples=hypothesis.settings().max_examples // 4)
@hypothesis.given(networks())
@pytest.mark.slow
def test_input_size_is_the_smallest(network: tuple[Chain, tuple[int, ...]]) -> None:
    """On it the output is as large as asked for; on one position less, smaller or none."""
    model, (*size, channels) = network
    try:
        *out, _ = describe(model, (*size, channels), aligned=False).layers[-1].shape
    except InputError:
        hypothesis.reject()
    found = input_size_for(model, out)
    assert all(n <= given for n, given in zip(found, size, strict=True))
    assert list(describe(model, (*found, channels), aligned=False).layers[-1].shape[:-1]) == out
    for axis in range(len(found)):
        less = [n - (i == axis) for i, n in enumerate(found)]
        try:
            *smaller, _ = describe(model, (*less, channels), aligned=False).layers[-1].shape
        except InputError:
            continue
        assert smaller[axis] < out[axis]


@pytest.mark.parametrize(
    ("name", "out", "size"),
    [
        pytest.param("vgg16", (7, 7), (224, 224), marks=pytest.mark.slow),
        ("lecture_cnn", (4, 4), (28, 28)),
        pytest.param("alexnet", (6, 6), (223, 223), marks=pytest.mark.slow),  # 224: the same
        pytest.param("mobilenet_v1", (7, 1), (193, 1), marks=pytest.mark.slow),
    ],
)
def test_input_sizes(name: str, out: tuple[int, ...], size: tuple[int, ...]) -> None:
    assert input_size_for(models.by_name(name)(), out) == size


def test_input_size_of_an_inner_layer_and_none() -> None:
    assert input_size_for(models.lecture_cnn(), (12, 12), "layers_2") == (28, 28)
    with pytest.raises(InputError, match=r"output_size \(2,\) is not the size for any input"):
        input_size_for(Conv(1, 4, padding="FULL"), (2,))  # 1 pixel gives 4 already
