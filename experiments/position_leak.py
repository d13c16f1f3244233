"""Does a convolutional network know where things are?

    python -m experiments.position_leak

Each image is black, 32×32, with two boxes of 4×4 pixels, one red, one green. In class one red is
left of green, in class two green is left of red. But class one is in the upper half of the image
and class two in the lower. A network that ignores absolute position has to learn the order of the
boxes; others may learn the half. Test images with the halves swapped ("dissimilar": all boxes are
16 pixels further down, or up) show which.

The network has four 3×3 convolutions without biases, with 32, 32, 64, 64 channels and strides 1, 2,
2, 2, then a global maximum and a dense layer. Adadelta trains it at rate 1 with ρ = .9, weight
decay 5e-5 and batches of 200. The places of the boxes follow the published code: both tops at 3 to
10 (class one) or 19 to 26, drawn one by one, the left edge of the left box at 0 to 9, of the right
box at least 5 further, to 27. There, similar test images are training images, and training stops
when the loss of 1,000 of these has not fallen for 8 epochs, or after 50. Here, test images are new,
and all networks train for the same number of steps.

With circular padding and full convolution no window is lost at a border. A shift by 16 pixels,
twice the total stride, then does not change the global maximum, for any image and any weights: both
accuracies are equal.

Reference:
    Kayhan and van Gemert (2020), section 4.2. See `PUBLISHED`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn import data as datasets
    from cnn import geometry, models, ops

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split
    from cnn.ops import Padding, PaddingMode
    from cnn.train import Config, Result

QUESTION = "Does a convolutional network know where things are?"
HYPOTHESIS = (
    "where the border cuts windows off, it does, and fails when the halves are swapped; where "
    "every window that touches the image counts, as in full convolution, it cannot."
)
SIZE, BOX, HALF = 32, 4, 16
"""Pixels: the image, a box, and how far the boxes move when the halves are swapped."""
PARTS = ("similar", "dissimilar")
BORDERS: dict[str, tuple[Padding, PaddingMode]] = {
    "valid": ("VALID", "zeros"),
    "zero padding": (1, "zeros"),
    "circular": (1, "circular"),
    "full": ("FULL", "zeros"),
}
PUBLISHED = {"valid": (100.0, 0.2), "zero padding": (99.8, 8.4), "full": (89.7, 89.7)}
"""Similar and dissimilar accuracy in percent of Kayhan and van Gemert (2020), 10 seeds."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    borders: tuple[str, ...] = tuple(BORDERS)
    """Kinds of padding: valid, zero padding, circular, full."""
    steps: int = 100
    """Optimizer steps of every run, 10 an epoch."""
    batch_size: int = 200
    lr: float = 1.0
    """Learning rate of Adadelta."""
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 5e-5
    """Decay of the kernels, added to the gradient."""
    seeds: int = 3
    """Seeds per border, all on the same images."""
    out: Path = Path("results/position_leak")

    large: ClassVar[str] = ""


def boxes(count: int, seed: int) -> Split:
    """Return `count` images, (count, 32, 32, 3) from 0 to 1, of class 0 and 1 in turn."""
    rng = np.random.default_rng(seed)
    x = np.zeros((count, SIZE, SIZE, 3), np.float32)
    y = np.arange(count, dtype=np.int32) % 2
    for image, label in zip(x, y, strict=True):
        left = rng.integers(10)
        right = rng.integers(left + BOX + 1, SIZE - BOX)
        for edge, channel in ((left, label), (right, 1 - label)):
            top = 3 + HALF * label + rng.integers(8)
            image[top : top + BOX, edge : edge + BOX, channel] = 1
    return datasets.Split(x, y)


def red_green() -> Dataset:
    """Return 2,000 training images and 1,000 similar test images."""
    classes = ("red left", "green left")
    train_split, test_split = boxes(2000, 0), boxes(1000, 1)
    return datasets.Dataset("red_green", train_split, test_split, classes, (0.0,) * 3, (1.0,) * 3)


def network(border: str) -> nn.Module:
    """Return the network with one of `BORDERS`. Raise `InputError` if there is no such one."""
    padding, mode = study.choose("border", border, BORDERS)
    return models.full_conv(padding=padding, padding_mode=mode)


def points(settings: Settings) -> Points:
    """Return the network with each border. Raise `InputError` for an unknown one."""
    config = functools.partial(settings.config, data=red_green(), optimizer="adadelta")
    return {(border,): config(network(border)) for border in settings.borders}


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return accuracy on test images, and on the same images with the halves swapped."""
    test = (config.data.held_out() if config.validate else config.data).test
    classify = jax.jit(config.model.apply)
    swapped = np.roll(np.asarray(test.x), HALF, 1)
    return {
        part: [
            float(np.mean(classify(state.variables, x).argmax(-1) == test.y))
            for state in result.states
        ]
        for part, x in zip(PARTS, (test.x, swapped), strict=True)
    }


def sees_both_boxes(border: str) -> float:
    """Return the share of test images in which one unit of the last map sees pixels of both boxes.

    In other images no unit can tell which box is left. If nothing else gave the class away, a
    network would be right in half of them.
    """
    x = jax.numpy.asarray(red_green().test.x)
    last = geometry.describe(network(border), x.shape[1:]).field
    around, mode = tuple((p, p) for p in last.padding), BORDERS[border][1]
    seen = ops.max_pool(ops.pad(x, around, mode), last.size, strides=last.stride) > 0
    return float((seen[..., 0] & seen[..., 1]).any((1, 2)).mean())


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    names = [name for (name,) in results]
    swapping = ", ".join(
        f"{name} {study.difference(results[name,][PARTS[1]], results[name,][PARTS[0]], brief=True)}"
        for name in names
    )
    visible = ", ".join(f"{name} {100 * sees_both_boxes(name):.1f} %" for name in names)
    findings = [
        f"Swapping the halves changes accuracy by, in points with 95 % intervals: {swapping}. "
        "(It would change nothing for a network that ignores absolute position.)",
        f"Share of images in which one unit of the last map sees both boxes: {visible}.",
    ]
    rows = []
    for name in names:
        published = [f"{value:.1f}" for value in PUBLISHED.get(name, ())] or ["", ""]
        similar, dissimilar = (results[name,][part] for part in PARTS)
        rows.append([name, similar, published[0], dissimilar, published[1]])
    caption = f"Accuracy in percent, {settings.protocol}"
    table = Table(caption, ["border", PARTS[0], "published", PARTS[1], "published"], rows)
    series = [
        plots.Series(
            part,
            [100 * results[name,][part] for name in names],
            color=color,
            reference=[PUBLISHED[n][i] if n in PUBLISHED else None for n in names],
        )
        for i, (part, color) in enumerate(zip(PARTS, (plots.BLUE, plots.AMBER), strict=True))
    ]
    panel = plots.Dots(
        series,
        names,
        y_label="accuracy (%); dotted: chance",
        y_limits=(-3, 103),
        references=[plots.Reference(y=50)],
    )
    return Summary(findings, [table], {"position_leak": plots.Figure([panel], legend="above")})


STUDY = study.Study(QUESTION, HYPOTHESIS, ("border",), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
