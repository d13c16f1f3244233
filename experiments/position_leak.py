"""Does a convolutional network know where things are?

    python -m experiments.position_leak

Each image is black, 32×32, with two boxes of 4×4 pixels, one red, one green. In class one red is
left of green, in class two green is left of red. But class one is in the upper half of the image
and class two in the lower. A network that ignores absolute position has to learn the order of the
boxes; others may learn the half. Test images with the halves swapped ("dissimilar": all boxes are
16 pixels further down, or up) show which.

The network has four 3×3 convolutions without biases, with 32, 32, 64, 64 channels and strides 1, 2,
2, 2, then a global maximum and a dense layer. As in the published code, Adadelta trains it at rate
1 with ρ = .9, weight decay 5e-5 and batches of 200; this protocol is repeated, so nothing is tuned.
The places of the boxes follow that code, too: both tops at 3 to 10 (class one) or 19 to 26, drawn
one by one, the left edge of the left box at 0 to 9, of the right box at least 5 further, to 27.
There, similar test images are training images, and training stops when the loss of 1,000 of these
has not fallen for 9 epochs, or after 50. Here, test images are new, and all networks train for the
same number of steps.

With circular padding and full convolution no window is lost at a border. A shift by 16 pixels,
twice the total stride, then does not change the global maximum, for any image and any weights: both
accuracies are equal.

Reference:
    Kayhan and van Gemert 2020, "On translation invariance in CNNs", section 4.2 and table 1 (from
    memory, not checked); code: github.com/oskyhn/CNNs-Without-Borders, full_conv/Exp2_Red_Green.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

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
    "where the border cuts windows off, it does, and loses more than 50 points when the halves are "
    "swapped; where every window that touches the image counts, as with circular padding and in "
    "full convolution, it loses nothing."
)
SIZE, BOX, HALF = 32, 4, 16
"""Pixels: the image, a box, and how far the boxes move when the halves are swapped."""
LR, WEIGHT_DECAY = 1.0, 5e-5
"""Of Adadelta; the decay of the kernels is added to the gradient."""
PARTS = ("similar accuracy", "dissimilar accuracy")
"""Measures: on test images as in training, and on the same ones with the halves swapped."""
BORDERS: dict[str, tuple[Padding, PaddingMode]] = {
    "valid": ("VALID", "zeros"),
    "zero padding": (1, "zeros"),
    "circular": (1, "circular"),
    "full": ("FULL", "zeros"),
}
PUBLISHED = {"valid": (100.0, 0.2), "zero padding": (99.8, 8.4), "full": (89.7, 89.7)}
"""Similar and dissimilar accuracy in percent of Kayhan and van Gemert (2020), 10 seeds (from
memory, not checked)."""


def swap(text: str, border: str, above: float, below: float = math.inf) -> Claim:
    """Return a claim about what swapping the halves costs."""
    return Claim(text, (border,), (border,), above, below, measure=PARTS[0], of_b=PARTS[1])


CLAIMS = (
    swap("valid: swapping the halves costs more than 50 points", "valid", above=0.5),
    swap("zero padding: swapping the halves costs more than 50 points", "zero padding", above=0.5),
    swap(
        "circular padding: swapping the halves changes nothing", "circular", above=-0.01, below=0.01
    ),
    swap("full convolution: swapping the halves changes nothing", "full", above=-0.01, below=0.01),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    borders: tuple[str, ...] = tuple(BORDERS)
    """Kinds of padding: valid, zero padding, circular, full."""
    steps: int = 50
    """Optimizer steps of every run, 10 an epoch."""
    batch_size: int = 200
    schedule: Literal["constant", "cosine"] = "constant"
    seeds: int = 10
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
    recipe: dict[str, Any] = {
        "optimizer": "adadelta",
        "lr": LR if settings.lr is None else settings.lr,
    }
    if settings.weight_decay is None:
        recipe["weight_decay"] = WEIGHT_DECAY
    data = red_green()
    return {
        (border,): settings.config(network(border), data, **recipe) for border in settings.borders
    }


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return which test images are right, and which are with the halves swapped."""
    test = config.examples.test
    classify = jax.jit(config.model.apply)
    swapped = np.roll(np.asarray(test.x), HALF, 1)
    return {
        part: [
            np.asarray(classify(state.variables, x)).argmax(-1) == test.y for state in result.states
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
    visible = ", ".join(f"{name} {100 * sees_both_boxes(name):.1f} %" for name in names)
    lost = (results[name,][PARTS[0]] - results[name,][PARTS[1]] for name in names)
    costs = ", ".join(
        f"{name} {100 * one.mean():.1f}" for name, one in zip(names, lost, strict=True)
    )
    findings = [
        f"Swapping the halves of the images costs, in points: {costs}.",
        f"Share of images in which one unit of the last map sees both boxes: {visible}. In others "
        "no unit can tell which box is left.",
    ]
    rows = []
    for name in names:
        published = [f"{value:.1f}" for value in PUBLISHED.get(name, ())] or ["", ""]
        similar, dissimilar = (results[name,][part] for part in PARTS)
        training = results[name,]["train_accuracy"]
        rows.append([name, training, similar, published[0], dissimilar, published[1]])
    caption = f"Accuracy in percent, {settings.protocol}; published: from memory, not checked"
    heads = ["border", "training", "similar", "published", "dissimilar", "published"]
    table = Table(caption, heads, rows)
    series = [
        plots.Series(
            part.partition(" ")[0],
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


STUDY = study.Study(QUESTION, HYPOTHESIS, ("border",), points, summarize, measure, CLAIMS)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
