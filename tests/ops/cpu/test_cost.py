"""What the ways to convolve are estimated to cost, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.ops import implementations
from cnn.ops.cpu import cost, one_group, winograd
from cnn.ops.cpu.cost import Nanoseconds

FREE = Nanoseconds(*[0.0] * len(Nanoseconds._fields))


def amounts(name: str, x: tuple[int, ...], kernel: tuple[int, ...], strides: int = 1) -> dict:
    """Return how much of everything a way takes, without padding."""
    spec = ops.window_spec(x[1:-1], kernel[:-2], strides)
    way = one_group.WAYS[name]
    assert way.fits(x, kernel, spec)
    each = {
        field: way.cost(x, kernel, spec, FREE._replace(**{field: 1.0}))
        for field in Nanoseconds._fields
    }
    return {field: amount for field, amount in each.items() if amount}


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave these ways."""
    kept = {name: one_group.WAYS[name] for name in names}
    monkeypatch.setattr(one_group, "WAYS", kept)


def test_two_images_of_5_by_5_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """3×3 taps, 3 to 10 channels, 3×3 outputs: 18 windows. A side below 8 counts as 8."""
    x, kernel = (2, 5, 5, 3), (3, 3, 3, 10)
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 3)
    assert amounts("im2col", x, kernel) == {
        "product": 3 * 18 * 27 * 10,
        "copied": 18 * 27,
        "slice": 9,
    }
    assert amounts("whole_map", x, kernel) == {
        "product": 3 * 2 * 75 * 90,
        "entry": 75 * 90,
        "slice": 3 + 3,
    }
    assert amounts("kn2row", x, kernel) == {  # 50 positions, 90 columns, summed for 18 outputs
        "product": 3 * 50 * 8 * 90,
        "copied": 50 * 90,
        "moved": 18 * 90,
        "slice": 2 * 9,
    }
    # t = 3 outputs in a block, which see 5 columns: 45 inputs, from 2 chunks of 3 columns
    assert amounts("toeplitz", x, kernel) == {
        "product": 3 * 6 * 45 * 30,
        "copied": 6 * 54,
        "entry": 45 * 30,
        "slice": 3 + 3 + 2,
    }
    assert amounts("winograd", x, kernel) == {  # one tile for each image
        "product": 36 * 3 * 2 * 8 * 10,
        "entry": 36 * 3 * 3 * 10,
        "tile": 36 * 2 * (3 + 10),
    }
    assert amounts("kernel_gradient", x, kernel) == {
        "product": 18 * 9 * 8 * 10,
        "lax_product": 18 * 9 * (3 * 10 + 10 * 8),
        "lax_window": 18 * 9 * (3 + 10),
        "lax_run": 18 * 9 * 2,
        "slice": 9,
    }


def test_strides(monkeypatch: pytest.MonkeyPatch) -> None:
    """3×3 taps are 2×2 blocks of 4 positions: 12 channels on 3×3 blocks. Only one way is left."""
    x, kernel = (2, 5, 5, 3), (3, 3, 3, 10)
    only(monkeypatch, "im2col", "strided")
    assert amounts("strided", x, kernel, 2) == {
        "moved": 2 * 9 * 12,
        "product": 3 * 8 * 48 * 10,
        "copied": 8 * 48,
        "slice": 4,
    }


def test_zeros_between_strides_are_multiplied() -> None:
    """2×2 outputs, between which there are three zeros for each."""
    assert amounts("kernel_gradient", (2, 5, 5, 3), (3, 3, 3, 10), 2) == {
        "product": 8 * 9 * 8 * 10,
        "lax_product": 8 * 9 * (3 * 10 + 4 * 10 * 8),
        "lax_window": 8 * 9 * (3 + 4 * 10),
        "lax_run": 8 * 9 * (1 + 4),
        "slice": 9,
    }


