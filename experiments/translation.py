"""What makes a network indifferent to where things are?

    python -m experiments.translation
    python -m experiments.translation --tune   # choose the rates again
    python -m experiments.translation --full --copies 1 --steps 3000 --seeds 3 --lr 0.005   # MNIST
    python -m experiments.translation --full --images cifar10 --networks conv local
        --moved conv local --copies 1 --steps 4000 --seeds 3 --lr 0.005   # CIFAR-10

The 8×8 digits are in the middle of a canvas of 16×16, so a shift by up to 4 pixels cuts nothing
off. (MNIST-1D would not do: its examples are generated with random shifts.) All networks are
variants of one: two convolutions of 3×3, each with max-pooling by 2, and a head. The head of `conv`
is dense; `local` is the same network with a kernel for every position; `global` has global average
pooling instead, and `global circular` also circular padding, so that a shift by the total stride,
4 pixels, changes nothing. They train on centred digits, some also on digits in random places.

Then each test digit is shifted, in one of eight directions that is drawn once for each digit.

With --full, MNIST or CIFAR-10 takes the place of the digits, with the same margin. Each image is
then in one random place. The learning rate of each point was the best of 0.0025, 0.005 and 0.01,
and of 0.00125 where 0.0025 was better than 0.005, on a validation part, with one other seed and
1,000 steps on MNIST, 1,300 on CIFAR-10. It was 0.005, but 0.0025 for conv on CIFAR-10 (`--only
conv/centred conv/moved --lr 0.0025`).

Reference:
    Ott et al. 2020, "Learning in the machine: To share or not to share?", networks with shared and
    with unshared weights. Its accuracies are from memory, not checked. Its networks are larger than
    these, and its shifts may be others.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn import ablations, layers

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config, Result

QUESTION = "What makes a network indifferent to where things are?"
HYPOTHESIS = (
    "not weight sharing alone: with a dense head, a shift by 4 pixels is as bad for a convolution "
    "as for a locally connected network; global pooling does, but for what padding and strides "
    "leave; training with shifts does, and sharing then helps."
)
REACH = 4
"""Largest shift in pixels: the margin around the digits, and the total stride of the networks."""
PROBED = 1000
"""Maximal number of test images that are shifted."""
CENTRED, MOVED = "centred", "moved"
FITTED = 0.95
"""Training accuracy below which a network is named as not fitted."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    networks: tuple[str, ...] = ("conv", "local", "global", "global circular")
    """Networks that train on centred digits."""
    moved: tuple[str, ...] = ("conv", "local", "global")
    """Networks that also train on digits in random places."""
    copies: int = 8
    """Random places of every training digit."""
    steps: int = 1500
    seeds: int = 10
    full: bool = False
    """Use a larger data set; add --copies 1."""
    images: Literal["mnist", "cifar10"] = "mnist"
    """The data set of --full."""
    out: Path = Path("results/translation")

    small: ClassVar[str] = "digits"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images != "mnist" and not self.full:
            raise InputError(f"images is the data set of --full, got {self.images!r}: add --full")

    @property
    def data_name(self) -> str:
        """Name of the data set of these settings."""
        return self.images if self.full else self.small


def shifted(by: int) -> str:
    """Return the name of the accuracy at a shift."""
    return f"shift {by} accuracy"


CLAIMS = (
    Claim(
        "sharing is worth less than 5 points at a shift by 4 pixels",
        *(("conv", CENTRED), ("local", CENTRED)),
        above=-0.05,
        below=0.05,
        measure=shifted(4),
    ),
    Claim(
        "global pooling is worth more than 50 points at a shift by 4 pixels",
        *(("global circular", CENTRED), ("conv", CENTRED)),
        above=0.5,
        measure=shifted(4),
    ),
    Claim(
        "zero padding costs global pooling more than a point there",
        *(("global circular", CENTRED), ("global", CENTRED)),
        above=0.01,
        measure=shifted(4),
    ),
    Claim(
        "at half the total stride, global pooling loses more than 10 points",
        *(("global circular", CENTRED), ("global circular", CENTRED)),
        above=0.1,
        measure=shifted(4),
        of_b=shifted(2),
    ),
    Claim(
        "training with shifts is worth more than 50 points at a shift by 4 pixels",
        *(("conv", MOVED), ("conv", CENTRED)),
        above=0.5,
        measure=shifted(4),
    ),
    Claim(
        "trained with shifts, sharing is worth more than a point",
        *(("conv", MOVED), ("local", MOVED)),
        above=0.01,
        measure=shifted(4),
    ),
)


PUBLISHED: Mapping[Name, Mapping[str, str]] = {
    (images, network, places): {"test_accuracy": plain, shifted(REACH): moved}
    for images, network, places, plain, moved in (
        ("mnist", "conv", CENTRED, "99.05", "36.7"),
        ("mnist", "local", CENTRED, "98.81", "37.2"),
        ("mnist", "conv", MOVED, "", "99.1"),
        ("mnist", "local", MOVED, "", "98.5"),
        ("cifar10", "conv", CENTRED, "67.1", "44.5"),
        ("cifar10", "local", CENTRED, "64.7", "43.3"),
        ("cifar10", "conv", MOVED, "77.4", "73.9"),
        ("cifar10", "local", MOVED, "72.0", "68.4"),
    )
}


