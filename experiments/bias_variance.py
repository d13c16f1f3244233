"""Do locality and sharing lower the variance of a network, and what do they cost in bias?

    python -m experiments.bias_variance
    python -m experiments.bias_variance --tune   # choose the learning rates again

A convolution is a dense layer with a prior: weights outside the window are zero, and those inside
are equal at all positions. Where the prior is right, it should lower the variance of what is
learned, and cost little bias. Where it is wrong, the network under-fits: it errs on its own
training examples, and more examples do not help. Five networks are trained on MNIST-1D:

    conv      the network of the ladder, three convolutions with windows 5, 3, 3 and stride 2
    local     the same without sharing
    dense     the same without sharing and locality
    window 1  conv with windows of 1, too small: with the strides, it sees 5 of the 40 samples
    global    conv with the mean over all positions before the dense layer: too large a pooling

The remedies are a larger receptive field and a smaller pooling. They lead from window 1 and from
global to conv.

Every network is trained in pairs. Both of a pair have the same test signals, but training signals
and initial weights of their own; two pairs share nothing. All signals are parts of the 50,000 on
which other studies test; learning rates are chosen on those of the package. Let p_k be the class
probabilities that network k predicts for a signal, y its class (one-hot), and p̄ the mean over K
networks. With means over 150 test signals, and sums over classes inside |·|²,

    variance       V  = Σ_k |p_k − p̄|² / (K − 1)
    squared bias   B² = |p̄ − y|² − V / K
    Brier score    B² + V = Σ_k |p_k − y|² / K     (exactly).

V and B² are unbiased estimates for every K > 1, so every pair (K = 2) gives one of each, and
intervals over pairs cover the choice of training signals, test signals and initial weights. B²
contains the noise of the labels. A network that is too sure has more variance, whatever classes it
predicts. So the last table is about the predicted class alone, as if it had all the probability;
B² + V is then twice the test error. There is no weight decay, which would trade variance for bias.

Reference:
    Neal et al. 2018, "A modern take on the bias-variance tradeoff in neural networks"; Yang et al.
    2020, "Rethinking bias-variance trade-off for generalization of neural networks": the
    decomposition of the squared error, with networks on disjoint parts of the training set (from
    memory, not checked).
    Goodfellow, Bengio and Courville 2016, section 9.4 (from memory, not checked): convolution and
    pooling are infinitely strong priors, which can cause underfitting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, predictions, rungs, study
from experiments.harness.counting import check_counts
from experiments.harness.study import Claim, Name, Outcome, Points, Results, Summary, Table
from experiments.sample_efficiency import held_out, subsets

with epy.lazy_imports():
    import numpy as np
    from scipy import special

    from cnn import ablations
    from cnn.data import split

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split
    from cnn.train import Config, Result

QUESTION = "Do locality and sharing lower the variance of a network, and what do they cost in bias?"
HYPOTHESIS = (
    "they lower the variance, which is most of what dense errs more than conv, and cost no bias "
    "where they are right; a window of 1 and a global pooling under-fit, and more examples do not "
    "take the bias away."
)
CONV, LOCAL, DENSE, WINDOW, GLOBAL = "conv", "local", "dense", "window 1", "global"
NETWORKS = (CONV, LOCAL, DENSE, WINDOW, GLOBAL)
TESTED, PROBED = 1000, 150
"""Test signals of a pair, and those of which the probabilities are kept."""
PROBABILITIES, LABELS = "probabilities", "labels"
STEPS = 255
"""Probabilities are kept as whole numbers from 0 to `STEPS`."""
BIAS, VARIANCE, BRIER = PARTS = ("squared bias", "variance", "Brier score")
CERTAIN = " of classes"
"""End of the names of the same measures if the predicted class has all the probability."""
FITTED = "train_loss"


def few(network: str) -> Name:
    """Return the name of a point with 500 training examples."""
    return network, "500"


def many(network: str) -> Name:
    """Return the name of a point with 2,000 training examples."""
    return network, "2000"


CLAIMS = (
    Claim(
        "dense has a higher Brier score than conv, by 0.1",
        many(DENSE),
        many(CONV),
        0.1,
        measure=BRIER,
    ),
    Claim(
        "most of what dense errs more is variance",
        *(many(DENSE), many(DENSE)),
        above=0.0,
        minus=(many(CONV), many(CONV)),
        measure=VARIANCE,
        of_b=BIAS,
    ),
    Claim("locality lowers the variance", many(DENSE), many(LOCAL), 0.02, measure=VARIANCE),
    Claim("sharing lowers the variance", many(LOCAL), many(CONV), 0.02, measure=VARIANCE),
    Claim("locality and sharing cost no bias", many(CONV), many(DENSE), below=0.01, measure=BIAS),
    Claim("a window of 1 has more bias", many(WINDOW), many(CONV), 0.2, measure=BIAS),
    Claim(
        "window 1: four times the examples do not lower the bias",
        *(few(WINDOW), many(WINDOW)),
        below=0.05,
        measure=BIAS,
    ),
    Claim(
        "conv: four times the examples lower the bias",
        few(CONV),
        many(CONV),
        above=0.1,
        measure=BIAS,
    ),
    Claim("a global pooling has more bias", many(GLOBAL), many(CONV), 0.02, measure=BIAS),
    Claim(
        "zeros outside the window cost little training loss",
        *(many(LOCAL), many(DENSE)),
        below=0.05,
        measure=FITTED,
    ),
    Claim("a window of 1 costs much training loss", many(WINDOW), many(CONV), 0.5, measure=FITTED),
    Claim("a global pooling costs training loss", many(GLOBAL), many(CONV), 0.05, measure=FITTED),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (500, 2000)
    """Numbers of training examples of a network."""
    steps: int = 600
    seeds: int = 20
    """Networks per point, two for each pair."""
    out: Path = Path("results/bias_variance")

    large: ClassVar[str] = ""


def draws(settings: Settings) -> dict[int, Dataset]:
    """Return a training set for each seed, as large as the largest size, with the pair's test set.

    They are disjoint parts of the 50,000 signals on which other studies test, with the classes in
    equal parts. A pair has the seeds 2 i and 2 i + 1.

    Raises:
        InputError: If there are not so many signals.
    """
    data, most = settings.load(), max(settings.sizes)
    signals, block = data.test, TESTED + 2 * most
    pairs = settings.seed_range[-1] // 2 + 1
    if block * pairs > len(signals):
        raise InputError(
            f"sizes and seeds must fit into {len(signals):,} signals, got {block * pairs:,} for "
            f"{pairs} pairs with {most:,} examples each: ask for fewer seeds or examples"
        )
    order = np.argsort(split.rank_in_class(signals.y), kind="stable")  # the classes in turn

    def part(start: int, count: int) -> Split:
        return signals.take(np.sort(order[start : start + count]))

    sets = {}
    for seed in settings.seed_range:
        start, second = block * (seed // 2), seed % 2
        train = part(start + TESTED + most * second, most)
        sets[seed] = replace(data, train=train, test=part(start, TESTED))
    return sets


def networks(data: Dataset) -> dict[str, nn.Module]:
    """Return the networks by name."""
    conv = rungs.base(data)
    small, pooled = ablations.rewindow(conv, (1,)), rungs.mean_head(data)
    return {**rungs.ends(conv), WINDOW: small, GLOBAL: pooled}


def points(settings: Settings) -> Points:
    """Return every network with every number of examples, each with one seed.

    Raises:
        InputError: If the seeds are not in pairs, or a part is to be held out.
    """
    check_counts(sizes=settings.sizes)
    if not settings.only and (settings.seed % 2 or settings.seeds % 2):
        raise InputError(
            f"seed and seeds must be even, got {settings.seed} and {settings.seeds}: networks are "
            "trained in pairs"
        )
    if settings.validate:
        raise InputError("validate: a pair has no training signals in common; leave --validate out")
    return runs(settings, draws(settings))


def points_to_tune(settings: Settings) -> Points:
    """Return the same on the package's training set: each seed holds out a tenth to validate on."""
    check_counts(sizes=settings.sizes)
    return runs(settings, held_out(settings.load(), settings.seed_range))


