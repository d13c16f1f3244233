"""Decoding: every kind of PNG, JPEG and WebP gives the pixels that it stores."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.data import images

GREY = np.arange(0, 240, 4, dtype=np.uint8).reshape(6, 10)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: np.ndarray, bits: int) -> bytes:
    """Write a PNG by hand: Pillow writes no colours of 16 bits."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_grey_and_colour_without_loss(kind: str) -> None:
    grey, colour = encoded(GREY, kind, lossless=True), encoded(COLOUR, kind, lossless=True)
    np.testing.assert_array_equal(images.decode(grey, 1)[..., 0], GREY)
    np.testing.assert_array_equal(images.decode(grey, 3), GREY[..., None].repeat(3, -1))
    np.testing.assert_array_equal(images.decode(colour, 3), COLOUR)
    weights = np.array([0.299, 0.587, 0.114])  # of ITU-R 601
    np.testing.assert_allclose(images.decode(colour, 1)[..., 0], COLOUR @ weights, atol=1)


def test_jpeg() -> None:
    smooth = encoded(GREY, "JPEG", quality=100)
    np.testing.assert_allclose(images.decode(smooth, 1)[..., 0], GREY, atol=2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_16_bits_the_high_byte_is_kept(channels: int) -> None:
    wide = np.arange(6 * 10 * channels, dtype=np.uint16).reshape(6, 10, channels) * 1091
    np.testing.assert_array_equal(images.decode(png(wide, 16), channels), wide >> 8)


def test_one_bit_is_black_or_white() -> None:
    raw = encoded(Image.fromarray(GREY > 100))
    np.testing.assert_array_equal(images.decode(raw, 1)[..., 0], np.where(GREY > 100, 255, 0))


def test_a_palette_gives_its_colours() -> None:
    indices = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 200, 0, 0, 7, 7, 7])
    colours = [[[10, 20, 30], [200, 0, 0], [7, 7, 7]]]
    np.testing.assert_array_equal(images.decode(encoded(indices), 3), colours)
    seen = encoded(indices, transparency=bytes([255, 0, 128]))
    np.testing.assert_array_equal(images.decode(seen, 3), colours)
    assert images.decode(seen, 4)[0, :, 3].tolist() == [255, 0, 128]


def test_opacity_is_dropped_or_kept() -> None:
    pixels = np.concatenate([COLOUR, 255 - GREY[..., None]], axis=-1)
    np.testing.assert_array_equal(images.decode(encoded(pixels), 3), COLOUR)
    np.testing.assert_array_equal(images.decode(encoded(pixels), 4), pixels)
    np.testing.assert_array_equal(images.decode(encoded(GREY), 2)[..., 1], 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    """As the Exif standard says where the first row and the first column of the pixels belong."""
    to_upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(COLOUR, kind, exif=exif, quality=100, lossless=True)
    plain = images.decode(raw, 3, upright=False)
    np.testing.assert_array_equal(images.decode(raw, 3), to_upright(plain))
    with images.open_image(raw) as image:
        assert images.upright_size(image) == to_upright(plain).shape[:2]


def test_exif_data_that_cannot_be_read_do_no_harm() -> None:
    raw = encoded(COLOUR, "JPEG", exif=b"Exif\0\0nonsense")
    assert images.decode(raw, 3).shape == (6, 10, 3)


def test_the_whole_image_is_resized_with_antialiasing() -> None:
    """A bilinear filter as wide as the reduction: of a stripe that is 1 in 4, a quarter is left."""
    stripes = np.tile(np.uint8([0, 0, 0, 200]), (8, 16))
    small = images.decode(encoded(stripes), 1, size=(4, 8))
    assert small.shape == (4, 8, 1)
    np.testing.assert_allclose(small[:, 2:-2].mean(), 50, atol=2)
    assert small.max() < 110  # sampling alone would find 200
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (20, 1))
    large = images.decode(encoded(ramp), 1, size=(20, 40))[0, :, 0]
    np.testing.assert_allclose(large[1:-1], np.arange(2.5, 192, 5)[:38], atol=0.6)


def test_images_are_told_by_their_content(tmp_path: Path) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        assert images.is_image(encoded(GREY, kind)[:12])
    for kind in ("GIF", "BMP", "TIFF"):
        assert not images.is_image(encoded(GREY, kind)[:12])
    for content in (b"", b"RIFF1234WAVE", b"\x89PNG", b"some text"):
        assert not images.is_image(content)


def test_grey_and_transparent_images_are_told_by_what_they_store() -> None:
    def told(raw: bytes) -> tuple[bool, bool]:
        with images.open_image(raw) as image:
            return images.is_grey(image), images.has_transparent_pixels(image)

    opaque, clear = np.full_like(GREY, 255), np.full_like(GREY, 254)
    assert told(encoded(GREY)) == (True, False)
    assert told(encoded(COLOUR)) == (False, False)
    assert told(encoded(np.dstack([COLOUR, opaque]))) == (False, False)
    assert told(encoded(np.dstack([COLOUR, clear]))) == (False, True)
    assert told(encoded(np.dstack([GREY, clear]))) == (True, True)
    assert told(png(GREY[..., None].astype(np.uint16), 16)) == (True, False)
    assert told(encoded(Image.fromarray(GREY).convert("P"))) == (False, False)


def test_more_pixels_than_the_limit_of_pillow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encoded(GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    images.decode(raw, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 29)
    with pytest.raises(Image.DecompressionBombError):
        images.decode(raw, 1)
