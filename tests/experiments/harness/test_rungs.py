"""The networks of the ladder."""

import jax
import jax.numpy as jnp
import numpy as np

from cnn.data import Dataset, Split, load
from cnn.geometry import describe
from cnn.layers import Chain
from experiments.harness import rungs


def test_the_rungs_differ_in_one_thing() -> None:
    """Parameters by hand: windows 5, 3, 3 over maps of 40, 19, 10 and 5 positions, 25 channels."""

    def count(kernels: int, biases: int) -> int:
        return kernels + biases + 125 * 10 + 10

    taps = [5 * 1 * 25, 3 * 25 * 25, 3 * 25 * 25]
    maps = [19, 10, 5]
    inputs = [40 * 1, 19 * 25, 10 * 25]
    expected = {
        "conv": count(sum(taps), 75),
        "tiled-2": count(2 * sum(taps), 2 * 75),
        "tiled-4": count(4 * sum(taps), 4 * 75),
        "local": count(sum(n * k for n, k in zip(maps, taps, strict=True)), sum(maps) * 25),
        "dense": count(sum(i * n * 25 for i, n in zip(inputs, maps, strict=True)), sum(maps) * 25),
        "mlp": 40 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10,
        "logistic": 40 * 10 + 10,
    }
    assert expected["conv"] == 5210
    models = rungs.standard(load("mnist1d"))
    assert list(models) == list(expected)
    for name, model in models.items():
        made = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 40, 1)))
        assert sum(leaf.size for leaf in jax.tree.leaves(made)) == expected[name], name


def test_the_rungs_on_images() -> None:
    """Windows of 3×3 over maps of 14×14 and 7×7 positions, 16 channels."""
    images = np.zeros((1, 28, 28, 1), np.float32)
    split = Split(images, np.zeros(1, np.int32))
    data = Dataset("images", split, split, tuple("0123456789"), (0.0,), (1.0,))
    head = 7 * 7 * 16 * 10 + 10
    taps = [9 * 16, 9 * 16 * 16]
    expected = {
        "conv": sum(taps) + 2 * 16,
        "tiled-2": 4 * (sum(taps) + 2 * 16),
        "tiled-4": 16 * (sum(taps) + 2 * 16),
        "local": 14**2 * (taps[0] + 16) + 7**2 * (taps[1] + 16),
        "dense": 14**2 * 16 * (28**2 + 1) + 7**2 * 16 * (14**2 * 16 + 1),
    }
    models = rungs.standard(data)
    for name, hidden in expected.items():
        assert describe(models[name], (28, 28, 1)).params == hidden + head, name


def test_permuted_is_the_same_data_elsewhere() -> None:
    data = load("mnist1d")
    one, two = (rungs.permuted(data, seed) for seed in (0, 1))
    assert not np.array_equal(one.train.x, two.train.x)
    for moved in (one, two):
        assert not np.array_equal(moved.train.x, data.train.x)
        np.testing.assert_array_equal(np.sort(moved.train.x, axis=1), np.sort(data.train.x, axis=1))


def test_the_rungs_in_both_directions() -> None:
    """Parameters by hand: windows 5, 3, 3 over maps of 40, 20 and 10 positions, 24 channels."""
    c, maps, taps = 24, [40, 20, 10], [5 * 24, 3 * 24 * 24, 3 * 24 * 24]
    inputs, head = [40 * 1, 20 * c, 10 * c], 5 * c * 10 + 10
    expected = {
        "flip": (taps[0] + taps[1] + taps[2] + 3 * c) // 2,
        "conv": sum(taps) + 3 * c,
        "local": sum(n * (k + c) for n, k in zip(maps, taps, strict=True)),
        "dense": sum(n * c * (i + 1) for n, i in zip(maps, inputs, strict=True)),
        "mixing": taps[0] + c + sum(n * n + n + c * c + c for n in maps[1:]),
    }
    made = rungs.both_directions(load("mnist1d"))
    assert list(made) == [*expected, "attention"]
    for name, hidden in expected.items():
        assert describe(made[name], (40, 1)).params == hidden + head, name
    images = rungs.both_directions(load("digits"))
    assert list(images) == ["p4m", "p4", *list(expected)[1:], "attention"]


def test_the_flip_rung_mirrors_the_map_of_a_mirrored_signal() -> None:
    """Below the head, of which each position has weights of its own."""
    data = load("mnist1d")
    flip = rungs.both_directions(data)["flip"]
    body = Chain(flip.layers[:-2])
    x = jax.random.normal(jax.random.key(0), (2, 40, 1))
    variables = body.init(jax.random.key(1), x)
    y, mirrored = (np.asarray(body.apply(variables, of)) for of in (x, x[:, ::-1]))
    # A kernel and its mirror image change places, so channels are compared in sorted order.
    np.testing.assert_allclose(np.sort(mirrored, -1), np.sort(y[:, ::-1], -1), atol=1e-5)
    assert np.abs(mirrored - y[:, ::-1]).max() > 1e-3