def network(name: str) -> nn.Module:
    """Return a network. Raise `InputError` if there is no such network."""
    pool = layers.MaxPool((2, 2))
    body = [
        part
        for channels in (8, 16)
        for part in (layers.Conv(channels, (3, 3), padding=1), layers.ReLU(), pool)
    ]
    conv, pooled = (
        layers.Chain((*body, head, layers.Dense(10, scale=1.0)))
        for head in (layers.Flatten(), layers.GlobalAvgPool())
    )
    known = {
        "conv": conv,
        "local": ablations.unshare(conv),
        "global": pooled,
        "global circular": ablations.repad(pooled, mode="circular"),
    }
    return study.choose("network", name, known)


def on_canvas(data: Dataset, copies: int = 0) -> Dataset:
    """Return the images with `REACH` pixels of background around them.

    With `copies`, each training image appears that many times, each time shifted at random by up
    to `REACH` pixels.
    """

    def widen(x: np.ndarray) -> np.ndarray:
        border = ((0, 0), (REACH, REACH), (REACH, REACH), (0, 0))
        return np.pad(x, border, constant_values=np.asarray(data.train.x).min())

    train, test = (replace(s, x=widen(np.asarray(s.x))) for s in (data.train, data.test))
    if copies:
        train = train.take(np.repeat(np.arange(len(train)), copies))
        shifts = np.random.default_rng(0).integers(-REACH, REACH + 1, (len(train), 2))
        moved = [np.roll(x, by, (0, 1)) for x, by in zip(np.asarray(train.x), shifts, strict=True)]
        train = replace(train, x=np.stack(moved))
    return replace(data, train=train, test=test)


def points(settings: Settings) -> Points:
    """Return the networks, trained on centred digits and on digits in random places."""
    digits = settings.load()
    if settings.validate:  # hold out whole digits: none may be in both parts, in two places
        digits = digits.held_out()
    sets = {
        CENTRED: (on_canvas(digits), settings.networks),
        MOVED: (on_canvas(digits, settings.copies), settings.moved),
    }
    return {
        (name, places): settings.config(network(name), data, validate=False)
        for places, (data, names) in sets.items()
        for name in names
    }


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return which test images are right at each shift, in a direction drawn for each image."""
    test = config.examples.test.first(PROBED)
    around = np.array([way for way in itertools.product((-1, 0, 1), repeat=2) if any(way)])
    ways = np.random.default_rng(0).choice(around, len(test))
    apply = jax.jit(config.model.apply)
    found: dict[str, list[np.ndarray]] = {}
    for by in range(REACH + 1):
        pairs = zip(np.asarray(test.x), by * ways, strict=True)
        x = np.stack([np.roll(image, way, (0, 1)) for image, way in pairs])
        found[shifted(by)] = [
            np.asarray(apply(state.variables, x)).argmax(-1) == test.y for state in result.states
        ]
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    columns = [shifted(by) for by in range(REACH + 1)]
    rows = [
        ["/".join(n), *(o[c] for c in ("train_accuracy", *columns))] for n, o in results.items()
    ]
    heads = ["network/trained on", "training", *(f"shift {by}" for by in range(REACH + 1))]
    table = Table(settings.caption("shift in pixels"), heads, rows)
    return Summary(findings(results), [table], {"translation": figure(settings, results)})


def findings(results: Results) -> list[str]:
    """Return the accuracy at the largest shift, and which networks do not fit their digits."""
    far = [
        f"{100 * outcome[shifted(REACH)].mean():.1f} % ({'/'.join(name)})"
        for name, outcome in results.items()
    ]
    fits = {"/".join(name): outcome["train_accuracy"].mean() for name, outcome in results.items()}
    few = [f"{name} ({100 * fit:.1f} %)" for name, fit in fits.items() if fit < FITTED]
    limit = f"{100 * FITTED:.0f} % of their training digits right"
    return [
        f"At a shift by {REACH} pixels, accuracy is {', '.join(far)}.",
        f"These networks do not get {limit}, and might do better with more steps: {', '.join(few)}."
        if few
        else f"All networks get {limit}.",
    ]


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy against shift, for both kinds of training."""

    def panel(places: str, title: str) -> plots.Curves:
        series = [
            plots.Series(
                name.replace(" circular", ", circular padding"),
                [100 * outcome[shifted(by)] for by in range(REACH + 1)],
                line="--" if "circular" in name else "-",
            )
            for (name, of), outcome in results.items()
            if of == places
        ]
        return plots.Curves(
            series,
            title=title,
            ticks=[str(by) for by in range(REACH + 1)] if series else (),
            x_label="shift (pixels)",
            y_label=f"{settings.part} accuracy (%)",
            y_limits=(0, 100),
        )

    panels = [panel(CENTRED, "trained on centred digits"), panel(MOVED, "trained with shifts")]
    return plots.Figure(panels, share_y=True)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "trained"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02)}),
    published=PUBLISHED,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
