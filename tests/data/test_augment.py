"""Augmentations: the set of all results is the expected one."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data.augment import AUGMENTATIONS, augment, cutmix, mix, mixup, partners
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


def test_mixup_is_the_weighted_mean_of_a_pair() -> None:
    x, other = IMAGE, IMAGE[::-1]
    keys = jax.random.split(jax.random.key(0), 2000)
    mixed, shares = jax.jit(jax.vmap(lambda key: mixup(key, x, other)))(keys)
    for y, share in zip(mixed[:9], shares[:9], strict=True):
        np.testing.assert_allclose(y, share * x + (1 - share) * other, rtol=1e-5)
    # Uniform: the mean is 1/2 and the deviation 1/√12.
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.std()) == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(40, 1), (16, 8, 2)])
def test_cutmix_pastes_one_window_and_says_how_much_is_left(shape: tuple[int, ...]) -> None:
    x, other = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    mixed, shares = map(np.asarray, jax.jit(jax.vmap(lambda key: cutmix(key, x, other)))(keys))
    np.testing.assert_allclose(1 - mixed.reshape(400, -1).mean(1), shares, atol=1e-6)
    for y in mixed[..., 0]:
        sides = [y.any(tuple(set(range(y.ndim)) - {axis})) for axis in range(y.ndim)]
        window = sides[0] if y.ndim == 1 else np.outer(*sides)
        np.testing.assert_array_equal(window, y > 0)  # a rectangle
        for side in sides:  # without a gap
            assert np.abs(np.diff(np.pad(side, 1).astype(int))).sum() in (0, 2)
    assert {0.0, 1.0} & {*np.round(shares, 2)}  # nearly all, or nothing, is possible
    assert 0.5 < shares.mean() < 0.8  # half before the border cuts windows off


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_pairs_are_mixed_alike_in_any_part_of_the_batch(name: str) -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 8, 8, 1)), jnp.float32)
    key, positions = jax.random.key(1), jnp.arange(6)
    whole, shares = mix(name, key, positions, x)
    parts = [mix(name, key, positions[i : i + 2], x[i : i + 2]) for i in (0, 2, 4)]
    np.testing.assert_allclose(whole, jnp.concatenate([part for part, _ in parts]), rtol=1e-6)
    np.testing.assert_allclose(shares, jnp.concatenate([share for _, share in parts]))
    np.testing.assert_array_equal(shares[::2], shares[1::2])
    assert len({*np.asarray(shares).tolist()}) == 3
    assert partners(jnp.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
