"""How data sets show: one line of text, and in notebooks tables of counts with a few examples."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from cnn.html_table import html_table

EXAMPLES, ROWS, NAMES = 16, 20, 10
"""Most examples and rows of a table in HTML, and most names in a line of text."""
SIDE = 72
"""Pixels of the longer side of an example."""


def to_text(parts: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Return sizes, shapes and classes of the parts (`Split`) in one line."""
    first = next(iter(parts.values()))
    sizes = " and ".join(f"{len(split):,} {name}".strip() for name, split in parts.items())
    shape = "×".join(map(str, first.x.shape[1:]))
    text = f"{sizes} examples of {shape}"
    if not first.has_classes:
        return f"{text}, targets of {'×'.join(map(str, first.y.shape[1:]))} floats"
    counts = [np.bincount(split.y, minlength=len(classes)) for split in parts.values()]
    classes = [" ".join(name.split()) for name in classes]
    listed = [f"{c} ({'+'.join(map(str, n))})" for c, *n in zip(classes, *counts, strict=False)]
    more = ", …" if len(listed) > NAMES else ""
    return f"{text}, {len(listed)} classes: {', '.join(listed[:NAMES])}{more}"


def to_html(
    title: str,
    parts: Mapping[str, Any],
    classes: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """Return a table of counts, or of the range of each float target, and up to 16 examples."""
    first = next(iter(parts.values()))
    shape = " × ".join(map(str, first.x.shape[1:]))
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in parts.items())
    heads, *rows = _rows(parts, classes)
    return (
        f"<div><b>{html.escape(title)}</b>: {html.escape(sizes)} examples of {shape}"
        f"{html_table(heads, rows, limit=ROWS)}"
        f"{''.join(_figures(first, classes, mean, std))}</div>"
    )


def _rows(parts: Mapping[str, Any], classes: Sequence[str]) -> Iterator[list[str]]:
    """Yield the head of the table, and a row for each class or output."""
    if all(split.has_classes for split in parts.values()):
        yield ["class", *parts]
        counts = [np.bincount(split.y, minlength=len(classes)) for split in parts.values()]
        for name, *numbers in zip(classes, *counts, strict=True):
            yield [name, *(f"{n:,}" for n in numbers)]
        return
    yield ["output", *(f"{name} least, mean, most".strip() for name in parts)]
    outputs = next(iter(parts.values())).y.shape[-1]
    for i, name in enumerate(classes or [str(i) for i in range(outputs)]):
        values = [split.y[..., i] for split in parts.values()]
        yield [name, *(f"{v.min():.4g}, {v.mean():.4g}, {v.max():.4g}" for v in values)]


def _figures(
    split: Any, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> Iterator[str]:
    """Yield evenly spaced examples as figures. Their values are scaled to the range of all."""
    rows = np.unique(np.linspace(0, len(split) - 1, EXAMPLES).astype(int))
    x = split.x[rows] * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    low, high = x.min(), x.max()
    x = (x - low) / (high - low if high > low else 1)
    for example, row in zip(x, rows, strict=True):
        label = classes[split.y[row]] if split.has_classes else ""
        file = io.BytesIO()
        _picture(example).save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        yield (
            '<figure style="display: inline-block; margin: 2px; text-align: center">'
            f'<img src="data:image/png;base64,{data}" alt="example {row}">'
            f"<figcaption>{html.escape(label)}</figcaption></figure>"
        )


def _picture(example: Float[np.ndarray, "*spatial channels"]) -> Image.Image:
    """Return an image of values from 0 to 1: of a signal its curves, of a volume the middle."""
    if example.ndim == 2:
        return _curves(example)
    if example.ndim == 4:
        example = example[len(example) // 2]
    pixels = np.round(255 * example).astype(np.uint8)
    colour = pixels.shape[-1] in (3, 4)
    image = Image.fromarray(pixels[..., :3] if colour else pixels[..., 0])
    scale = SIDE / max(image.size)
    size = [max(1, round(n * scale)) for n in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BOX)


def _curves(signal: Float[np.ndarray, "length channels"]) -> Image.Image:
    image = Image.new("L", (2 * SIDE, SIDE), 255)
    x = np.linspace(2, 2 * SIDE - 3, len(signal))
    for channel in signal.T:
        y = SIDE - 3 - (SIDE - 6) * channel
        ImageDraw.Draw(image).line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=0)
    return image
