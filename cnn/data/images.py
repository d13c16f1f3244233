"""Decode PNG, JPEG and WebP into bytes of one size and number of channels, with Pillow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnn.errors import InputError

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's names by number of channels: grey or colour, without or with transparency."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by the orientation in its Exif data."""

Source = bytes | str
"""The content of a file, or its path."""
Size = tuple[int, int]


def checked_size(size: Sequence[int] | None, channels: int | None) -> Size | None:
    """Return the size as a tuple.

    Raises:
        InputError: Unless it is a height and a width, and `channels` is possible.
    """
    if channels not in (None, *MODES):
        raise InputError(f"channels must be from 1 to 4, got {channels!r}")
    if size is None:
        return None
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"size must be a height and a width of at least 1, got {size}")
    if Image.MAX_IMAGE_PIXELS is not None and size[0] * size[1] > Image.MAX_IMAGE_PIXELS:
        raise InputError(
            f"size must have at most {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit, got {size}"
        )
    return size[0], size[1]


def is_image(start: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of a PNG, JPEG or WebP."""
    return start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


@contextmanager
def open_image(source: Source) -> Iterator[Image.Image]:
    """Read the header of an image, and keep its file open.

    Raises:
        ValueError: If it has more pixels than Pillow's limit, `PIL.Image.MAX_IMAGE_PIXELS`. Above
            twice that, Pillow raises its own error.
    """
    limit = Image.MAX_IMAGE_PIXELS
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        image = Image.open(file)
        if limit is not None and image.width * image.height > limit:
            raise ValueError(
                f"{image.width} × {image.height} pixels exceed Pillow's limit of {limit}"
            )
        yield image


def decode(
    source: Source, channels: int, size: Size | None = None, upright: bool = True
) -> UInt8[np.ndarray, "height width channels"]:
    """Return the pixels of an image.

    Of 16 bits the high byte is kept, as TensorFlow does. A palette gives its colours. Colours
    become grey by ITU-R 601 weights. Transparency is dropped, unless `channels` is 2 or 4. Of
    several frames the first is read.

    Args:
        source: The file, or its content.
        channels: 1 (grey), 2 (grey and opacity), 3 (red, green, blue) or 4 (these and opacity).
        size: Height and width. The whole image is resized, without cropping, so its sides may
            change their ratio; bilinear, with antialiasing.
        upright: Apply the orientation in the Exif data, as viewers do.

    Raises:
        Exception: Pillow raises nearly anything on damaged images.
    """
    with open_image(source) as image:
        turn = UPRIGHT.get(orientation(image)) if upright else None
        pixels = _eight_bits(image).convert(MODES[channels])
    if turn is not None:
        pixels = pixels.transpose(turn)
    if size is not None:
        pixels = pixels.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(pixels.height, pixels.width, channels)


def upright_size(image: Image.Image) -> Size:
    """Return height and width of the image that `decode` returns without a `size`."""
    size = (image.height, image.width)
    return size[::-1] if orientation(image) >= 5 else size


def orientation(image: Image.Image) -> int:
    """Return the orientation in the Exif data, from 1 (upright) to 8, without decoding."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return int(exif.get(0x0112, 1))
    except Exception:  # Exif data that cannot be read do not make an image unreadable
        return 1


def is_grey(image: Image.Image) -> bool:
    """Return whether the file stores grey values and no colours. A palette is of colours."""
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I")


def has_transparent_pixels(image: Image.Image) -> bool:
    """Return whether a pixel is not opaque. Only an image with transparency is decoded for that."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(_eight_bits(image).convert("RGBA"))[..., 3].min() < 255)


def _eight_bits(image: Image.Image) -> Image.Image:
    # `convert` would clip 16 bits.
    if image.format == "PNG" and image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"pixels must have 8 bits, or 16 in a PNG, got mode {image.mode}")
    if image.mode == "P" and image.has_transparency_data:
        return image.convert("RGBA")  # Pillow warns of every other mode
    return image
