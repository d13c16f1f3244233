"""Can a fully connected network learn to be local, and to share?

    python -m experiments.learned_bias
    python -m experiments.learned_bias --strengths 0 --seeds 10

A shallow network on MNIST-1D is trained with three first layers: a convolution (8 channels of
window 9, stride 2), the same with a kernel per position, and a fully connected one. Batch
normalization, 192 hidden units and the head are the same. All train by gradient descent without
momentum. β-LASSO pulls every weight to zero by λ and sets it to zero below β λ, β = 50
(`cnn.train.optimizers`).

Three measures ask whether the dense layer has become local:

    profile   mean squared weight by distance from the centre of the convolution's window, relative
              to that at all distances; 1 everywhere is no preference
    within    share of squared weight within that window (`cnn.probes.learned_locality`)
    own       share of squared weight within the best window of 9 of each filter, beside that of the
              same weights in random order, because a dense layer may place its filters anywhere

Sharing is the correlation of the filters of neighbouring positions (`cnn.probes.learned_sharing`):
1 for a convolution, 0 for filters that have nothing in common. The learning rate and the strengths
were chosen after single runs whose test accuracy was seen.

Reference:
    Neyshabur 2020, "Towards learning convolutions from scratch": S-CONV, S-LOCAL and S-FC. On
    CIFAR-10, 400 epochs of SGD give 84.14, 81.52 and 72.77 %, so locality is worth far more than
    sharing. β-LASSO takes S-FC to 85.19 % in 4,000 epochs, and its first layer becomes local.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers, probes
    from cnn.probes import filters as probe_filters

if TYPE_CHECKING:
    from flax import linen as nn
    from jax import Array

    from cnn.layers import ConvBase
    from cnn.train import Config, Result

QUESTION = "Do locality and sharing emerge where they are not built in?"
HYPOTHESIS = (
    "conv > local > dense, with a second gap far larger than the first; sparse training closes "
    "part of it, and the weights that remain lie near the centre of the window."
)
RUNGS = ("conv", "local", "dense")
WINDOW = 9
DRAWN = 20
"""Filters that are drawn."""
FAR = 20
"""Largest distance from the window's centre in the profile, in samples."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    strengths: tuple[float, ...] = (0.0, 5e-4, 1e-3)
    """λ of β-LASSO; 0 is plain gradient descent."""
    steps: int = 3000
    """Optimizer steps of every run: 75 epochs."""
    lr: float = 1.0
    seeds: int = 3
    full: bool = False
    """Use CIFAR-10, the data of the paper: under 3 hours of one core (estimated)."""
    out: Path = Path("results/learned_bias")

    large: ClassVar[str] = "cifar10"


