"""What does a network without padding lose at the border?

    python -m experiments.border
    python -m experiments.border --tune   # choose the rates again

A signal of 32 samples is noise from N(0, 1/4), and somewhere it has one of four patterns of 4
samples, the rows of a Hadamard matrix. The label says which. Convolutions with windows of 5, 16
channels and ReLU, one after the other, are followed by the mean over positions and a dense layer.
Their windows stay inside the map ("valid"), or zeros stand beyond the border ("zeros"). Both have
the same parameters.

Without padding every layer takes 4 samples from a map, so that 32 samples allow 7 layers. A sample
in the middle is in 5 windows of the first layer, the first sample in one. How often a sample is
used by the outputs is the number of paths from it to the last map: what a network whose weights are
equal gives it in the mean (`cnn.geometry.uniform_field`). Without padding it is

    1_m * 1_5 * ... * 1_5       (depth l: l factors 1_5, and a last map of m = 32 - 4 l),

where 1_k is k ones and * the full convolution. Trained weights need not be equal, so the networks
are tested with the pattern at each of its 29 places in turn, in 400 signals that are the same
otherwise. The learning rate rises over the first seventh of the steps. Rates are tuned on other
signals than those of the study.

Reference:
    Zhang et al., "Dive into deep learning", figure 7.3.1 (from memory, not checked): how often
    each pixel is used by windows of 1x1, 2x2 and 3x3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, predictions, study
from experiments.harness.counting import check_counts
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np
    from scipy import linalg

    from cnn import data as datasets
    from cnn import geometry, layers

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split
    from cnn.ops import Padding
    from cnn.train import Config, Result

QUESTION = "What does a network without padding lose at the border?"
HYPOTHESIS = (
    "accuracy where the pattern is at the border, more with 3 layers than with one, and nothing "
    "where it is in the middle; but not as much as the count of uses says, which falls by a "
    "factor of hundreds from 3 layers to 7: training makes up for that."
)
LENGTH, WINDOW, PATTERN = 32, 5, 4
"""Samples of a signal, a window and a pattern."""
PLACES = LENGTH - PATTERN + 1
DEEPEST = (LENGTH - 1) // (WINDOW - 1)
"""Layers that leave a map of a sample or more without padding."""
NOISE = 0.5
"""Standard deviation; the samples of a pattern are -1 and 1."""
TRAINED, TESTED, PLACED = 4000, 2000, 400
"""Signals: of training and test, with the pattern anywhere, and with the pattern at every place."""
VALID, ZEROS = "valid", "zeros"
PADDINGS: dict[str, Padding] = {VALID: "VALID", ZEROS: WINDOW // 2}
WARMUP = 1 / 7
"""Share of the steps over which the learning rate rises."""
AT = {"border": (0, PLACES - 1), "middle": (PLACES // 2 - 1, PLACES // 2 + 1)}
"""Places of the pattern; two each, so that the tests are equally large."""
BORDER, MIDDLE = (f"{where} accuracy" for where in AT)
BY_PLACE = "accuracy by place"


def at(depth: int) -> tuple[Name, Name]:
    """Return the points with this depth, with and without padding."""
    return (ZEROS, str(depth)), (VALID, str(depth))


CLAIMS = (
    Claim("border, one layer: no padding costs more than a point", *at(1), 0.01, measure=BORDER),
    Claim("border, 7 layers: it costs more than 10 points", *at(7), 0.1, measure=BORDER),
    Claim("border: more with 3 layers than with one", *at(3), 0.01, minus=at(1), measure=BORDER),
    Claim(
        "border: with 7 layers, less than 5 points more than with 3",
        *at(7),
        below=0.05,
        minus=at(3),
        measure=BORDER,
    ),
    Claim("middle, one layer: it costs nothing", *at(1), below=0.01, measure=MIDDLE),
    Claim("middle, 7 layers: it costs nothing", *at(7), below=0.01, measure=MIDDLE),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    depths: tuple[int, ...] = (1, 3, 5, 7)
    """Numbers of convolutions, at most 7."""
    steps: int = 500
    seeds: int = 10
    """Seeds per point, all on the same signals."""
    out: Path = Path("results/border")

    large: ClassVar[str] = ""


def signals(places: np.ndarray, rng: np.random.Generator) -> Split:
    """Return signals, `(count, 32, 1)`, with a pattern at each of these places, `(count,)`."""
    x = NOISE * rng.standard_normal((len(places), LENGTH))
    y = rng.integers(PATTERN, size=len(places))
    samples = places[:, None] + np.arange(PATTERN)
    x[np.arange(len(x))[:, None], samples] += linalg.hadamard(PATTERN)[y]
    return datasets.Split(x[..., None].astype(np.float32), y.astype(np.int32))


def anywhere(draw: int = 0) -> Dataset:
    """Return training and test signals of a draw, with the pattern anywhere."""
    rngs = (np.random.default_rng((draw, part)) for part in (0, 1))
    train, test = (
        signals(rng.integers(PLACES, size=count), rng)
        for rng, count in zip(rngs, (TRAINED, TESTED), strict=True)
    )
    names = ("++++", "+-+-", "++--", "+--+")
    return datasets.Dataset("pattern", train, test, names, (0.0,), (1.0,))


def placed(place: int) -> Split:
    """Return test signals with the pattern at a place; for all places they are the same others."""
    return signals(np.full(PLACED, place), np.random.default_rng(2))


def network(padding: str, depth: int) -> nn.Module:
    """Return a network. Raise `InputError` if there is no such padding."""
    where = study.choose("padding", padding, PADDINGS)
    block = (layers.Conv(16, (WINDOW,), padding=where), layers.ReLU())
    return layers.Chain((*block * depth, layers.GlobalAvgPool(), layers.Dense(PATTERN, scale=1.0)))


def points(settings: Settings, draw: int = 0) -> Points:
    """Return every depth with and without padding. Raise `InputError`."""
    check_counts(depths=settings.depths)
    if (most := max(settings.depths)) > DEEPEST:
        raise InputError(
            f"depths must be at most {DEEPEST}: windows of {WINDOW} without padding leave nothing "
            f"of {LENGTH} samples after {most} layers"
        )
    data, warmup = anywhere(draw), round(WARMUP * settings.steps)
    return {
        (padding, str(depth)): settings.config(network(padding, depth), data, warmup=warmup)
        for padding, depth in product(PADDINGS, settings.depths)
    }


def points_to_tune(settings: Settings) -> Points:
    """Return the same on other signals, of which all those for testing validate."""
    return points(replace(settings, validate=False), draw=1)


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return which signals are right with the pattern at the border and in the middle, by seed."""
    right = np.stack(
        [predictions.right(config, result, placed(place)) for place in range(PLACES)], 1
    )  # (seeds, places, signals)
    found = {f"{where} accuracy": right[:, list(of)] for where, of in AT.items()}
    flat = {name: list(of.reshape(len(of), -1)) for name, of in found.items()}
    return {**flat, BY_PLACE: list(right.mean(2))}


