"""`Dataset`: inputs and targets ready for a network, from arrays or from files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from cnn.data.arrays import ChannelAxis, parts_of_arrays
from cnn.data.class_folders import resolved
from cnn.data.display import to_html, to_text
from cnn.data.folder import parts_of_folder
from cnn.data.lazy import LazyArray
from cnn.data.split import TEST_FRACTION, Split, first_not_finite, split_last, strata
from cnn.data.standardize import standardized
from cnn.errors import InputError

HASHED = 256
"""Examples of a lazy split that `Dataset.content_hash` reads, evenly spaced."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs with class labels or float targets. To choose settings, use its `held_out()`.

    `x` is standardized: raw values are `x * std + mean`, with one mean and deviation per channel.
    Float targets are not. `classes` are the names of the classes; with float targets, the names of
    the `outputs`, or `()`.

    Raises:
        InputError: If the arrays do not fit together, or one in memory holds NaN or infinity.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            if error := self._error(split):
                raise InputError(f"data set {self.name!r}, {part}: {error}")

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        y: Any,
        test: tuple[Any, Any] | None = None,
        *,
        name: str = "arrays",
        classes: Sequence[str] | None = None,
        channel_axis: ChannelAxis = None,
        seed: int = 0,
        test_fraction: float = TEST_FRACTION,
    ) -> Dataset:
        """Return the data set of these arrays, standardized by the training part.

        Args:
            x: Images or signals `(n, *spatial, channels)` with one to three spatial axes, of uint8
                or of floats in any range.
            y: Class labels `(n,)`, which are whole numbers or strings, or float targets
                `(n, *target_shape)`. Float targets `(n,)` become `(n, 1)`. They are not scaled.
            test: `x` and `y` of the test part. Without it, `seed` draws `test_fraction` of the
                examples, of every class alike.
            name: Part of the identity of a run.
            classes: Names of the classes, in the order of the numbers in `y`; by default the sorted
                values of `y`. For float targets, names of the values on the last axis.
            channel_axis: The axis of `x` that is channels, or `"none"`: an axis of one channel is
                added. By default it is the last one, if that has 1 to 4 entries; and uint8 images
                `(n, height, width)` wider than 4 are grey. What else is not clear is refused.
            seed: Draws the test part.
            test_fraction: Size of the test part.

        Raises:
            InputError: If the arrays do not fit together, or do not say what they are.
        """
        return cls(name, *parts_of_arrays(x, y, test, classes, channel_axis, seed, test_fraction))

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        size: Sequence[int] | None = None,
        channels: int | None = None,
        seed: int = 0,
    ) -> Dataset:
        """Return the data set of a folder that has a folder of images for each class.

        The class folders are in `train/` and in `test/`, `val/` or `validation/`, or directly in
        `path`. Without `test/`, `val/` or `validation/` is the test data; beside it, it joins the
        training data. Where there is only one part, `seed` draws a fifth of every class as test
        data. Classes are in the order of their names.

        PNG, JPEG and WebP files are told by their content. Other files, hidden files and folders
        beside the parts are not read, and the number of them is printed. A file that only has the
        name of an image is an error, and so is a damaged one. Links are followed. Decoded images
        are cached until a file changes; a set that exceeds 4 GiB as float32 stays in its files.

        Of 16 bits the high byte is read, and of several frames the first. A palette gives its
        colours. The orientation in Exif data is applied.

        Args:
            path: The folder. Its name is the name of the data set.
            size: Height and width to which whole images are resized, without cropping, so that
                their sides may change their ratio; bilinear, with antialiasing (Pillow). Without
                it, all images must have one size.
            channels: 1 (grey), 3 (red, green, blue), or 2 and 4 with opacity as the last channel.
                By default 1 if all images are grey, and 3 if all are in colour. 1 and 3 drop the
                transparency: what was under it shows.
            seed: Draws the test part.

        Raises:
            InputError: If the folder, a file or the arguments do not say what the data set is. The
                message names the file.
        """
        root = resolved(path)
        return cls(os.path.basename(root), *parts_of_folder(root, size, channels, seed))

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r}: {to_text(self._parts(), self.classes)}>"

    def _repr_html_(self) -> str:
        return to_html(self.name, self._parts(), self.classes, self.mean, self.std)

    def _parts(self) -> dict[str, Split]:
        return {"training": self.train, "test": self.test}

    def _error(self, split: Split) -> str:
        """Return what does not fit in one part, or an empty string."""
        x, y, names = split.x, split.y, len(self.classes)
        labels = y.dtype == np.int32 and y.ndim == 1
        targets = y.dtype == np.float32 and y.ndim > 1
        if (
            x.ndim < 3
            or x.dtype != np.float32
            or y.shape[:1] != x.shape[:1]
            or not (labels or targets)
        ):
            return (
                "x must be float32 (n, *spatial, channels), and y int32 (n,) or float32 (n, "
                f"*target_shape), got {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            )
        if x.shape[1:] != self.input_shape:
            return f"examples must have shape {self.input_shape}, got {x.shape[1:]}"
        if (y.dtype, y.shape[1:]) != (self.train.y.dtype, self.target_shape):
            wanted = f"{self.train.y.dtype} {('n', *self.target_shape)}".replace("'", "")
            return f"y must be {wanted} as in train, got {y.dtype} {y.shape}"
        if len(y) == 0:
            return "there must be at least one example, got no examples"
        if 0 in (*x.shape, *y.shape):
            return f"no axis may have length 0, got x {x.shape} and y {y.shape}"
        if targets and names not in (0, y.shape[-1]):
            return f"classes must name the {y.shape[-1]} values of the targets, got {names} names"
        if labels and not names:
            return "classes must name the classes of the labels, got none"
        if labels and (y.min() < 0 or y.max() >= names):
            return f"labels must be from 0 to {names - 1}, got {y.min()} to {y.max()}"
        for what, array in (("x", x), ("y", y)):
            if not isinstance(array, LazyArray) and (row := first_not_finite(array)) is not None:
                return f"{what} must be finite, got NaN or infinity in row {row}"
        return ""

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class indices, and not floats."""
        return self.train.y.dtype == np.int32

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: If the targets are floats. Code that counts classes does not fit them; a
                network that does is built with `outputs`.
        """
        if not self.has_classes:
            raise InputError(
                f"data set {self.name!r} must have class labels here, got float targets "
                f"{self.target_shape}: a network for these is built with num_classes=data.outputs"
            )
        return len(self.classes)

    @property
    def outputs(self) -> int:
        """Values that a network returns: one per class, or the last axis of float targets."""
        return len(self.classes) if self.has_classes else self.target_shape[-1]

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the target of one example. It is `()` for class labels."""
        return self.train.y.shape[1:]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(*spatial, channels)`."""
        return self.train.x.shape[1:]

    def content_hash(self) -> str:
        """Return a hash of the name, the targets and the examples; of lazy ones, of a sample.

        It does not depend on where the files are, or on when they were written.
        """
        digest = hashlib.sha256(self.name.encode())
        if not self.has_classes:  # their bytes could be those of labels, or of another shape
            digest.update(f"float32 {self.target_shape}".encode())
        for split in (self.train, self.test):
            x = split.x
            if isinstance(x, LazyArray):
                sample = np.linspace(0, len(split) - 1, min(len(split), HASHED)).astype(int)
                digest.update(np.ascontiguousarray(x.rows).tobytes())
                x = x[sample]
            for array in (x, split.y):
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def held_out(self) -> Dataset:
        """Return the set whose test part is the last tenth of each class of `train`.

        "Last" is in stored order, and the tenth is rounded. The scaling stays. Float targets have
        no classes: it is the last tenth of all examples.

        Raises:
            InputError: If no class has the five examples that this needs.
        """
        kept, held = split_last(strata(self.train.y), 1 / 10)
        return replace(self, train=self.train.take(kept), test=self.train.take(held))


def from_images(
    name: str,
    train_x: UInt8[np.ndarray, "n *spatial channels"],
    train_y: Int[np.ndarray, " n"],
    test_x: UInt8[np.ndarray, "m *spatial channels"],
    test_y: Int[np.ndarray, " m"],
    classes: tuple[str, ...],
) -> Dataset:
    """Return the data set of these images, with values from 0 to 255.

    Both parts are standardized by the mean and standard deviation of each channel over all pixels
    of the training images. A constant channel is only centred.

    Raises:
        InputError: If the images are not uint8, or the labels no whole numbers.
    """
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if x.dtype != np.uint8:
            error = f"images must be uint8 with values from 0 to 255, got {x.dtype}"
        elif y.dtype.kind not in "iu":
            error = f"labels must be whole numbers, the indices of the classes, got {y.dtype}"
        else:
            continue
        raise InputError(f"data set {name!r}, {part}: {error}")
    parts = (train_x, train_y.astype(np.int32)), (test_x, test_y.astype(np.int32))
    return Dataset(name, *standardized(*parts, tuple(classes)))