def rungs(rank: int) -> dict[str, nn.Module]:
    """Return S-CONV, S-LOCAL and S-FC with α = 8, for signals (rank 1) or images (rank 2)."""
    window = (WINDOW,) * rank
    first = layers.Conv(8, window, 2, WINDOW // 2, use_bias=False)
    hidden = layers.Dense(192, use_bias=False)
    norm = (layers.BatchNorm(), layers.ReLU())
    head = layers.Dense(10, scale=1.0)
    conv = layers.Chain((first, *norm, layers.Flatten(), hidden, *norm, head))
    local, dense = (f(conv, "layers_0") for f in (ablations.unshare, ablations.densify))
    return {"conv": conv, "local": local, "dense": dense}


def points(settings: Settings) -> Points:
    """Return every rung at every strength."""
    data = settings.load()
    return {
        (rung, f"{strength:g}"): settings.config(
            model, data, optimizer="beta-lasso", weight_decay=strength
        )
        for rung, model in rungs(len(data.input_shape) - 1).items()
        for strength in settings.strengths
    }


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return measures of the first layer by name, a value per seed."""
    layer = config.model.layers[0]
    seeds: list[dict[str, float | np.ndarray]] = []
    for state in result.states:
        kernel = state.params["layers_0"]["kernel"]
        sharing = probes.learned_sharing(kernel, layer)
        dense = isinstance(layer, layers.DenseSpatial)
        seeds.append(
            {
                "kept": float((np.asarray(kernel) != 0).mean()),
                "within": float(probes.learned_locality(kernel, layer, WINDOW // 2)),
                "alike": float(sharing[1]) if len(sharing) > 1 else 1.0,
                **(best_windows(np.asarray(kernel)) if dense else {}),
                "profile": profile(kernel, layer),
                "filters": strongest_filters(kernel, layer, config.data.input_shape),
            }
        )
    return {name: [seed[name] for seed in seeds] for name in seeds[0]}


def strongest_filters(kernel: Array, layer: ConvBase, input_shape: tuple[int, ...]) -> np.ndarray:
    """Return the filters `(filters, *spatial)` of the channel with the largest ones.

    Each is placed where it is on the input (`cnn.ablations.lift`), and is the mean over input
    channels. Of more than `DRAWN` positions, those with the largest filters are returned.
    """
    dense = ablations.lift(
        {"params": {"kernel": kernel}}, layer, ablations.densify(layer), input_shape
    )
    *size, c_in = input_shape
    weights = np.asarray(dense["params"]["kernel"]).reshape(*size, c_in, -1, kernel.shape[-1])
    squares = np.square(weights).sum(tuple(range(len(input_shape))))  # (positions, channels)
    channel = squares.sum(0).argmax()
    kept = np.sort(squares[:, channel].argsort()[-DRAWN:])
    return np.asarray(np.moveaxis(weights.mean(-3)[..., kept, channel], -1, 0))


def best_windows(kernel: np.ndarray) -> dict[str, float]:
    """Return the share of squared weight in the best window of each filter of a `DenseSpatial`.

    "own" is the share in the window of `WINDOW` inputs per axis that has the most, "own by chance"
    the same after the weights of each filter are permuted at random.
    """
    rank = kernel.ndim // 2 - 1
    *size, channels = kernel.shape[: rank + 1]
    squares = np.square(kernel).reshape(math.prod(size) * channels, -1)
    squares = squares[:, squares.sum(0) > 0]
    permuted = np.random.default_rng(0).permuted(squares, axis=0)

    def best(squares: np.ndarray) -> float:
        windows = squares.reshape(*size, channels, -1).sum(rank)
        for axis in range(rank):
            views = np.lib.stride_tricks.sliding_window_view(windows, WINDOW, axis=axis)
            windows = views.sum(-1)
        return float((windows.max(tuple(range(rank))) / squares.sum(0)).mean())

    return {"own": best(squares), "own by chance": best(permuted)}


def profile(kernel: Array, layer: ConvBase) -> np.ndarray:
    """Return the mean squared weight at distances 0 to `FAR` over the mean of all.

    With two axes the distance is the larger one. NaN where the layer has no weights.
    """
    found = probe_filters.filters(kernel, layer)
    squares = np.square(np.asarray(found.weights)).sum(0).mean((1, 2))
    counts = found.mask.sum(0)
    distance = np.abs(found.offsets).max(1).round().astype(int)
    near = distance <= FAR
    total, count = (np.bincount(distance[near], v[near], FAR + 1) for v in (squares, counts))
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count / (squares.sum() / counts.sum()))


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figures."""
    strengths = [f"{strength:g}" for strength in settings.strengths]
    plain = f"{min(settings.strengths):g}"
    pairs = [((a, plain), (b, plain)) for a, b in (("conv", "local"), ("local", "dense"))]
    pairs += [((rung, s), (rung, plain)) for rung in RUNGS for s in strengths if s != plain]
    rows = [
        [
            *(f"{rung}, λ = {strength}", o.parameters),
            *(o[k] for k in ("test_accuracy", "train_accuracy", "kept", "within")),
            f"{o['alike'].mean():.3f}",
        ]
        for (rung, strength), o in results.items()
    ]
    caption = (
        f"{settings.title}, {settings.protocol}; of the first layer: weights that are not zero, "
        "squared weight within the window, correlation of neighbouring filters"
    )
    heads = ["network", "parameters", f"{settings.part}, %", "training, %"]
    heads += ["not zero, %", "within, %", "correlation"]
    tables = [Table(caption, heads, rows), study.differences(results, pairs)]
    figures = {
        "learned_bias": accuracy_figure(settings, strengths, results),
        "learned_filters": filter_figure(strengths, plain, results),
    }
    return Summary(findings(strengths, plain, results), tables, figures)


def findings(strengths: list[str], plain: str, results: Results) -> list[str]:
    """Return what emerges in the dense layer, and what the built-in biases are worth."""
    accuracy = {name: outcome["test_accuracy"] for name, outcome in results.items()}
    best = max(strengths, key=lambda s: accuracy["dense", s].mean())
    names = ("kept", "within", "own", "own by chance", "alike")
    mean = {s: {k: 100 * results["dense", s][k].mean() for k in names} for s in strengths}
    gain = study.difference(accuracy["dense", best], accuracy["dense", plain])
    sharing = study.difference(accuracy["conv", plain], accuracy["local", plain])
    locality = study.difference(accuracy["local", plain], accuracy["dense", plain])
    return [
        f"At λ = {best}, where the dense network is the most accurate, the best window of a filter "
        f"holds {mean[best]['own']:.1f} % of its squared weight "
        f"({mean[best]['own by chance']:.1f} by chance), and neighbouring filters correlate at "
        f"{mean[best]['alike'] / 100:.2f}.",
        f"At λ = {plain}, built-in sharing is worth {sharing}, built-in locality {locality}.",
        *([f"λ = {best} changes dense by {gain}."] if best != plain else []),
        *(
            f"dense at λ = {s}: {m['kept']:.1f} % of the first layer's weights are not zero; "
            f"{m['within']:.1f} % of the squared weight is within the convolution's window, "
            f"{m['own']:.1f} % within each filter's best one ({m['own by chance']:.1f} by chance)."
            for s, m in mean.items()
        ),
    ]


def accuracy_figure(settings: Settings, strengths: list[str], results: Results) -> plots.Figure:
    """Return accuracy by strength, and the dense layer's weights by distance."""
    left = plots.Curves(
        [
            plots.Series(rung, [100 * results[rung, s]["test_accuracy"] for s in strengths])
            for rung in RUNGS
        ],
        ticks=strengths,
        x_label="strength λ of β-LASSO",
        y_label=f"{settings.part} accuracy (%)",
    )
    profiles = [results["dense", s]["profile"] for s in strengths]
    right = plots.Curves(
        [
            plots.Series(f"dense, λ = {s}", weights.mean(0), line=line, marker="")
            for s, weights, line in zip(strengths, profiles, ("-", "--", ":", "-."), strict=False)
        ],
        title=f"first layer, mean of {settings.seeds} seeds",
        x_label=f"distance from the window's centre ({'pixels' if settings.full else 'samples'})",
        y_label="relative squared weight",
        y_limits=(0, None),
        references=[
            plots.Reference(y=1, line="-"),
            plots.Reference(x=(0, WINDOW / 2), label="conv's window", color=plots.BLUE),
        ],
    )
    return plots.Figure([left, right])


def filter_figure(strengths: list[str], plain: str, results: Results) -> plots.Figure:
    """Return the first seed's filters of one channel, at their place on the input.

    Of signals a filter is a row, of images a tile, scaled to its largest weight. Filters of dense
    have no order; they are sorted by the place of that weight, and filters of zeros come last.
    """
    panels = []
    for rung, strength in [("conv", plain), ("local", plain), *(("dense", s) for s in strengths)]:
        filters = results[rung, strength]["filters"][0]
        flat = np.abs(filters).reshape(len(filters), -1)
        if rung == "dense":
            order = np.lexsort((flat.argmax(1), ~flat.any(1)))
            filters, flat = filters[order], flat[order]
        largest = flat.max(1).reshape(-1, *[1] * (filters.ndim - 1))
        scaled = filters / np.where(largest, largest, 1)
        rows, title = filters.ndim == 2, f"{rung}, λ = {strength}"
        image = partial(plots.Image, title=title, x_label="input (samples)", y_label="filter")
        panels.append(image(scaled, stretch=True, axes=True) if rows else image(plots.tile(scaled)))
    note = "dense: filters sorted by the place of their largest weight"
    return plots.Figure(panels, height=1.9, share_y=True, note=note)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "strength"), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
