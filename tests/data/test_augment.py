"""Augmentations: the set of all results is the expected one."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data.augment import AUGMENTATIONS, augment
from cnn.errors import InputError

IMAGE = np.arange(1.0, 8 * 16 * 2 + 1, dtype=np.float32).reshape(8, 16, 2)


def results(name: str, x: np.ndarray, draws: int = 400) -> set[bytes]:
    keys = jax.random.split(jax.random.key(0), draws)
    changed = jax.jit(jax.vmap(AUGMENTATIONS[name], (0, None)))(keys, x)
    return {np.asarray(y).tobytes() for y in changed}


def test_crop_gives_every_window_of_the_padded_image_and_nothing_else() -> None:
    padded = np.pad(IMAGE, [(1, 1), (2, 2), (0, 0)])
    windows = {
        padded[i : i + 8, j : j + 16].tobytes() for i, j in itertools.product(range(3), range(5))
    }
    assert len(windows) == 15
    assert results("crop", IMAGE) == windows


def test_flip_mirrors_the_last_spatial_axis_or_not() -> None:
    assert results("flip", IMAGE) == {IMAGE.tobytes(), IMAGE[:, ::-1].tobytes()}
    signal = IMAGE[0]
    assert results("flip", signal) == {signal.tobytes(), signal[::-1].tobytes()}


def test_shift_goes_around() -> None:
    steps = itertools.product((-1, 0, 1), (-2, -1, 0, 1, 2))
    assert results("shift", IMAGE) == {np.roll(IMAGE, by, (0, 1)).tobytes() for by in steps}


def test_cutout_empties_a_window_of_half_the_side() -> None:
    """On a signal of 8 the window has 4 positions, from 2 before its centre on."""
    signal = np.arange(1.0, 9, dtype=np.float32).reshape(8, 1)
    expected = set()
    for centre in range(8):
        cut = signal.copy()
        cut[max(centre - 2, 0) : centre + 2] = 0
        expected.add(cut.tobytes())
    assert results("cutout", signal) == expected


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_example_is_augmented_alike_in_any_part_of_the_batch(name: str) -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 8, 8, 1)), jnp.float32)
    key, positions = jax.random.key(1), jnp.arange(6)
    whole = augment((name,), key, positions, x)
    parts = [augment((name,), key, positions[i : i + 2], x[i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
    assert not np.array_equal(whole, x)
    assert not np.array_equal(augment((name,), jax.random.key(2), positions, x), whole)


def test_an_unknown_augmentation_is_named() -> None:
    with pytest.raises(InputError, match="unknown augmentation 'flipp': did you mean 'flip'"):
        augment(("flipp",), jax.random.key(0), jnp.arange(1), jnp.zeros((1, 4, 4, 1)))
