"""The values beyond the border. SciPy and PyTorch: see test_conv.py."""

from __future__ import annotations

import numpy as np
import pytest

from cnn import ops


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 0]),
        ("reflect", [3, 2, 1, 2, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1]),
    ],
)
def test_what_stands_beyond_the_border(mode: ops.PaddingMode, expected: list[int]) -> None:
    x = np.array([1, 2, 3], np.float32)[None, :, None]
    np.testing.assert_array_equal(ops.pad(x, ((2, 1),), mode).ravel(), expected)
