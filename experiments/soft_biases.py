"""Is a bias better as a price than as a constraint?

    python -m experiments.soft_biases
    python -m experiments.soft_biases --tune   # choose the rates again

Every convolution of the network of the ladder, on MNIST-1D, gets a second pathway, which is dense:

    y = conv(x) + λ dense(x)

The dense weights start at 0, so the network starts as the convolution. To have the effect of a
weight of the convolution, a dense one must be 1/λ times as large, which takes Adam 1/λ times as
many steps, and both decay alike. With an L2 penalty, that is a price 1/λ² times as high, or a prior
of variance λ² for all that is not local and shared. λ = 0 is the constraint ("conv"); a network
with the dense layers alone ("dense") has none.

The bias is right if the 40 samples are in order, half right if the last 20 are permuted, and wrong
if all are. Each seed draws its own order. "Dense share" is the part of the variance over signals
that the dense pathways carry: theirs, as part of the sum of theirs and that of the convolutions, in
the mean over the three layers. Learning rate and weight decay of every network are tuned for each
order. To dense all orders are alike, so it has one recipe. The claims are about λ = 0.03, which a
trial on the validation part, with two other seeds, preferred to 0.1.

Reference:
    Finzi, Benton and Wilson 2021, "Residual pathway priors for soft equivariance constraints":
    "as effective as fully constrained models even when symmetries are exact" (abstract). Their code
    adds a linear layer to a convolution, and both have an L2 penalty of their own
    (github.com/mfinzi/residual-pathway-priors, rpp/rpp_conv.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers, models
    from cnn import data as datasets
    from experiments.harness import modules

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config, Result

QUESTION = "Is a bias better as a price than as a constraint?"
HYPOTHESIS = (
    "with one price for all data it costs less than a point where the bias is right, and less than "
    "a point against the dense network where it is wrong; half right, it is better than both; the "
    "more the bias is wrong, the more goes through the dense pathway."
)
CONV, DENSE, SOFT = "conv", "dense", "0.03"
"""Networks: the ends, and the λ of the claims."""
RIGHT, HALF, WRONG = ORDERS = ("right", "half right", "wrong")
SHARE = "dense share"
TESTED = 1000
"""Test signals on which the share is measured."""
CLAIMS = (
    Claim(f"right: λ = {SOFT} costs less than a point", (SOFT, RIGHT), (CONV, RIGHT), above=-0.01),
    Claim(
        f"wrong: λ = {SOFT} loses less than a point to dense",
        *((SOFT, WRONG), (DENSE, WRONG)),
        above=-0.01,
    ),
    Claim(f"half right: λ = {SOFT} is better than conv", (SOFT, HALF), (CONV, HALF), above=0.01),
    Claim(f"half right: λ = {SOFT} is better than dense", (SOFT, HALF), (DENSE, HALF), above=0.01),
    Claim(
        "more goes through the dense pathway where the bias is half right than where it is right",
        *((SOFT, HALF), (SOFT, RIGHT)),
        above=0.0,
        measure=SHARE,
    ),
    Claim(
        "and more where it is wrong than where it is half right",
        *((SOFT, WRONG), (SOFT, HALF)),
        above=0.0,
        measure=SHARE,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    strengths: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """λ of the dense pathway."""
    orders: tuple[str, ...] = ORDERS
    """How right the bias is."""
    steps: int = 500
    seeds: int = 10
    """Seeds per point. Each has an order of its own where the bias is not right."""
    out: Path = Path("results/soft_biases")

    large: ClassVar[str] = ""


def soft(strength: float) -> layers.Chain:
    """Return the network with a dense pathway beside every convolution."""

    def both(conv: nn.Module) -> nn.Module:
        if not isinstance(conv, layers.Conv):
            return conv
        dense = ablations.densify(conv.clone(use_bias=False, scale=0.0))
        return layers.Residual(layers.Chain((dense, modules.Times(strength))), conv)

    return layers.Chain(tuple(map(both, models.cnn1d().layers)))


def networks(settings: Settings) -> dict[str, nn.Module]:
    """Return the networks by name, from the hard constraint to none. Raise `InputError`."""
    if not settings.strengths or min(settings.strengths) <= 0:
        raise InputError(f"strengths must be above 0, got {settings.strengths}")
    conv = models.cnn1d()
    priced = {f"{strength:g}": soft(strength) for strength in sorted(settings.strengths)}
    return {CONV: conv, **priced, DENSE: ablations.densify(conv)}


def reorder(data: Dataset, order: str, seed: int) -> Dataset:
    """Return the data with no position, those of the second half or all in a new order."""
    size = data.input_shape[0]
    kept = study.choose("order", order, {RIGHT: size, HALF: size // 2, WRONG: 0})
    moved = kept + np.random.default_rng(seed).permutation(size - kept)
    return datasets.permute(data, np.concatenate([np.arange(kept), moved]))


def points(settings: Settings) -> Points:
    """Return every network for every order, with an order for each seed. Raise `InputError`."""
    known, data = networks(settings), settings.load()
    found: dict[Name, Config] = {}
    for order, seed in product(settings.orders, settings.seed_range):
        moved = reorder(data, order, seed)
        for name, model in known.items():
            found[name, order, str(seed)] = settings.config(model, moved, seed=seed, seeds=1)
    return found


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the dense share of a network with pathways, by seed."""
    if not isinstance(config.model.layers[0], layers.Residual):
        return {}
    x = np.asarray(config.examples.test.x)[:TESTED]
    return {SHARE: [dense_share(config.model, state.variables, x) for state in result.states]}


