"""What does pooling make a network indifferent to, and what does it learn to be?

    python -m experiments.pooling

One small network on the 8×8 digits in the middle of 16×16 pixels: two convolutions of 3×3 with 8
and 16 channels, each with a ReLU and a pooling by 2, and a dense head. Only the pooling differs:
the maximum of 2×2 positions, their mean, one position of four (subsampled), or none. Two more have
four times the channels and take the maximum over every four of them (maxout), before subsampling
("across") or with spatial max-pooling ("across, max"). Each trains on digits as they are, on digits
moved by up to one pixel, or on digits turned by up to 45°, and is tested on such digits.

Spatial pooling is designed for small shifts. Pooling across maps is designed for none in
particular: it can learn what to be invariant to, because each of the pooled maps may respond to
another rotation. Two probes test this: the relative change of the last map, below and above its
pooling, under a shift by one pixel and under a rotation by 15° (`cnn.probes.invariance_error`).

Reference:
    Goodfellow, Bengio and Courville 2016, section 9.3 and figure 9.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments import translation
from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table, number

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn import ablations, layers, probes
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.ablations import Pooling
    from cnn.data import Dataset, Split
    from cnn.train import Config, Result

QUESTION = "What does pooling make a network indifferent to?"
HYPOTHESIS = (
    "spatial pooling lowers the error under a shift, however it is trained; pooling across maps "
    "lowers the error under rotation, but only if it trained with rotations."
)
KINDS: dict[str, tuple[Pooling, int]] = {
    "none": ("none", 1),
    "subsampled": ("stride", 1),
    "max": ("max", 1),
    "mean": ("avg", 1),
    "across": ("stride", 4),
    "across, max": ("max", 4),
}
"""Spatial pooling, and how many neighbouring maps are pooled into one."""
POSES: dict[str, Sequence[tuple[int, int, int]]] = {
    "as they are": [(0, 0, 0)],
    "moved": [(down, right, 0) for down, right in product((-1, 0, 1), repeat=2)],
    "turned": [(0, 0, degrees) for degrees in range(-45, 46, 15)],
}
"""Pixels down, pixels to the right, and degrees; the one in the middle changes nothing."""
MOST = 10_000
"""Maximal number of training images, before each is put into every pose."""
PROBED = 1000
"""Maximal number of test images of the probes."""
MAPS = {"below": "layers_4", "above": "layers_5"}
"""The last map before and after its pooling."""
PROBES = {"shift": "shift of 1 pixel", "turn": "rotation by 15°"}


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of pooling."""
    poses: tuple[str, ...] = tuple(POSES)
    """Poses of the digits in training and test."""
    steps: int = 700
    lr: float = 5e-3
    seeds: int = 3
    full: bool = False
    """Use 10,000 images of MNIST: 23 minutes for a seed on two cores, 6 GB of memory."""
    out: Path = Path("results/pooling")

    small: ClassVar[str] = "digits"
    large: ClassVar[str] = "mnist"


def network(kind: str) -> nn.Module:
    """Return the network with one of `KINDS`. Raise `InputError` if there is no such kind."""
    spatial, maps = study.choose("pooling", kind, KINDS)
    pool = layers.Chain((layers.Maxout(maps), layers.MaxPool((2, 2))))
    body = [
        part
        for channels in (8, 16)
        for part in (layers.Conv(maps * channels, (3, 3), padding=1), layers.ReLU(), pool)
    ]
    model = layers.Chain((*body, layers.Flatten(), layers.Dense(10, scale=1.0)))
    return ablations.repool(model, spatial)


def posed(data: Dataset, pose: str) -> Dataset:
    """Return every image in all variants of one of `POSES`. Raise `InputError` if unknown."""
    variants = study.choose("pose", pose, POSES)
    background = np.asarray(data.train.x).min()

    def every(split: Split) -> Split:
        x = jax.numpy.asarray(split.x - background)  # a rotation fills in zeros
        images = [
            np.asarray(probes.rotate(probes.shift(x, (down, right)), degrees)) + background
            for down, right, degrees in variants
        ]
        return datasets.Split(np.concatenate(images), np.tile(split.y, len(images)))

    name = f"{data.name}, {pose}"
    return replace(data, name=name, train=every(data.train), test=every(data.test))


