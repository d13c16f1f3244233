"""What does pooling make a network indifferent to, and what does it learn to be?

    python -m experiments.pooling

One small network on the 8×8 digits in the middle of 16×16 pixels: two convolutions of 3×3 with 8
and 16 channels, each with a ReLU and a pooling by 2, and a dense head. Only the pooling differs:
one position of four (subsampled), the maximum of 2×2 positions, or their mean. One more network
("across") has four times the channels and takes the maximum over every four of them (maxout) before
it is subsampled. Each trains on digits as they are, on digits moved by up to one pixel, or on
digits turned by up to 45°. The learning rate of each is tuned.

Spatial pooling is designed for small shifts. Pooling across maps is designed for none in
particular: it can learn what to be invariant to, because each of the pooled maps may respond to
another rotation. Two measures are what the last pooling removes of a change, two are accuracies:

    shift removed, turn removed     1 − (change of the map above the pooling) / (change below it),
                                    under a shift by one pixel and a rotation by 15°. A change is
                                    relative to the size of the map (`cnn.probes.invariance_error`)
    moved accuracy, turned accuracy     on test digits that are each moved by one pixel, or turned
                                        by 15 to 45°, in a direction drawn once

Networks are compared by what pooling removes, as their maps below it differ, and so do their
parameters ("across" has more).

Reference:
    Goodfellow, Bengio and Courville 2016, section 9.3 and figure 9.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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
    "spatial pooling removes a part of the change under a shift, however the network is trained, "
    "and moved digits are recognized better for it; pooling across maps removes a part of the "
    "change under rotation, but only if the network is trained with rotations."
)
KINDS: dict[str, tuple[Pooling, int]] = {
    "subsampled": ("stride", 1),
    "max": ("max", 1),
    "mean": ("avg", 1),
    "across": ("stride", 4),
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
MAPS = ("layers_4", "layers_5")
"""The last map before and after its pooling."""
REMOVED = {"shift": "shift by 1 pixel", "turn": "rotation by 15°"}
MEASURES = (*(f"{probe} removed" for probe in REMOVED), "moved accuracy", "turned accuracy")
CLAIMS = (
    *(
        study.Claim(
            f"{kind} removes more of a shift, trained on digits {pose}",
            (kind, pose),
            ("subsampled", pose),
            above=0.05,
            measure="shift removed",
        )
        for kind, pose in (("max", "as they are"), ("max", "moved"), ("mean", "as they are"))
    ),
    study.Claim(
        "max recognizes moved digits better",
        ("max", "as they are"),
        ("subsampled", "as they are"),
        above=0.01,
        measure="moved accuracy",
    ),
    study.Claim(
        "across removes more of a rotation, trained on digits turned",
        ("across", "turned"),
        ("subsampled", "turned"),
        above=0.05,
        measure="turn removed",
    ),
    study.Claim(
        "across removes as much of it, trained on digits as they are",
        ("across", "as they are"),
        ("subsampled", "as they are"),
        above=-0.05,
        below=0.05,
        measure="turn removed",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of pooling."""
    poses: tuple[str, ...] = tuple(POSES)
    """Poses of the digits in training and test."""
    steps: int = 500
    seeds: int = 10
    full: bool = False
    """Use 10,000 images of MNIST: many minutes for a seed, 6 GB of memory."""
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


def variants(x: np.ndarray, pose: str, background: np.ndarray) -> np.ndarray:
    """Return images in all variants of one of `POSES`, `(variants, *x.shape)`."""
    ways = study.choose("pose", pose, POSES)
    rest = jax.numpy.asarray(x - background)  # a rotation fills in zeros
    images = [probes.rotate(probes.shift(rest, (down, right)), by) for down, right, by in ways]
    return np.stack(images) + background


def posed(data: Dataset, pose: str) -> Dataset:
    """Return every image in all variants of one of `POSES`. Raise `InputError` if unknown."""
    background = np.asarray(data.train.x).min()

    def every(split: Split) -> Split:
        x = variants(np.asarray(split.x), pose, background)
        return datasets.Split(np.concatenate(x), np.tile(split.y, len(x)))

    name = f"{data.name}, {pose}"
    return replace(data, name=name, train=every(data.train), test=every(data.test))


