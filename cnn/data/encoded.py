"""Encoded images from anywhere: one size and number of channels for all, and their reader."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from cnn.data.files import one_line, progress
from cnn.data.images import (
    Size,
    Source,
    decode,
    has_transparent_pixels,
    is_grey,
    open_image,
    upright_size,
)
from cnn.errors import InputError

BATCH = 64
"""Images that a thread decodes at a time."""
WORDS = {1: "grey", 2: "grey and opacity", 3: "colour", 4: "colour and opacity"}
THREADS = os.cpu_count() or 1

T = TypeVar("T")


class Headers(NamedTuple):
    """What the headers of images say."""

    sizes: Int[np.ndarray, "n 2"]
    grey: Bool[np.ndarray, " n"]
    transparent: Bool[np.ndarray, " n"]
    """Whether a pixel is not opaque."""


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images by row number, and the targets of these rows. A `Reader` of `cnn.data.files`."""

    get: Callable[[int], Source]
    """Maps a row number to the encoded image."""
    describe: Callable[[int], str]
    """Maps a row number to what an error message calls the image."""
    rows: Int[np.ndarray, " n"]
    y: np.ndarray
    size: Size = (0, 0)
    channels: int = 0
    resize: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Int[np.ndarray, " m"]) -> EncodedImages:
        """Return the images at these row numbers, in this order."""
        return replace(self, rows=self.rows[rows], y=self.y[rows])

    def images(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width channels"]:
        """Return the decoded images of these rows."""
        out = np.empty((len(rows), *self.size, self.channels), np.uint8)
        for place, row in zip(out, self.rows[rows].tolist(), strict=True):
            place[...] = self._decode(row)
        return out

    def targets(self) -> np.ndarray:
        """Return all targets."""
        return self.y

    def read_all(self) -> tuple[UInt8[np.ndarray, "n height width channels"], np.ndarray]:
        """Return all decoded images and all targets."""
        out = np.empty((len(self), *self.size, self.channels), np.uint8)
        starts = range(0, len(self), BATCH)

        def fill(start: int) -> None:
            rows = np.arange(start, min(start + BATCH, len(self)))
            out[rows] = self.images(rows)

        for _ in in_threads(fill, starts, "decoding images"):
            pass
        return out, self.y

    def headers(self) -> Headers:
        """Read what the headers of all images say.

        Raises:
            InputError: If a file is no image, is damaged, or is too large. The message names it.
        """

        def read(start: int) -> list[tuple[Size, bool, bool]]:
            return [self._header(row) for row in self.rows[start : start + BATCH].tolist()]

        with warnings.catch_warnings():  # of images so large that `open_image` refuses them
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            batches = list(in_threads(read, range(0, len(self), BATCH), "reading headers"))
        sizes, grey, transparent = zip(*(one for batch in batches for one in batch), strict=True)
        return Headers(np.array(sizes), np.array(grey), np.array(transparent))

    def uniform(self, headers: Headers, size: Size | None, channels: int | None) -> EncodedImages:
        """Return these images with one size and number of channels, the given ones or their own.

        Raises:
            InputError: If the images differ and nothing is given. The message names two.
        """
        if channels is None:
            channels = self._channels(headers)
        if size is not None:
            return replace(self, size=size, channels=channels, resize=True)
        differ = (headers.sizes != headers.sizes[0]).any(axis=1)
        if differ.any():
            other = int(differ.argmax())
            height, width = np.median(headers.sizes, axis=0).astype(int)
            raise InputError(
                f"images must have one size, got {_size(headers, 0)} in {self._name(0)} and "
                f"{_size(headers, other)} in {self._name(other)}: give size=({height}, {width}), "
                "say, to resize them"
            )
        height, width = headers.sizes[0].tolist()
        return replace(self, size=(height, width), channels=channels)

    def describe_sizes(self, headers: Headers) -> str:
        """Return the size of the images in words, and how they got it."""
        size = f"{self.size[0]}×{self.size[1]}, {WORDS[self.channels]}"
        if not self.resize:
            return size
        least, most = headers.sizes.min(axis=0), headers.sizes.max(axis=0)
        return (
            f"whole images of {least[0]}×{least[1]} to {most[0]}×{most[1]} resized to {size}, "
            "bilinear with antialiasing"
        )

    def _channels(self, headers: Headers) -> int:
        """Return 1 for grey images and 3 for colour. Raise `InputError` if that is not clear."""
        if headers.transparent.any():
            raise InputError(
                f"{self._name(int(headers.transparent.argmax()))} has transparent pixels: give "
                "channels=3 (1 for grey) to drop the transparency, or channels=4 (2) to keep it"
            )
        if headers.grey.any() and not headers.grey.all():
            grey, colour = int(headers.grey.argmax()), int(headers.grey.argmin())
            raise InputError(
                f"images must be all grey or all in colour, got {self._name(grey)} in grey and "
                f"{self._name(colour)} in colour: give channels=1 or channels=3"
            )
        return 1 if headers.grey.all() else 3

    def _name(self, position: int) -> str:
        return self.describe(int(self.rows[position]))

    def _header(self, row: int) -> tuple[Size, bool, bool]:
        def read(source: Source) -> tuple[Size, bool, bool]:
            with open_image(source) as image:
                size, grey = upright_size(image), is_grey(image)
                return size, grey, has_transparent_pixels(image)

        return self._attempt(row, read)

    def _decode(self, row: int) -> UInt8[np.ndarray, "height width channels"]:
        size = self.size if self.resize else None
        pixels = self._attempt(row, lambda source: decode(source, self.channels, size))
        if pixels.shape[:2] != self.size:
            raise InputError(f"{self.describe(row)} has changed: load the data set again")
        return pixels

    def _attempt(self, row: int, f: Callable[[Source], T]) -> T:
        try:
            return f(self.get(row))
        except Exception as error:  # damaged images can raise nearly anything
            raise InputError(f"{self.describe(row)} cannot be read: {one_line(error)}") from error


def _size(headers: Headers, position: int) -> str:
    height, width = headers.sizes[position]
    return f"{height}×{width}"


def in_threads(f: Callable[[int], T], steps: range, description: str) -> Iterator[T]:
    """Yield `f` of the steps in their order. The first error ends it."""
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from progress(pool.map(f, steps), len(steps), description)
        finally:
            pool.shutdown(cancel_futures=True)