def test_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 taps along the first axis: twice 4 images of 3×3, by one product of 16 windows each."""
    only(monkeypatch, "im2col", "volumes")
    assert amounts("volumes", (2, 3, 3, 3, 5), (2, 2, 2, 5, 9)) == {
        "moved": 2 * (4 * 9 * 5 + 4 * 4 * 9),
        "product": 2 * 3 * 16 * 20 * 9,
        "copied": 2 * 16 * 20,
        "slice": 2 * 4,
    }


def test_a_matrix_beyond_the_cache_costs_more() -> None:
    ns = FREE._replace(copied=1.0, spilled=2.0)
    assert [cost.windows(ns, n) for n in (2**22, 2**22 + 1)] == [2**22, 3 * (2**22 + 1)]
    ns = FREE._replace(entry=1.0, spilled=2.0)
    assert [cost.matrix(ns, n) for n in (2**22, 2**22 + 1)] == [2**22, 3 * (2**22 + 1)]


def test_bounds() -> None:
    """By hand: 16 · 1024 windows of 1,024 numbers are 2^24, and 2 · 2^12 rows with 2^11 as well."""

    def fits(name: str, x: tuple[int, ...], kernel: tuple[int, ...], strides: int = 1) -> bool:
        spec = ops.window_spec(x[1:-1], kernel[:-2], strides)
        return one_group.WAYS[name].fits(x, kernel, spec)

    assert fits("im2col", (16, 1025, 512), (2, 512, 8))
    assert not fits("im2col", (16, 1026, 512), (2, 512, 8))
    assert fits("im2col", (4, 9999, 512), (1, 512, 8))
    assert not fits("im2col", (1, 200, 1), (129, 1, 8))
    assert fits("kn2row", (2, 2**18, 9), (128, 9, 1))  # 2^26 numbers
    assert not fits("kn2row", (2, 2**18 + 1, 9), (128, 9, 1))
    assert not fits("kn2row", (1, 200, 9), (129, 9, 1))
    assert not fits("kn2row", (1, 200, 9), (1, 9, 1))
    assert fits("kn2row", (1, 200, 9), (3, 9, 1), 2)
    assert fits("whole_map", (1, 4096, 2), (3969, 2, 16))  # 128 outputs
    assert not fits("whole_map", (1, 4096, 2), (3969, 2, 17))
    assert not fits("whole_map", (1, 300, 1), (44, 1, 1))  # 257 outputs
    assert fits("toeplitz", (1, 2000, 1), (1024, 1, 1))
    assert not fits("toeplitz", (1, 2000, 1), (1025, 1, 1))
    assert not fits("toeplitz", (1, 9, 1), (3, 1, 1), 2)
    assert fits("winograd", (1, 9, 9, 24), (3, 3, 24, 24))
    assert not fits("winograd", (1, 9, 9, 24), (3, 3, 24, 23))
    assert not fits("winograd", (1, 9, 9, 24), (3, 3, 24, 24), 2)
    assert not fits("winograd", (1, 9, 9, 24), (3, 2, 24, 24))
    assert fits("strided", (1, 2000, 1), (1024, 1, 1), 2)
    assert not fits("strided", (1, 2000, 1), (1025, 1, 1), 2)
    assert fits("strided", (1, 2000, 1), (1, 1, 1), 128)
    assert not fits("strided", (1, 2000, 1), (1, 1, 1), 129)
    assert not fits("kernel_gradient", (1, 9, 1), (1, 1, 1))
    assert not fits("strided", (1, 9, 1), (3, 1, 1))
    assert not fits("volumes", (1, 9, 9, 1), (3, 3, 1, 1))


def test_constants_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel = (8, 9, 9, 4), (3, 3, 4, 4)
    spec = ops.window_spec((9, 9), 3)
    file = tmp_path / "costs.json"
    monkeypatch.setenv("CNN_COSTS", str(file))
    for cheap, name in (("entry", "whole_map"), ("lax_product", "kernel_gradient")):
        dear = dict.fromkeys(Nanoseconds._fields, 1e6)
        if name == "kernel_gradient":
            dear |= {"lax_window": 1e-6, "product": 1e-6, "slice": 1e-6}
        else:
            dear |= {"product": 1e-6, "slice": 1e-6}
        file.write_text(json.dumps(dear | {cheap: 1e-6}))
        cost.read.cache_clear()
        assert one_group.choice(x, kernel, spec) == name
        with implementations.use("fastest"):
            assert str(cost.constants()) in implementations.described()
    cost.read.cache_clear()


@pytest.mark.parametrize(
    "text", [None, "[]", "{", "{}", json.dumps(cost.SHIPPED._asdict() | {"slice": -1})]
)
def test_files_that_are_not_constants(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "costs.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("CNN_COSTS", str(file))
    with pytest.raises(InputError, match=r"^CNN_COSTS must .*costs\.json"):
        cost.constants()