def runs(settings: Settings, sets: Mapping[int, Dataset]) -> Points:
    """Return every network on subsets of the training set of each seed."""
    models = networks(next(iter(sets.values())))
    found = subsets(settings.sizes, sets)
    return {
        (name, n, seed): settings.config(model, one, seed=int(seed), seeds=1, validate=False)
        for name, model in models.items()
        for (n, seed), one in found.items()
    }


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return the class probabilities for some test signals, times `STEPS`, and their classes."""
    test = predictions.sample(config.examples.test, PROBED)
    p = special.softmax(predictions.logits(config, result, test).astype(float), axis=-1)
    labels = [test.y.astype(np.uint8)] * len(p)
    return {PROBABILITIES: list(np.rint(STEPS * p).astype(np.uint8)), LABELS: labels}


def decompose(p: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Return squared bias, variance, and their sum, the Brier score: means over examples.

    Args:
        p: Probabilities `(networks, examples, classes)`.
        y: Classes `(examples,)`.
    """
    errors = p - np.eye(p.shape[-1])[y]
    mean = errors.mean(0)
    variance = np.square(errors - mean).sum(-1).mean(-1).sum() / (len(p) - 1)
    bias = np.square(mean).sum(-1).mean() - variance / len(p)
    return float(bias), float(variance), float(bias + variance)


