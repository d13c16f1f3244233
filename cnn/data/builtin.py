"""The two sets that need no download: one made by a package, one that comes with a package."""

from __future__ import annotations

import random
from importlib.metadata import version

import numpy as np

from cnn.data.cache import cached
from cnn.data.dataset import Dataset, Split, from_images, split_last


def mnist1d() -> Dataset:
    """MNIST-1D: 4,000 training and 1,000 test signals of 40 samples and 1 channel, 10 classes.

    Made by the package `mnist1d` with its default arguments, in its order; the package has centred
    and scaled the whole set already. Source: Greydanus and Kobak, "Scaling down deep learning with
    MNIST-1D", ICML 2024.
    """
    made = cached("mnist1d", f"mnist1d {version('mnist1d')}", _make_mnist1d)
    return Dataset(
        "mnist1d",
        train=Split(made["x"], made["y"]),
        test=Split(made["x_test"], made["y_test"]),
        classes=tuple("0123456789"),
        mean=(0.0,),
        std=(1.0,),
    )


def _make_mnist1d() -> dict[str, np.ndarray]:
    from mnist1d.data import get_dataset_args, make_dataset

    # The package seeds the two global generators; whoever else uses them must not notice.
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        made = make_dataset(get_dataset_args())
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
    return {
        "x": made["x"][..., np.newaxis].astype(np.float32),
        "y": made["y"].astype(np.int32),
        "x_test": made["x_test"][..., np.newaxis].astype(np.float32),
        "y_test": made["y_test"].astype(np.int32),
    }


def digits() -> Dataset:
    """Handwritten digits from scikit-learn: 8×8 images, 1 channel, 17 grey levels, 10 classes.

    The set comes without a split. The test part is the last fifth of each class in stored order:
    1,438 training and 359 test images. Neighbours in that order are alike, so this is harder than
    the usual random split: a support vector machine, scikit-learn's `SVC()`, gets 93.9 % right
    where it gets 98.8 % in the mean over five random splits of the same sizes. Source: Alpaydin and
    Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998
    (the test part of that set).
    """
    made = cached("digits", f"scikit-learn {version('scikit-learn')}", _make_digits)
    x, y = made["x"], made["y"]
    train, test = split_last(y, 1 / 5)
    return from_images("digits", x[train], y[train], x[test], y[test], tuple("0123456789"))


def _make_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return {"x": images.reshape(-1, 8, 8, 1).astype(np.uint8), "y": labels}
