"""Is sharing over rotations worth more than sharing over translations alone?

    python -m experiments.symmetry
    python -m experiments.symmetry --tune   # choose the rates again
    python -m experiments.symmetry --full --poses rotated --networks conv --parts --steps 3000
        --seeds 3 --lr 0.03   # rotated MNIST

The 8×8 digits are in the middle of 12×12 pixels, upright, or each turned by an angle of its own
from 0 to 360°. Every seed draws the angles, of training and test images, the same for all networks.
These are three convolutions of 3×3 with 8, 16 and 64 channels on maps of 12, 6 and 3 positions per
side, with max-pooling by 2 between them, and a dense layer:

    conv   a kernel is shared over translations
    p4     and over rotations by 90° (`cnn.ablations.symmetrize`)
    p4m    and over reflections

Below the head of p4 and p4m is the maximum over the transformations, so their classes stay if the
image is turned by 90°, or reflected. They have as many parameters as conv, which makes them wider,
or ("equal MACs") as many multiply-accumulates, which leaves them fewer weights, as nearly as a
width can. Turned by 180°, a 6 is nearly a 9: where digits stand upright, this symmetry is wrong.
On rotated digits, conv and p4 train on parts of the training set, too, a part for each seed. The
learning rate rises over the first tenth of the steps.

The claims are about digits in poses that were made to have the symmetry. They do not say what is
gained on natural images, nor on larger ones.

With --full, 12,000 training images of MNIST are drawn, and 50,000 other images for testing. The
network is Z2CNN of the reference without dropout: seven convolutions of 20 channels. Its learning
rate, and those of p4 and p4m, were the best of 0.003, 0.01 and 0.03 on a validation part (one other
seed; all else as in the command above).

Reference:
    Cohen and Welling 2016, "Group equivariant convolutional networks", table 1: on rotated MNIST,
    Z2CNN has a test error of 5.03 % and P4CNN of 2.28 % (from memory, not checked).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.counting import check_counts
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table
from experiments.sample_efficiency import examples_needed, held_out

with epy.lazy_imports():
    import numpy as np
    from scipy import ndimage

    from cnn import ablations, layers, ops
    from cnn import data as datasets
    from experiments.harness import predictions

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split
    from cnn.ops import Group
    from cnn.train import Config, Result
    from experiments.harness.study import Outcome

QUESTION = "Is sharing over rotations worth more than sharing over translations alone?"
HYPOTHESIS = (
    "on digits in all poses it is, by more than a point, at equal parameters and at equal multiply-"
    "accumulates, and halves the examples that are needed; reflections, which do not occur, add "
    "nothing to it; on upright digits it is worth less, and 6 and 9 are confused."
)
UPRIGHT, ROTATED = "upright", "rotated"
CONV, P4, P4M = "conv", "p4", "p4m"
ALL = "all"
"""Examples: the whole training set."""
WARMUP = 0.1
"""Share of the steps over which the learning rate rises."""
EQUAL_MACS = ", equal MACs"
MARGIN = 2
"""Pixels around an 8×8 digit, which then has room to turn."""
DIGITS = {
    CONV: (8, 16, 64),
    P4: (4, 8, 33),
    P4M: (3, 6, 22),
    P4 + EQUAL_MACS: (2, 4, 17),
    P4M + EQUAL_MACS: (1, 2, 8),
}
"""Features of each convolution: of p4 and p4m those of `cnn.ablations.match`."""
MNIST = {name: (features,) * 7 for name, features in zip(DIGITS, (20, 10, 7, 5, 2), strict=True)}
PAIR = "6 and 9 accuracy"
"""Measure: the share of right ones among the test images of these classes."""
PUBLISHED: Mapping[Name, Mapping[str, str]] = {
    ("mnist, rotated", CONV): {"test_accuracy": "94.97"},
    ("mnist, rotated", P4): {"test_accuracy": "97.72"},
}
"""Of the reference, from memory, not checked."""


def rotated(network: str, size: str = ALL) -> Name:
    """Return the point of a network on rotated digits."""
    return network, ROTATED, size


def upright(network: str) -> Name:
    """Return the point of a network on upright digits."""
    return network, UPRIGHT, ALL


CLAIMS = (
    Claim("on rotated digits, rotations help", rotated(P4), rotated(CONV), above=0.01),
    Claim(
        "also at equal multiply-accumulates", rotated(P4 + EQUAL_MACS), rotated(CONV), above=0.01
    ),
    Claim("they save half of the examples", rotated(P4, "1/2"), rotated(CONV), above=0.0),
    Claim("reflections add less than a point", rotated(P4M), rotated(P4), below=0.01),
    Claim(
        "rotations are worth more than on upright digits",
        *(rotated(P4), rotated(CONV)),
        above=0.01,
        minus=(upright(P4), upright(CONV)),
    ),
    Claim(
        "on upright digits, rotations cost more than a point on 6 and 9",
        *(upright(P4), upright(CONV)),
        below=-0.01,
        measure=PAIR,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    networks: tuple[str, ...] = tuple(DIGITS)
    """Networks; those with a symmetry have the parameters of conv, or its MACs."""
    poses: tuple[str, ...] = (UPRIGHT, ROTATED)
    """Poses of the digits, in training and test."""
    parts: tuple[int, ...] = (8, 4, 2)
    """Parts of the training set on which conv and p4 train, too, on rotated digits: 2 is a half."""
    steps: int = 500
    seeds: int = 10
    """Seeds per point. Each draws angles of its own."""
    full: bool = False
    """Use MNIST: hours, and 0.4 GB of memory for each seed."""
    out: Path = Path("results/symmetry")

    small: ClassVar[str] = "digits"
    large: ClassVar[str] = "mnist"


def network(name: str, full: bool = False) -> nn.Module:
    """Return a network for digits, or for MNIST. Raise `InputError` if there is no such network."""
    features = study.choose("network", name, MNIST if full else DIGITS)
    group: Group = "p4m" if name.startswith(P4M) else "p4"
    order = 1 if name == CONV else ops.group_order(group)
    pool, norm = layers.MaxPool((2, 2)), [layers.BatchNorm()] if full else []
    blocks = []
    for i, count in enumerate(features):
        is_last = i == len(features) - 1
        window, padding = (4 if is_last else 3, 0) if full else (3, 0 if is_last else 1)
        conv = layers.Conv(count * order, window, padding=padding)
        blocks.append([conv, *norm, layers.ReLU()])
    for i in (1,) if full else (0, 1):
        blocks[i].append(pool)
    below = [part for block in blocks for part in block]
    head = (layers.GlobalAvgPool(), layers.Dense(10, scale=1.0))
    if name == CONV:
        return layers.Chain((*below, *head))
    return ablations.symmetrize(layers.Chain((*below, layers.GroupPool(group), *head)), group)


def rotate(x: np.ndarray, degrees: np.ndarray, background: float) -> np.ndarray:
    """Return each image `(h, w, 1)` turned about its centre, with bilinear interpolation."""
    options = {"reshape": False, "order": 1, "mode": "grid-constant", "cval": background}
    pairs = zip(x, degrees, strict=True)
    return np.stack([ndimage.rotate(image, angle, **options) for image, angle in pairs])


def posed(data: Dataset, pose: str, seed: int, margin: int) -> Dataset:
    """Return the images with a margin, upright, or each turned by an angle that the seed draws."""
    rng, background = np.random.default_rng(seed), np.asarray(data.train.x).min()
    is_turned = study.choose("pose", pose, {UPRIGHT: False, ROTATED: True})

    def placed(split: Split) -> Split:
        sides = ((0, 0), (margin, margin), (margin, margin), (0, 0))
        x = np.pad(np.asarray(split.x), sides, constant_values=background)
        if is_turned:
            x = rotate(x, rng.uniform(0, 360, len(x)), background)
        return datasets.Split(x, split.y)

    name = f"{data.name}, {pose}"
    return replace(data, name=name, train=placed(data.train), test=placed(data.test))


def drawn(mnist: Dataset) -> Dataset:
    """Return 12,000 training images, and as test images 40,000 other ones and the test part."""
    order = np.random.default_rng(0).permutation(len(mnist.train))
    kept, others = (mnist.train.take(rows) for rows in np.split(order[:52_000], [12_000]))
    x = np.concatenate([np.asarray(part.x) for part in (mnist.test, others)])
    y = np.concatenate([mnist.test.y, others.y])
    return replace(mnist, train=kept, test=datasets.Split(x, y))


def whole_set(settings: Settings) -> Dataset:
    """Return the upright images."""
    return drawn(settings.load()) if settings.full else settings.load()


def points(settings: Settings) -> Points:
    """Return every network on digits in every pose, each seed with angles of its own."""
    return runs(settings, dict.fromkeys(settings.seed_range, whole_set(settings)))


def points_to_tune(settings: Settings) -> Points:
    """Return the same, each seed with another tenth of the training set as test set."""
    sets = held_out(whole_set(settings), settings.seed_range)
    return runs(replace(settings, validate=False), sets)


def runs(settings: Settings, upright_sets: Mapping[int, Dataset]) -> Points:
    """Return every network on the images of each seed, in every pose. Raise `InputError`."""
    if settings.parts:
        check_counts(parts=settings.parts)
    least = min(len(data.train) for data in upright_sets.values()) // max(settings.parts, default=1)
    if least < settings.batch_size:
        raise InputError(
            f"parts must leave the {settings.batch_size} examples of a batch, got "
            f"{max(settings.parts)}, which leaves {least}"
        )
    models = {name: network(name, settings.full) for name in settings.networks}
    warmup, margin = round(WARMUP * settings.steps), 0 if settings.full else MARGIN
    found: dict[Name, Config] = {}
    for pose, (seed, data) in product(settings.poses, upright_sets.items()):
        images = posed(data, pose, seed, margin)
        sets = {ALL: images}
        if pose == ROTATED:
            for part in settings.parts:
                sets[f"1/{part}"] = datasets.subset(images, len(images.train) // part, seed)
        for (name, model), (size, one) in product(models.items(), sets.items()):
            if size == ALL or name in (CONV, P4):
                config = settings.config(model, one, warmup=warmup, seed=seed, seeds=1)
                found[name, pose, size, str(seed)] = config
    return found


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return which test images of a 6 or a 9 are right."""
    test = config.examples.test
    pair = test.take(np.flatnonzero(np.isin(test.y, (6, 9))))
    return {PAIR: list(predictions.right(config, result, pair))}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figures."""
    whole = {name[:2]: one for name, one in results.items() if name[2] == ALL}
    found, tables = findings(whole), [accuracies(settings, whole)]
    figures = {"symmetry": figure(settings, whole)}
    compared = [name for name in (CONV, P4) if name in settings.networks]
    if not (settings.parts and ROTATED in settings.poses and compared):
        return Summary(found, tables, figures)
    parts, total = sorted(settings.parts, reverse=True), len(whole_set(settings).train)
    names, sizes = [*(f"1/{k}" for k in parts), ALL], [*(total // k for k in parts), total]
    errors = {
        network: [1 - results[rotated(network, name)]["test_accuracy"] for name in names]
        for network in compared
    }
    heads, error = [f"{n:,}" for n in sizes], f"{settings.part} error on rotated digits"
    caption = f"{error.capitalize()} in percent by training examples"
    rows = [[network, *of] for network, of in errors.items()]
    panel = plots.Curves(
        [plots.Series(name, [100 * one for one in of], sizes) for name, of in errors.items()],
        ticks=heads,
        log="xy",
        x_label="training examples",
        y_label=f"{error} (%)",
    )
    if len(compared) == 2:
        found.append(examples_needed(sizes, errors[P4], errors[CONV], CONV, needing=P4))
    return Summary(
        found,
        [*tables, Table(caption, ["network", *heads], rows)],
        figures | {"sample_efficiency": plots.Figure([panel])},
    )


def accuracies(settings: Settings, whole: Mapping[tuple[str, ...], Outcome]) -> Table:
    """Return cost and accuracies with all examples, by network and pose."""
    shape = (28, 28, 1) if settings.full else (8 + 2 * MARGIN, 8 + 2 * MARGIN, 1)
    models = {name: network(name, settings.full) for name, _ in whole}
    costs = study.costs(models, shape)
    keys = {f"{settings.part}, %": "test_accuracy", "6 and 9, %": PAIR}
    keys["training, %"] = "train_accuracy"
    rows = [
        [f"{name}: {pose}", *costs[name], *(outcome[key] for key in keys.values())]
        for (name, pose), outcome in whole.items()
    ]
    heads = ["network: digits", "parameters", "MACs", *keys]
    return Table(f"Accuracy on {settings.title}, {settings.protocol}", heads, rows)


def findings(results: Results) -> list[str]:
    """Return by how much a symmetry changes the accuracies, in each pose."""
    found = []
    for pose in dict.fromkeys(pose for _, pose in results):
        for key, what in (("test_accuracy", "accuracy"), (PAIR, "accuracy on 6 and 9")):
            means = {name: of[key].mean() for (name, at), of in results.items() if at == pose}
            conv = means.pop(CONV, None)
            if means and conv is not None:
                changes = [f"{name} {100 * (mean - conv):+.1f}" for name, mean in means.items()]
                found.append(
                    f"On {pose} digits, points of {what} beyond conv: {'; '.join(changes)}."
                )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy by network and pose, on all digits and on 6 and 9."""
    panels = [
        plots.Dots(
            [
                plots.Series(pose, [100 * results[name, pose][key] for name in settings.networks])
                for pose in settings.poses
            ],
            settings.networks,
            title=title,
            horizontal=True,
            x_label=f"{settings.part} accuracy (%)",
        )
        for key, title in (("test_accuracy", "all digits"), (PAIR, "6 and 9"))
    ]
    return plots.Figure(panels, share_y=True, legend="below")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "digits", "size", "draw"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:3],
        grid={"lr": (0.005, 0.01, 0.02)},
        points=points_to_tune,
    ),
    pooled=True,
    published=PUBLISHED,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
