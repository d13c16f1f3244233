"""Window, dilation and padding: centre and output size stay."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations, ops
from cnn.errors import InputError, LayerError
from cnn.layers import Conv, DenseSpatial

CONV = Conv(3, (5,), strides=2, padding=2, padding_mode="reflect", use_bias=False, scale=0.5)


def embedded(window: int, taps: list[float]) -> jnp.ndarray:
    """Return a kernel of size `window` with `taps` in its middle and zeros around."""
    kernel = np.zeros((window, 1, 1), np.float32)
    start = (window - len(taps)) // 2
    kernel[start : start + len(taps), 0, 0] = taps
    return jnp.asarray(kernel)


@pytest.mark.parametrize(
    ("padding", "strides", "mode"),
    [
        *itertools.product(["VALID", "FULL", 1, ((3, 2),)], [1, 2], ["zeros", "circular"]),
        *itertools.product(["SAME", "SAME_LOWER"], [1, 2, 3], ["zeros"]),
        *[(((2, 0),), 2, mode) for mode in ("zeros", "circular")],
    ],
)
def test_another_window_has_the_same_centre(padding: ops.Padding, strides: int, mode: str) -> None:
    """A kernel that is zero outside its middle computes the same in every window."""
    layer = Conv(1, (5,), strides, padding, mode, use_bias=False)  # type: ignore[arg-type]
    for size in (12,) if padding not in ("SAME", "SAME_LOWER") else (7, 8, 9, 12):
        check_windows(layer, jax.random.normal(jax.random.key(0), (2, size, 1)))


def check_windows(layer: Conv, x: jnp.ndarray) -> None:
    """Compare windows of one to nine taps, and dilated ones, on `x`."""

    def run(model: nn.Module, kernel: jnp.ndarray) -> jnp.ndarray:
        made = jax.eval_shape(model.init, jax.random.key(0), x)
        return model.apply(jax.tree.map(lambda _: kernel, made), x)

    for taps, windows in (([2.0], (1, 3, 7)), ([1.0, 2.0, 3.0], (3, 7, 9))):
        expected = run(layer, embedded(5, taps))
        for window in windows:
            changed = ablations.rewindow(layer, (window,))
            got = run(changed, embedded(window, taps))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    wide = embedded(5, [1.0, 0.0, 2.0, 0.0, 3.0])
    dilated = ablations.dilate(ablations.rewindow(layer, (3,)), 2)
    got = run(dilated, embedded(3, [1, 2, 3]))
    np.testing.assert_allclose(got, run(layer, wide), rtol=1e-5, atol=1e-6)


def test_rewindow_crops_where_there_is_no_padding() -> None:
    assert ablations.rewindow(Conv(1, (5,), padding=2), (3,)) == Conv(1, (3,), padding=((1, 1),))
    assert ablations.rewindow(Conv(1, (5,)), (3,)) == Conv(1, (3,), padding=((-1, -1),))
    # An odd difference: the smaller half before, the larger one after.
    assert ablations.rewindow(Conv(1, (5,), padding=2), (2,)) == Conv(1, (2,), padding=((1, 0),))
    assert ablations.rewindow(Conv(1, (2,)), (5,)) == Conv(1, (5,), padding=((1, 2),))
    with pytest.raises(LayerError, match="window must have one number per axis, got 3"):
        ablations.rewindow(Conv(1, 3), 5)
    with pytest.raises(LayerError, match="does not apply to DenseSpatial"):
        ablations.rewindow(DenseSpatial(1, (3,)), (5,))


def test_repad() -> None:
    assert ablations.repad(CONV, mode="zeros") == CONV.clone(padding_mode="zeros")
    assert ablations.repad(CONV, padding="FULL") == CONV.clone(padding="FULL")
    with pytest.raises(InputError, match="repad changes nothing: give mode or padding"):
        ablations.repad(CONV)
    with pytest.raises(LayerError, match="does not apply to DenseSpatial"):
        ablations.repad(DenseSpatial(1, 3), mode="circular")
