"""Do a convolution's biases keep it from fitting labels that are noise?

    python -m experiments.random_labels
    python -m experiments.random_labels --tune   # choose the rates again
    python -m experiments.random_labels --full --networks conv local dense --steps 3000
        --seeds 3 --lr 0.001   # CIFAR-10

The 4,000 training signals of MNIST-1D have their labels, or these labels are dealt out anew by the
seed, so that there is nothing to learn and all has to be remembered. Four networks train on both:

    conv     the network of the ladder, three convolutions
    local    the same without sharing
    dense    the same without sharing and locality
    wide     conv with 164 channels in place of 25, and so with as many parameters as dense

What is compared for random labels is the training accuracy, by which their learning rate is chosen,
too. For true labels it is chosen on the validation part. Nothing decays and nothing is dropped.

With --full, 5,000 training images of CIFAR-10 take the place of the signals. conv has two
convolutions of 3×3 and stride 2 with 4 channels. wide has 580, which makes 198 million multiply-
accumulates for an image: too many for a CPU. Learning rates are the best of 0.001, 0.002 and 0.005,
with one other seed and 2,000 steps, for true labels on a validation part: 0.001, but 0.002 for conv
with true labels (`--only conv/true/0 conv/true/1 conv/true/2 --lr 0.002`), and 0.005 for conv and
local with random ones.

Reference:
    Zhang, Bengio, Hardt, Recht and Vinyals 2017, "Understanding deep learning requires rethinking
    generalization", table 1: on CIFAR-10 with random labels, a small Inception reaches a training
    accuracy of 100 % without regularization, and a perceptron with 512 hidden units 99.34 % (from
    memory, not checked). All of these have many more parameters than there are examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, rungs, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset

QUESTION = "Do a convolution's biases keep it from fitting labels that are noise?"
HYPOTHESIS = (
    "they do, because they take parameters: conv fits fewer random labels than local and dense by "
    "more than ten points, though it fits true ones as well; but with as many parameters as dense "
    "it fits as many."
)
CONV, LOCAL, DENSE, WIDE = "conv", "local", "dense", "wide"
CHANNELS = {CONV: 25, WIDE: 164}
"""On signals; the wide one has 6 c² + 58 c + 10 parameters, against 171,110 of dense."""
CHANNELS_FULL = {CONV: 4, WIDE: 580}
"""On images of 32×32×3: 9 c² + 669 c + 10 parameters, against 3,411,722 of dense."""
IMAGES = 5000
"""Training images with `full`."""
TRUE, RANDOM = "true", "random"
FITTED = "train_accuracy"
CLAIMS = (
    Claim(
        "of random labels, dense fits more than 10 points more than conv",
        *((DENSE, RANDOM), (CONV, RANDOM)),
        above=0.1,
        measure=FITTED,
    ),
    Claim(
        "so does local",
        *((LOCAL, RANDOM), (CONV, RANDOM)),
        above=0.1,
        measure=FITTED,
    ),
    Claim(
        "conv with as many parameters as dense fits as many, to 5 points",
        *((WIDE, RANDOM), (DENSE, RANDOM)),
        above=-0.05,
        measure=FITTED,
    ),
    Claim(
        "dense gains less than 5 points over conv where labels are true",
        *((DENSE, TRUE), (CONV, TRUE)),
        below=0.05,
        measure=FITTED,
    ),
    Claim(
        "with as many parameters, conv is better than dense on new signals",
        *((WIDE, TRUE), (DENSE, TRUE)),
        above=0.1,
    ),
)

PUBLISHED: Mapping[Name, Mapping[str, str]] = {
    ("cifar10, random labels", DENSE): {FITTED: "99.34"},
}
"""Of a perceptron with 512 hidden units and all 50,000 images (from memory, not checked)."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    networks: tuple[str, ...] = (CONV, LOCAL, DENSE, WIDE)
    """Networks that are trained."""
    steps: int = 1500
    seeds: int = 10
    """Seeds per point. Each deals out the labels in another way."""
    full: bool = False
    """Use CIFAR-10."""
    out: Path = Path("results/random_labels")

    large: ClassVar[str] = "cifar10"

    def load(self) -> Dataset:
        """Return the data set, with `full` a part of it."""
        data = super().load()
        return datasets.subset(data, IMAGES, 0) if self.full else data


def network(name: str, data: Dataset) -> nn.Module:
    """Return a network. Raise `InputError` if there is none of this name."""
    channels = CHANNELS if len(data.input_shape) == 2 else CHANNELS_FULL
    conv, wide = (rungs.base(data, channels[of]) for of in (CONV, WIDE))
    known = {**rungs.ends(conv), WIDE: wide}
    return study.choose("network", name, known)


def with_random_labels(data: Dataset, seed: int) -> Dataset:
    """Return the data with the training labels dealt out anew: as many of each class as before."""
    y = np.random.default_rng(seed).permutation(data.train.y)
    return replace(data, name=f"{data.name}, random labels", train=replace(data.train, y=y))


def points(settings: Settings) -> Points:
    """Return every network on true and on random labels, each with one seed."""
    data = settings.load()
    sets = {
        (labels, seed): with_random_labels(data, seed) if labels == RANDOM else data
        for labels in (TRUE, RANDOM)
        for seed in settings.seed_range
    }
    models = {name: network(name, data) for name in settings.networks}
    return {
        (name, labels, str(seed)): settings.config(model, one, seed=seed, seeds=1)
        for name, model in models.items()
        for (labels, seed), one in sets.items()
    }


def points_to_tune(settings: Settings) -> Points:
    """Return the same; with random labels, the examples to validate are those of training."""
    found = dict(points(settings))
    for name, config in found.items():
        if name[1] == RANDOM:
            data = replace(config.data, test=config.data.train)
            found[name] = replace(config, data=data, validate=False)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    rows = [
        [
            name,
            results[name, TRUE].parameters,
            results[name, RANDOM][FITTED],
            results[name, TRUE][FITTED],
            results[name, TRUE]["test_accuracy"],
        ]
        for name in settings.networks
    ]
    heads = [
        "network",
        "parameters",
        "random: training, %",
        "true: training, %",
        f"true: {settings.part}, %",
    ]
    table = Table(f"Accuracy on {settings.title} by labels, {settings.protocol}", heads, rows)
    fitted = (
        f"{name} {100 * results[name, RANDOM][FITTED].mean():.1f}" for name in settings.networks
    )
    finding = f"Percent of the random labels that are fitted: {', '.join(fitted)}."
    return Summary([finding], [table], {"random_labels": figure(settings, results)})


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return the training accuracy by network, with true and with random labels."""
    series = [
        plots.Series(
            f"{labels} labels", [100 * results[n, labels][FITTED] for n in settings.networks]
        )
        for labels in (TRUE, RANDOM)
    ]
    chance = plots.Reference(y=10, label="chance")
    panel = plots.Dots(
        series,
        settings.networks,
        y_label="training accuracy (%)",
        y_limits=(0, 103),
        references=[chance],
    )
    return plots.Figure([panel])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "labels", "draw"),
    points,
    summarize,
    claims=CLAIMS,
    pooled=True,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.005, 0.01, 0.02)},
        points=points_to_tune,
    ),
    published=PUBLISHED,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