def dense_share(model: nn.Module, variables: Mapping[str, Any], x: np.ndarray) -> float:
    """Return the part of the variance that the dense pathways carry, in the mean over layers."""
    _, found = model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])

    def variance(outputs: Mapping[str, Any]) -> float:
        return float(outputs["__call__"][0].var(0).sum())

    pairs = [
        (variance(each["body"]), variance(each["shortcut"]))
        for each in found["intermediates"].values()
        if "body" in each
    ]
    return float(np.mean([dense / (dense + conv) for dense, conv in pairs]))


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    names = list(networks(settings))
    rows = []
    for name in names:
        row = [results[name, order] for order in settings.orders]
        shares = [study.number(one[SHARE], 2) if SHARE in one.values else "" for one in row]
        rows.append([name, row[0].parameters, *(one["test_accuracy"] for one in row), *shares])
    heads = ["λ", "parameters", *(f"{order}, %" for order in settings.orders)]
    heads += [f"{SHARE}, {order}" for order in settings.orders]
    table = Table(settings.caption("how right the bias is"), heads, rows)
    drawn = {"soft_biases": figure(settings, results)}
    return Summary(findings(settings, results), [table], drawn)


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what each strength gains on the better of the two ends, by order."""
    found = []
    names = [f"{strength:g}" for strength in sorted(settings.strengths)]
    for order in settings.orders:
        best = max((CONV, DENSE), key=lambda end: results[end, order]["test_accuracy"].mean())
        texts = []
        for name in names:
            one = study.estimate(results, [((name, order), 1), ((best, order), -1)])
            texts.append(f"{name}: {100 * one.mean:+.1f} ± {100 * one.half():.1f}")
        found.append(
            f"The bias {order}, points against {best} by λ (± half of the 95 % interval, each by "
            f"itself): {', '.join(texts)}."
        )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy and dense share by strength, a line for each order."""
    ends = list(networks(settings))
    accuracy = [
        plots.Series(
            f"bias {order}", [100 * results[name, order]["test_accuracy"] for name in ends]
        )
        for order in settings.orders
    ]
    shares = [
        plots.Series(f"bias {order}", [results[name, order][SHARE] for name in ends[1:-1]])
        for order in settings.orders
    ]
    ticks = ["0\nconv", *ends[1:-1], "dense"]
    left = plots.Curves(accuracy, ticks=ticks, x_label="λ", y_label=f"{settings.part} accuracy (%)")
    right = plots.Curves(shares, ticks=ends[1:-1], x_label="λ", y_label=SHARE, y_limits=(0, None))
    return plots.Figure([left, right], legend="below")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("strength", "bias", "draw"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    pooled=True,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:1] if name[0] == DENSE else name[:2],
        grid={"lr": (0.01, 0.02), "weight_decay": (0.01, 0.1)},
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
