"""Does a blur before subsampling keep predictions the same when an image is shifted?

    python -m experiments.anti_aliasing
    python -m experiments.anti_aliasing --tune   # choose the rates again
    python -m experiments.anti_aliasing --full --steps 3000 --seeds 3 --lr 0.02   # CIFAR-10

Convolutions of 3×3, each with batch normalization, a ReLU and a pooling that keeps every second
position, then global average pooling and a dense layer. Only the pooling differs:

    stride   one position of four
    max      the maximum of 2×2 positions
    avg      their mean
    blur     the maximum of 2×2 positions around every position, a binomial filter of 3×3, and then
             one position of four (`cnn.ops.blur_pool`)

A shift of the image by the total stride shifts the last map by one position, and the average over
it stays, but for the border. A shift by less changes which positions are kept, and that changes
little where neighbours are alike, as after a blur. The 8×8 digits are in the middle of 16×16
pixels, and the networks have two convolutions, with 8 and 16 channels. They train on digits as they
are, or on digits that are shifted circularly at random, by up to an eighth of the side. The
learning rate of each is tuned.

    consistency   how often two different shifts of a test image, circular and by up to an eighth of
                  the side, are classified alike (`cnn.probes.shift_consistency`)

With --full, the images are CIFAR-10, and there are three convolutions, with 8, 16 and 32 channels.
The learning rate of each point was the best of 0.005, 0.01 and 0.02 on a validation part, with one
other seed and 1,500 steps: 0.02, but 0.01 for stride/shifted (`--only stride/shifted --lr 0.01`).

Reference:
    Zhang 2019, "Making convolutional networks shift-invariant again": with a blur, networks are
    more consistent, and more accurate on ImageNet (from the abstract).
    Azulay and Weiss 2019, "Why do deep convolutional networks generalize so poorly to small image
    transformations?": with subsampling, small shifts change what networks predict; training with
    shifts helps only on images like those of the training set (from memory, not checked).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments import translation
from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import jax

    from cnn import ablations, layers, probes

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.ablations import Pooling
    from cnn.train import Config, Result

QUESTION = "Does a blur before subsampling keep predictions the same under shifts?"
HYPOTHESIS = (
    "it does, more than max-pooling and more than the mean, which blurs less, and accuracy does "
    "not suffer; where the network has trained with shifts, it is worth less."
)
KINDS: tuple[Pooling, ...] = ("stride", "max", "avg", "blur")
AS_THEY_ARE, SHIFTED = "as they are", "shifted"
CONSISTENCY = "consistency"
PROBED = 1000
"""Maximal number of test images that are shifted."""
CLAIMS = (
    *(
        Claim(
            f"blur is more consistent than {kind}",
            ("blur", AS_THEY_ARE),
            (kind, AS_THEY_ARE),
            above=0.01,
            measure=CONSISTENCY,
        )
        for kind in ("stride", "max", "avg")
    ),
    Claim(
        "a blur costs at most a point of accuracy",
        ("blur", AS_THEY_ARE),
        ("max", AS_THEY_ARE),
        above=-0.01,
    ),
    Claim(
        "training with shifts makes max more consistent",
        ("max", SHIFTED),
        ("max", AS_THEY_ARE),
        above=0.01,
        measure=CONSISTENCY,
    ),
    Claim(
        "trained with shifts, a blur is worth less",
        ("blur", AS_THEY_ARE),
        ("max", AS_THEY_ARE),
        above=0.0,
        minus=(("blur", SHIFTED), ("max", SHIFTED)),
        measure=CONSISTENCY,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    kinds: tuple[str, ...] = KINDS
    """Kinds of pooling."""
    trained: tuple[str, ...] = (AS_THEY_ARE, SHIFTED)
    """How the training images are placed."""
    steps: int = 500
    seeds: int = 10
    full: bool = False
    """Use CIFAR-10."""
    out: Path = Path("results/anti_aliasing")

    small: ClassVar[str] = "digits"
    large: ClassVar[str] = "cifar10"


def network(kind: str, channels: tuple[int, ...]) -> nn.Module:
    """Return the network with one of `KINDS`. Raise `InputError` if there is no such kind."""
    body = [
        part
        for c in channels
        for part in (
            layers.Conv(c, (3, 3), padding=1, use_bias=False),
            layers.BatchNorm(),
            layers.ReLU(),
            layers.MaxPool((2, 2)),
        )
    ]
    model = layers.Chain((*body, layers.GlobalAvgPool(), layers.Dense(10, scale=1.0)))
    return ablations.repool(model, study.choose("pooling", kind, {k: k for k in KINDS}))


def points(settings: Settings) -> Points:
    """Return every kind of pooling, trained on images as they are and on shifted ones."""
    images = settings.load()
    data = images if settings.full else translation.on_canvas(images)
    channels = (8, 16, 32) if settings.full else (8, 16)
    augment = {AS_THEY_ARE: (), SHIFTED: ("shift",)}
    return {
        (kind, placed): settings.config(
            network(kind, channels), data, augment=study.choose("trained", placed, augment)
        )
        for kind, placed in product(settings.kinds, settings.trained)
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the consistency of every seed."""
    x = jax.numpy.asarray(config.examples.test.first(PROBED).x)
    apply = jax.jit(config.model.apply)
    of = partial(probes.shift_consistency, x=x, max_shift=x.shape[1] // 8)
    return {CONSISTENCY: [float(of(partial(apply, s.variables))) for s in result.states]}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    keys = ("test_accuracy", CONSISTENCY, "train_accuracy")
    rows = [
        ["/".join(name), o.parameters, *(o[key] for key in keys)] for name, o in results.items()
    ]
    heads = ["pooling/trained on images", "parameters", f"{settings.part}, %", "consistency, %"]
    table = Table(settings.caption(), [*heads, "training, %"], rows)
    findings = [
        "Predictions that change between two shifts, trained on images "
        + "; ".join(
            f"{placed}: "
            + ", ".join(
                f"{100 * (1 - results[kind, placed][CONSISTENCY].mean()):.1f} % ({kind})"
                for kind in settings.kinds
            )
            for placed in settings.trained
        )
        + "."
    ]
    return Summary(findings, [table], {"anti_aliasing": figure(settings, results)})


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return consistency and accuracy by pooling and training."""
    panels = [
        plots.Dots(
            [
                plots.Series(
                    f"trained on images {placed}",
                    [100 * results[kind, placed][key] for kind in settings.kinds],
                )
                for placed in settings.trained
            ],
            settings.kinds,
            horizontal=True,
            x_label=label,
        )
        for key, label in (
            (CONSISTENCY, "two shifts are classified alike (%)"),
            ("test_accuracy", f"{settings.part} accuracy (%)"),
        )
    ]
    return plots.Figure(panels, share_y=True, legend="below")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("pooling", "trained"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