def pair(results: Results) -> Results:
    """Return results by pair: the parts of its Brier score, and means of what else was measured."""
    return {name: Outcome(one.parameters, _of_pairs(one)) for name, one in results.items()}


def _of_pairs(one: Outcome) -> dict[str, np.ndarray]:
    values = {name: of.reshape(-1, 2).mean(1) for name, of in one.values.items() if of.ndim == 1}
    labels = one[LABELS][::2].astype(int)  # both of a pair have the same
    p = one[PROBABILITIES] / STEPS
    certain = np.eye(p.shape[-1])[p.argmax(-1)]
    for kind, of in (("", p), (CERTAIN, certain)):
        pairs = of.reshape(-1, 2, *of.shape[1:])
        parts = [decompose(both, y) for both, y in zip(pairs, labels, strict=True)]
        values |= {part + kind: of for part, of in zip(PARTS, np.array(parts).T, strict=True)}
    return values


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    sizes = sorted(settings.sizes)
    protocol = f"mean ± standard deviation over {settings.seeds // 2} pairs, {settings.steps} steps"
    rows = []
    certain = []
    for name, n in product(NETWORKS, sizes):
        one = results[name, str(n)]
        parts = [study.number(one[part]) for part in (FITTED, *PARTS)]
        errors = [1 - one[f"{part}_accuracy"] for part in ("train", "test")]
        rows.append([name, n, one.parameters, errors[0], *parts, errors[1]])
        certain.append([name, n, *(study.number(one[part + CERTAIN]) for part in PARTS)])
    heads = ["network", "examples", "parameters", "training error, %", "training loss", *PARTS]
    tables = [
        Table(f"Errors on {settings.title}, {protocol}", [*heads, "test error, %"], rows),
        Table(
            f"The same if the predicted class has all the probability, {protocol}",
            ["network", "examples", *PARTS[:2], "sum"],
            certain,
        ),
    ]
    found = [finding(results, n) for n in sizes]
    return Summary(found, tables, {"bias_variance": figure(sizes, results)})


def finding(results: Results, n: int) -> str:
    """Return what squared bias and variance are more than those of conv."""
    texts = []
    for name in NETWORKS[1:]:
        terms = [((name, str(n)), 1), ((CONV, str(n)), -1)]
        found = (study.estimate(results, terms, part) for part in (BIAS, VARIANCE))
        texts.append(name + " " + " and ".join(f"{x.mean:+.3f} ± {x.half():.3f}" for x in found))
    return (
        f"With {n:,} examples, squared bias and variance exceed those of conv by (± half of the "
        f"95 % interval, each by itself): {', '.join(texts)}."
    )


def figure(sizes: list[int], results: Results) -> plots.Figure:
    """Return squared bias, variance and training loss by network and number of examples."""

    def panel(part: str) -> plots.Dots:
        values = {n: [results[name, str(n)][part] for name in NETWORKS] for n in sizes}
        series = [plots.Series(f"{n:,} examples", of) for n, of in values.items()]
        label = part.replace("train_", "training ")
        return plots.Dots(series, NETWORKS, horizontal=True, x_label=label)

    panels = [panel(part) for part in (BIAS, VARIANCE, FITTED)]
    note = "each value is of a pair of networks"
    return plots.Figure(panels, share_y=True, legend="above", note=note)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "size", "draw"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    pooled=True,
    derive=lambda settings, results: pair(results),
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.005, 0.01, 0.02)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
