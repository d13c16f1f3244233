"""Is weight sharing needed all through training, or only at its beginning?

    python -m experiments.relax
    python -m experiments.relax --tune   # choose the rates again
    python -m experiments.relax --full --steps 3000 --seeds 3 --lr 0.005 --weight-decay 0.01
        --shares 0.0 0.03 0.3   # CIFAR-10

A convolutional network trains for some of the steps. Then its weights are written into a locally
connected or a fully connected network that computes the same function (`cnn.ablations.lift`), and
that network trains to the end. When it is freed after no step, only the initial weights are shared.
Two controls are the convolution that is never freed, and the larger networks trained from scratch
without the constraint.

Every point has its own learning rate and weight decay, chosen on the validation part. The share of
the steps after which the network is freed is chosen there, too.

With --full, the images are CIFAR-10, and the network has three convolutions of 3×3 and stride 2,
with 4, 8 and 16 channels, and a dense layer. The weight decay is the same for all points. The
learning rate was the best of 0.001, 0.002 and 0.005 on a validation part, with one other seed and
1,000 steps, for conv, and for local and dense from scratch and freed after 3 % of the steps: 0.005,
but 0.001 for dense (`--only "dense/from scratch" dense/0.0 dense/0.03 dense/0.3 --lr 0.001`). Those
freed at another time have the rate of those freed after 3 %.

Reference:
    d'Ascoli et al. (2019), "Finding the needle in the haystack with convolutions", relax to fully
    connected layers on CIFAR-10. The relaxed network ends above the convolution it came from, and
    highest for a time between the extremes (from memory, not checked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, layers, models

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn

    from cnn.train import Config

QUESTION = "Is a bias needed all through training, or only at its beginning?"
HYPOTHESIS = (
    "a network that is freed in time ends far above the one that was never constrained, and no "
    "lower, even higher, than the one that is never freed."
)
KINDS = ("local", "dense")
SCRATCH, BEST, CONV = "from scratch", "best", ("conv", "never")
CLAIMS = tuple(
    claim
    for kind in KINDS
    for claim in (
        Claim(f"freed to {kind}, at most a point is lost", (kind, BEST), CONV, above=-0.01),
        Claim(f"freed to {kind}, it ends above conv", (kind, BEST), CONV, above=0.0),
        Claim(
            f"freed to {kind}, it ends above {kind} from scratch",
            (kind, BEST),
            (kind, SCRATCH),
            above=0.01,
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    shares: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3, 0.7)
    """Shares of the steps after which the network is freed."""
    steps: int = 1500
    seeds: int = 10
    full: bool = False
    """Use CIFAR-10."""
    out: Path = Path("results/relax")

    large: ClassVar[str] = "cifar10"

    def step(self, share: str) -> int:
        """Return the step after which a network is freed, from the share in its name."""
        return round(float(share) * self.steps)


def network(full: bool) -> nn.Module:
    """Return the convolutional network for MNIST-1D, or the one for CIFAR-10."""
    if not full:
        return models.cnn1d()
    body = [
        part
        for channels in (4, 8, 16)
        for part in (layers.Conv(channels, (3, 3), strides=2, padding=1), layers.ReLU())
    ]
    return layers.Chain((*body, layers.Flatten(), layers.Dense(10, scale=1.0)))


def points(settings: Settings) -> Points:
    """Return the convolution as it is, freed after each share, and both kinds from scratch."""
    data, conv = settings.load(), network(settings.full)
    found: dict[Name, Config] = {CONV: settings.config(conv, data)}
    for kind, model in zip(KINDS, (ablations.unshare(conv), ablations.densify(conv)), strict=True):
        for share in map(str, settings.shares):
            step = settings.step(share)
            found[kind, share] = settings.config(conv, data, relax_to=model, relax_at=step)
        found[kind, SCRATCH] = settings.config(model, data)
    return found


def best_of(settings: Settings, names: Sequence[Name]) -> Mapping[Name, Sequence[Name]]:
    """Return for each kind the points that are freed after some share of the steps."""
    return {(kind, BEST): [(kind, str(share)) for share in settings.shares] for kind in KINDS}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    shares = [str(share) for share in settings.shares]
    accuracy = {name: outcome["test_accuracy"] for name, outcome in results.items()}
    percent = {name: f"{study.percent(values)} %" for name, values in accuracy.items()}
    findings = [
        f"Freed to {kind} at the best time, the network has {percent[kind, BEST]}; {kind} from "
        f"scratch has {percent[kind, SCRATCH]}, and the convolution that is never freed "
        f"{percent[CONV]}."
        for kind in KINDS
    ]
    rows = [
        [SCRATCH, *(accuracy[kind, SCRATCH] for kind in KINDS)],
        *([f"{settings.step(s):,}", *(accuracy[kind, s] for kind in KINDS)] for s in shares),
        ["never", accuracy[CONV], accuracy[CONV]],
    ]
    table = Table(settings.caption(), ["freed after step", *KINDS], rows)
    return Summary(findings, [table], {"relax": figure(settings, results, shares)})


def figure(settings: Settings, results: Results, shares: Sequence[str]) -> plots.Figure:
    """Return accuracy against the step at which the network is freed, beside that of conv."""

    def accuracy(name: Name) -> np.ndarray:
        return 100 * results[name]["test_accuracy"]

    conv = accuracy(CONV)
    spread = conv.std(ddof=1) if len(conv) > 1 else 0.0
    panel = plots.Curves(
        [
            plots.Series(f"{kind}, freed", [accuracy((kind, share)) for share in shares])
            for kind in KINDS
        ],
        ticks=[f"{settings.step(share):,}" for share in shares],
        x_label=f"step at which the network is freed, of {settings.steps:,}",
        y_label=f"{settings.part} accuracy (%)",
        references=[
            plots.Reference(y=conv.mean(), label="conv, never freed", color=plots.BLUE, line="-"),
            plots.Reference(y=(conv.mean() - spread, conv.mean() + spread), color=plots.BLUE),
        ],
    )
    scratch = ", ".join(f"{kind} {accuracy((kind, SCRATCH)).mean():.1f} %" for kind in KINDS)
    return plots.Figure([panel], note=f"from scratch: {scratch}")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("freed to", "after"),
    points,
    summarize,
    claims=CLAIMS,
    best_of=best_of,
    tuning=study.Tuning(__file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