def upright(data: Dataset) -> Split:
    """Return at most `PROBED` test images of a posed set in their original pose.

    A smoke run shortens the set, so there the images are others.
    """
    ways = len(POSES[data.name.rpartition(", ")[2]])
    count = len(data.test) // ways
    return data.test.take(np.arange(count) + ways // 2 * count).first(PROBED)


def one_each(x: np.ndarray, pose: str, background: np.ndarray) -> np.ndarray:
    """Return each image in one variant of `pose`, drawn from those that change it."""
    every = variants(x, pose, background)
    changed = [i for i, way in enumerate(POSES[pose]) if any(way)]
    drawn = np.random.default_rng(0).choice(changed, len(x))
    return every[drawn, np.arange(len(x))]


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


def measure(config: Config, result: Result) -> dict[str, list[Any]]:
    """Return what the last pooling removes of changes, and which changed digits are right."""
    upright_test = upright(config.data)
    x = np.asarray(upright_test.x)
    background = np.asarray(config.data.train.x).min()
    transforms: dict[str, Callable[[jax.Array], jax.Array]] = {
        "shift": lambda x: probes.shift(x, 1),
        "turn": lambda x: probes.rotate(x - background, 15) + background,
    }
    changed = {pose: one_each(x, pose, background) for pose in ("moved", "turned")}
    apply = jax.jit(config.model.apply)
    found: dict[str, list[Any]] = {name: [] for name in MEASURES}
    for state in result.states:
        maps = probes.layer_functions(config.model, state.variables, config.data.input_shape)
        below, above = (jax.jit(maps[layer]) for layer in MAPS)
        for name, transform in transforms.items():
            errors = [
                float(probes.invariance_error(f, jax.numpy.asarray(x), transform))
                for f in (below, above)
            ]
            found[f"{name} removed"].append(1 - errors[1] / errors[0])
        for pose, images in changed.items():
            right = np.asarray(apply(state.variables, images)).argmax(-1) == upright_test.y
            found[f"{pose} accuracy"].append(right)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    findings = []
    for probe, what in REMOVED.items():
        shares, removed = [], f"{probe} removed"
        for kind in settings.kinds:
            of = [100 * np.nanmean(results[kind, pose][removed]) for pose in settings.poses]
            shares.append(f"{kind} {min(of):.0f} to {max(of):.0f} %")
        findings.append(
            f"Of the change under a {what}, the last pooling removes: {', '.join(shares)} (lowest "
            "and highest mean over the digits that it was trained on)."
        )
    without = {
        "/".join(name): int(np.isnan(outcome[removed]).sum()) for name, outcome in results.items()
    }
    if lost := [f"{n} of {name}" for name, n in without.items() if n]:
        findings.append(
            f"Seeds whose map is all zeros, so that they have no share: {', '.join(lost)}."
        )
    rows = [
        [
            ", ".join(name),
            f"{outcome.parameters:,}",
            outcome["test_accuracy"],
            *(outcome[f"{pose} accuracy"] for pose in ("moved", "turned")),
            *(number(outcome[f"{probe} removed"]) for probe in REMOVED),
        ]
        for name, outcome in results.items()
    ]
    heads = ["pooling, digits", "parameters", f"{settings.part}, %", "moved, %", "turned, %"]
    caption = f"{settings.title}: accuracy, share of the change removed, {settings.protocol}"
    table = Table(caption, [*heads, *(f"{probe} removed" for probe in REMOVED)], rows)
    return Summary(findings, [table], {"pooling": figure(settings, results)})


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return what the last pooling removes, and accuracy on moved digits, by kind and training."""

    def panel(value: str, label: str) -> plots.Dots:
        series = [
            plots.Series(
                f"trained on digits {pose}",
                [100 * results[kind, pose][value] for kind in settings.kinds],
            )
            for pose in settings.poses
        ]
        return plots.Dots(series, settings.kinds, horizontal=True, x_label=label)

    panels = [
        *(panel(f"{probe} removed", f"removed of a {what} (%)") for probe, what in REMOVED.items()),
        panel("moved accuracy", "accuracy on moved digits (%)"),
    ]
    return plots.Figure(panels, height=2.9, share_y=True, legend="below")


def held_out(settings: Settings) -> Points:
    """Return the points with held-out images as test data, to tune on."""
    return points(replace(settings, validate=True))


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("pooling", "digits"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02)}, points=held_out),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