def uses(padding: str, depth: int) -> np.ndarray:
    """Return how many of the paths from samples to the last map begin at each, relative to 1 / 32.

    1 if all samples are used as often.
    """
    model = network(padding, depth)
    pooled = f"layers_{len(model.layers) - 2}"
    return LENGTH * geometry.uniform_field(model, (LENGTH, 1), layer=pooled)


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    rows = []
    for padding, depth in results:
        one, share = results[padding, depth], uses(padding, int(depth))
        accuracies = (one[measure] for measure in ("test_accuracy", BORDER, MIDDLE))
        ends = f"{share[0]:.2g}", f"{share[LENGTH // 2]:.2g}"
        rows.append([padding, depth, one.parameters, *accuracies, *ends])
    heads = ["padding", "layers", "parameters", "anywhere, %", "border, %", "middle, %"]
    heads += ["uses at the border", "uses in the middle"]
    caption = f"{settings.part.capitalize()} accuracy by the place of the pattern, and how often "
    caption += f"a sample is used (1 on average), {settings.protocol}"
    tables = [Table(caption, heads, rows)]
    return Summary(findings(settings, results), tables, {"border": figure(settings, results)})


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what no padding costs by depth, and how often a sample at the border is used."""
    found = []
    for measure in (BORDER, MIDDLE):
        texts = []
        for depth in settings.depths:
            one = study.estimate(results, [(at(depth)[0], 1), (at(depth)[1], -1)], measure)
            texts.append(f"{depth}: {100 * one.mean:+.1f} ± {100 * one.half():.1f}")
        found.append(
            f"Points that no padding costs by layers, with the pattern at the {measure.split()[0]} "
            f"(± half of the 95 % interval, each by itself): {', '.join(texts)}."
        )
    ratios = ((uses(VALID, depth), depth) for depth in settings.depths)
    listed = ", ".join(f"{depth}: {one[LENGTH // 2] / one[0]:,.0f}" for one, depth in ratios)
    found.append(
        "Without padding, a sample in the middle is used so many times as often as the first one, "
        f"by layers: {listed}."
    )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return how often each sample is used, beside accuracy by the place of the pattern."""
    colors = {VALID: plots.ORANGE, ZEROS: plots.BLACK}
    lines = {min(settings.depths): ":", max(settings.depths): "-"}
    used, right = [], []
    for (padding, color), (depth, line) in product(colors.items(), lines.items()):
        name = f"{padding}, {depth} layer{'s' * (depth > 1)}"
        series = partial(plots.Series, name, line=line, color=color, marker="")
        accuracy = list(100 * results[padding, str(depth)][BY_PLACE].T)
        used.append(series(list(uses(padding, depth)), range(LENGTH)))
        right.append(series(accuracy, range(PLACES)))
    left = plots.Curves(used, x_label="sample", y_label="uses (1 on average)")
    y_label = f"{settings.part} accuracy (%)"
    x_label = "first sample of the pattern"
    return plots.Figure([left, plots.Curves(right, x_label=x_label, y_label=y_label, legend="")])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("padding", "layers"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        grid={"lr": (0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