def upright(data: Dataset) -> Split:
    """Return at most `PROBED` test images of a posed set in their original pose.

    A smoke run shortens the set, so there the images are others.
    """
    variants = len(POSES[data.name.rpartition(", ")[2]])
    count = len(data.test) // variants
    return data.test.take(np.arange(count) + variants // 2 * count).first(PROBED)


def points(settings: Settings) -> Points:
    """Return every kind of pooling on digits in every pose."""
    data = settings.load()
    if settings.validate:  # hold out whole images: one must not be in both parts in two poses
        data = data.held_out()
    few = datasets.subset(data, min(MOST, len(data.train)), seed=0)
    digits = translation.on_canvas(few)
    sets = {pose: posed(digits, pose) for pose in settings.poses}
    return {
        (kind, pose): settings.config(network(kind), data, validate=False)
        for pose, data in sets.items()
        for kind in settings.kinds
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the relative change of the last map by probe, before and after its pooling."""
    x = jax.numpy.asarray(upright(config.data).x)
    background = np.asarray(config.data.train.x).min()
    transforms: dict[str, Callable[[jax.Array], jax.Array]] = {
        "shift": lambda x: probes.shift(x, 1),
        "turn": lambda x: probes.rotate(x - background, 15) + background,
    }
    found: dict[str, list[float]] = {}
    for state in result.states:
        maps = probes.layer_functions(config.model, state.variables, config.data.input_shape)
        for (name, transform), (place, layer) in product(transforms.items(), MAPS.items()):
            error = probes.invariance_error(jax.jit(maps[layer]), x, transform)
            found.setdefault(f"{name} {place}", []).append(float(error))
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    findings = []
    others = [kind for kind in settings.kinds if kind != "subsampled"]
    for probe in PROBES if "subsampled" in settings.kinds else ():
        above = {name: 100 * outcome[f"{probe} above"].mean() for name, outcome in results.items()}
        gaps = {
            kind: [above[kind, pose] - above["subsampled", pose] for pose in settings.poses]
            for kind in others
        }
        ranges = ", ".join(f"{kind} {min(g):+.1f} to {max(g):+.1f}" for kind, g in gaps.items())
        findings.append(
            f"Compared with subsampling, the pooled map changes under a {PROBES[probe]} by, in "
            f"points more (+) or less (-): {ranges} (lowest to highest over the poses)."
        )
    pairs = [((kind, pose), ("subsampled", pose)) for pose in settings.poses for kind in others]
    columns = [f"{probe} {place}" for probe in PROBES for place in MAPS]
    rows = [
        [", ".join(name), o["test_accuracy"], *(number(o[column]) for column in columns)]
        for name, o in results.items()
    ]
    what = "accuracy in percent and relative change of the last map"
    caption = f"{settings.title}, {what}, {settings.protocol}"
    tables = [Table(caption, ["pooling, digits", f"{settings.part}, %", *columns], rows)]
    for value in ("test_accuracy", "shift above", "turn above"):
        tables.append(study.differences(results, pairs, value))
    return Summary(findings, tables, {"pooling": figure(settings, results)})


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy and the change of the pooled map by kind of pooling and pose."""

    def panel(value: str, unit: float, label: str) -> plots.Dots:
        series = [
            plots.Series(
                f"digits {pose}", [unit * results[kind, pose][value] for kind in settings.kinds]
            )
            for pose in settings.poses
        ]
        return plots.Dots(series, settings.kinds, horizontal=True, x_label=label)

    panels = [
        panel("test_accuracy", 100, f"{settings.part} accuracy (%)"),
        *(panel(f"{probe} above", 1, f"change by a {PROBES[probe]}") for probe in PROBES),
    ]
    return plots.Figure(panels, height=2.9, share_y=True, legend="below")


STUDY = study.Study(QUESTION, HYPOTHESIS, ("pooling", "digits"), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
