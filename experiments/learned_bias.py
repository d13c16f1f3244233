"""Can a fully connected network learn to be local, and to share?

    python -m experiments.learned_bias

Neyshabur (2020, "Towards learning convolutions from scratch") trains a shallow network three times:
with one layer of convolution, S-CONV; with the same layer but a kernel per position, S-LOCAL; and
fully connected, S-FC. On CIFAR-10, 400 epochs of SGD give 84.14, 81.52 and 72.77 %: locality is
worth far more than sharing. β-LASSO, gradient descent that sets small weights to zero, takes S-FC
to 85.19 % in 4,000 epochs, and what is left of its first layer is local.

Here the same network stands on MNIST-1D: 8 channels of window 9 with stride 2, batch normalisation,
192 hidden units, and only the first layer differs. All train by gradient descent without momentum;
β-LASSO pulls every weight to zero by λ and cuts it off below β λ, β = 50 (`cnn.train.optimizers`).
Whether locality emerged is asked in three ways: the mean squared weight at a distance from the
window's centre over that at all distances, 1 everywhere for a layer that does not care; the share
of squared weight within the convolution's window (`cnn.probes.learned_locality`); and, since
nothing ties a dense layer's filters to the places where a convolution would have them, the share
within the best window of 9 of each filter, beside that of the same weights in random order. Sharing
is the correlation of the filters of neighbouring positions (`cnn.probes.learned_sharing`), 1 for a
convolution, 0 for filters that have nothing in common.

Measured: test accuracy in percent, mean ± standard deviation of 3 seeds, 3,000 steps (4.2 minutes
on two cores with other work, jax 0.10.2); of dense's first layer, weights left, squared weight
within the convolution's window, within each filter's best window and there by chance, all in
percent:

         λ        conv       local       dense   left  within  best  chance
    0       83.2 ± 1.6  80.7 ± 1.1  69.3 ± 1.4  100.0    21.4  45.3    41.1
    0.0005  85.1 ± 1.1  83.6 ± 1.3  77.8 ± 0.7   19.2    22.7  79.9    67.7
    0.001   79.6 ± 4.5  76.7 ± 1.7  73.1 ± 0.6    5.7    21.4  92.2    82.7

With λ = 0 and 10 seeds (`--strengths 0 --seeds 10`, 161 s) the ordering holds beyond error at this
reduced α of 8, and the claim about the gaps: local − dense is 11.1 points (95 % interval 9.9 to
12.3), conv − local 3.5 (2.3 to 4.6; of the 3 seeds above 2.4, −1.4 to 6.3, which alone would not
tell). β-LASSO at 0.0005 gives dense 8.5 points (5.6 to 11.4), local 2.8 (−0.5 to 6.2) and conv 1.9
(−2.2 to 6.1): unlike on CIFAR-10 it does not take dense past the others. That the weights left lie
near the centre of the window does not hold: within it they are as many as in a layer that does not
care (21.2 %). They lie near one another, each filter at a place of its own, as the second figure
shows: its best window holds more than by chance by 4.1 ± 0.4 points, and with β-LASSO by 12.3 ± 1.4
(0.0005) and 9.6 ± 0.9 (0.001). Sharing does not emerge: neighbouring filters correlate at 0.04 or
less, for their places in the layer mean nothing to it. Learning rate and strengths were settled on
after single runs whose test accuracy was seen.

On CIFAR-10 (`--full --strengths 0 --steps 1000 --seeds 1`), after 2 epochs, one seed has 58.7 %
with conv, 58.9 with local and 54.5 with dense: the second gap is the larger one there, too; whether
the first is above zero, a seed of 2 epochs does not say (400 epochs in the paper: 2.6 and 8.8
points). Nothing has become local by then: 10.0 % of a filter is in its best window, 9.8 by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn
    from jax import Array
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnn.layers import ConvBase
    from cnn.train import Config, Result
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "Do locality and sharing emerge where they are not built in?"
HYPOTHESIS = (
    "conv > local > dense, the second gap far larger than the first; sparse training closes part "
    "of it, and the weights that are left lie near the centre of the window."
)
SHOWN = ("conv", "local", "dense")
WINDOW = 9
DRAWN = 20
"""Filters that are drawn."""
FAR = 20
"""Distances from the window's centre that are told apart, in samples."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """How strongly weights are pulled to zero, and what is kept."""

    strengths: tuple[float, ...] = (0.0, 5e-4, 1e-3)
    """λ of β-LASSO; 0 is plain gradient descent."""
    steps: int = 3000
    """Optimizer steps of every run: 75 epochs."""
    lr: float = 1.0
    """Largest learning rate."""
    seeds: int = 3
    """Seeds per point."""
    full: bool = False
    """CIFAR-10, the data of the paper, into the folder full inside of out.

    355 s of one core for a seed of 1,000 steps at one strength (measured), under 3 hours for all
    (estimated).
    """
    out: Path = Path("results/learned_bias")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def rungs(rank: int) -> dict[str, nn.Module]:
    """Return S-CONV, S-LOCAL and S-FC with α = 8, for signals (rank 1) or images (rank 2)."""
    from cnn.ablations import densify, unshare
    from cnn.layers import BatchNorm, Chain, Conv, Dense, Flatten, ReLU

    first = (Conv(8, (WINDOW,) * rank, 2, WINDOW // 2, use_bias=False), BatchNorm(), ReLU())
    hidden = (Flatten(), Dense(192, use_bias=False), BatchNorm(), ReLU())
    conv = Chain((*first, *hidden, Dense(10, scale=1.0)))
    return {
        "conv": conv,
        "local": unshare(conv, "layers_0"),
        "dense": densify(conv, "layers_0"),
    }


def points(settings: Study) -> dict[Name, Config]:
    """Return every rung at every strength."""
    from cnn.train import Config

    data = settings.data("mnist1d", "cifar10")
    recipe = settings.recipe() | {"optimizer": "beta-lasso"}
    return {
        (rung, f"{strength:g}"): Config(
            model=model, data=data, **recipe | {"weight_decay": strength}
        )
        for rung, model in rungs(len(data.input_shape) - 1).items()
        for strength in settings.strengths
    }


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return what the first layer has become, by name, a value per seed."""
    import numpy as np

    from cnn.layers import DenseSpatial
    from cnn.probes import learned_locality, learned_sharing

    layer = config.model.layers[0]
    seeds: list[dict[str, float | np.ndarray]] = []
    for state in result.states:
        kernel = state.params["layers_0"]["kernel"]
        shared = learned_sharing(kernel, layer)
        seeds.append(
            {
                "kept": float((np.asarray(kernel) != 0).mean()),
                "within": float(learned_locality(kernel, layer, WINDOW // 2)),
                "alike": float(shared[1]) if len(shared) > 1 else 1.0,
                **(concentrations(np.asarray(kernel)) if isinstance(layer, DenseSpatial) else {}),
                "profile": profile(kernel, layer),
                "filters": strongest(kernel, layer, config.data.input_shape),
            }
        )
    return {name: [seed[name] for seed in seeds] for name in seeds[0]}


def strongest(kernel: Array, layer: ConvBase, input_shape: tuple[int, ...]) -> np.ndarray:
    """Return the filters of the channel with the largest ones, `(filters, *spatial)`.

    Each is laid over the whole input, at the place where it stands (`cnn.ablations.lift`), and
    averaged over input channels. Of more than `DRAWN` positions, those with the largest filters.
    """
    import numpy as np

    from cnn.ablations import densify, lift

    dense = lift({"params": {"kernel": kernel}}, layer, densify(layer), input_shape)
    *size, c_in = input_shape
    weights = np.asarray(dense["params"]["kernel"]).reshape(*size, c_in, -1, kernel.shape[-1])
    norms = np.square(weights).sum(tuple(range(len(input_shape))))  # (positions, channels)
    channel = norms.sum(0).argmax()
    kept = np.sort(norms[:, channel].argsort()[-DRAWN:])
    found: np.ndarray = np.moveaxis(weights.mean(-3)[..., kept, channel], -1, 0)
    return found


def concentrations(kernel: np.ndarray) -> dict[str, float]:
    """Return the share of squared weight in each filter's best window, and that by chance.

    `kernel` is that of a spatial dense layer. The best window is that of `WINDOW` inputs per axis
    with the most; by chance is what it holds after each filter's weights have changed places at
    random.
    """
    import numpy as np

    rank = kernel.ndim // 2 - 1
    *size, channels = kernel.shape[: rank + 1]
    mass = np.square(kernel).reshape(math.prod(size) * channels, -1)
    mass = mass[:, mass.sum(0) > 0]
    shuffled = np.random.default_rng(0).permuted(mass, axis=0)

    def best(of: np.ndarray) -> float:
        windows = of.reshape(*size, channels, -1).sum(rank)
        for axis in range(rank):
            views = np.lib.stride_tricks.sliding_window_view(windows, WINDOW, axis=axis)
            windows = views.sum(-1)
        return float((windows.max(tuple(range(rank))) / of.sum(0)).mean())

    return {"own": best(mass), "own by chance": best(shuffled)}


def profile(kernel: Array, layer: ConvBase) -> np.ndarray:
    """Return the mean squared weight at distances 0 to `FAR` over the mean of all.

    The distance of two axes is the larger one; nan where the layer has no weights.
    """
    import numpy as np

    from cnn.probes.filters import filters

    found = filters(kernel, layer)
    mass = np.square(np.asarray(found.weights)).sum(0).mean((1, 2))
    seen = found.mask.sum(0)
    distance = np.abs(found.offsets).max(1).round().astype(int)
    known = distance <= FAR
    total, count = (np.bincount(distance[known], values[known], FAR + 1) for values in (mass, seen))
    with np.errstate(invalid="ignore"):
        density: np.ndarray = total / count / (mass.sum() / seen.sum())
    return density


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    plain = f"{min(settings.strengths):g}"
    mean = {name: 100 * outcome["test_accuracy"].mean() for name, outcome in results.items()}
    best = max(settings.strengths, key=lambda s: mean["dense", f"{s:g}"])
    findings = [
        "Without a price on weights sharing is worth "
        f"{mean['conv', plain] - mean['local', plain]:.1f} points, locality "
        f"{mean['local', plain] - mean['dense', plain]:.1f}.",
        f"dense reaches {mean['dense', plain]:.1f} % without β-LASSO and "
        f"{mean['dense', f'{best:g}']:.1f} at λ = {best:g}.",
        *(
            f"dense at λ = {s}: {100 * results['dense', s]['kept'].mean():.1f} % of the first "
            f"layer's weights are left, {100 * results['dense', s]['within'].mean():.1f} % of the "
            f"squared weight is within the window of {WINDOW}, and neighbouring filters correlate "
            f"at {results['dense', s]['alike'].mean():.2f}; wherever it stands, the best window of "
            f"a filter holds {100 * results['dense', s]['own'].mean():.1f} %, by chance "
            f"{100 * results['dense', s]['own by chance'].mean():.1f}."
            for s in (f"{s:g}" for s in settings.strengths)
        ),
    ]
    pairs = [((a, plain), (b, plain)) for a, b in (("conv", "local"), ("local", "dense"))]
    pairs += [((rung, f"{s:g}"), (rung, plain)) for rung in SHOWN for s in settings.strengths if s]
    tables = [table(settings, results), study.differences(results, pairs)]
    figures = {
        "learned_bias": draw(settings, results),
        "learned_filters": draw_filters(settings, results),
    }
    return study.Story(findings, tables, figures)


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return accuracies, and what the first layer has become, a row per rung and strength."""
    from experiments.harness.report import Table, percent

    rows = [
        [
            f"{rung}, λ = {strength}",
            f"{outcome.parameters:,}",
            *(percent(outcome[k]) for k in ("test_accuracy", "train_accuracy", "kept", "within")),
            f"{outcome['alike'].mean():.3f}",
        ]
        for (rung, strength), outcome in results.items()
    ]
    part = "validation" if settings.validate else "test"
    caption = (
        f"{settings.title('MNIST-1D', 'CIFAR-10')}, mean ± standard deviation over "
        f"{settings.seeds} seeds, {settings.steps:,} steps; of the first layer: weights kept, "
        "squared weight within the window, correlation of neighbouring filters"
    )
    heads = ["network", "parameters", f"{part}, %", "training, %", "kept, %", "within, %", "alike"]
    return Table(caption, heads, rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw accuracy against strength, and the dense layer's weights against distance."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, RUNGS, STYLE, spread

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        at = range(len(settings.strengths))
        for rung, marker in zip(SHOWN, "o^s", strict=True):
            scores = [100 * results[rung, f"{s:g}"]["test_accuracy"] for s in settings.strengths]
            left.errorbar(
                at,
                *spread(scores),
                color=RUNGS[rung],
                fmt=f"{marker}-",
                ms=3.5,
                lw=1,
                capsize=2,
                label=rung,
            )
        left.set_xticks(at, [f"{s:g}" for s in settings.strengths])
        left.set_xlabel("strength λ of β-LASSO")
        left.set_ylabel(f"{'validation' if settings.validate else 'test'} accuracy (%)")
        left.set_title(f"mean ± s.d. of {settings.seeds} seeds")
        left.grid(axis="y", lw=0.4, alpha=0.5)
        left.legend(frameon=False)
        profiles(right, settings, results)
    return figure


def profiles(axes: Axes, settings: Study, results: Mapping[Name, Outcome]) -> None:
    """Draw the dense layer's squared weights against distance, a line per strength."""
    from experiments.harness.report import GREY, RUNGS

    lines = ("-", "--", ":", "-.")
    for strength, line in zip(settings.strengths, lines, strict=False):
        outcome = results["dense", f"{strength:g}"]
        means = outcome["profile"].mean(0)
        axes.plot(means, line, color=RUNGS["dense"], lw=1, label=f"dense, λ = {strength:g}")
    axes.axhline(1, color=GREY, lw=0.6)
    axes.axvspan(0, WINDOW / 2, color=RUNGS["conv"], alpha=0.15, lw=0, label="conv's window")
    unit = settings.title("samples", "pixels")
    axes.set_xlabel(f"distance from the window's centre ({unit})")
    axes.set_ylabel("relative squared weight")
    axes.set_xticks(range(0, FAR + 1, 5))
    axes.set_ylim(0)
    axes.set_title("first layer")
    axes.legend(frameon=False)


def draw_filters(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw the first seed's filters of one channel where they stand on the input.

    Of signals a filter is a row, of images a tile; each is scaled to its own largest weight. Those
    of dense have no order of their own and are sorted by the place of that weight, none last.
    """
    import matplotlib as mpl
    import numpy as np
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, STYLE

    plain = f"{min(settings.strengths):g}"
    shown = [("conv", plain), ("local", plain), *(("dense", f"{s:g}") for s in settings.strengths)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 1.7), layout="constrained")
        panels = figure.subplots(1, len(shown), sharex=True, sharey=True)
        for i, (axes, (rung, strength)) in enumerate(zip(panels, shown, strict=True)):
            filters = results[rung, strength]["filters"][0]
            flat = np.abs(filters).reshape(len(filters), -1)
            if rung == "dense":
                order = np.lexsort((flat.argmax(1), ~flat.any(1)))
                filters, flat = filters[order], flat[order]
            largest = flat.max(1).reshape(-1, *[1] * (filters.ndim - 1))
            scaled = filters / np.where(largest, largest, 1)
            axes.set_title(f"{rung}, λ = {strength}")
            if filters.ndim > 2:
                axes.imshow(tiles(scaled), cmap="PuOr", vmin=-1, vmax=1)
                axes.set_axis_off()
            else:
                axes.imshow(scaled, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
                axes.set_xlabel("input (samples)")
                axes.set_ylabel({0: "filter", 2: "filter, sorted"}.get(i, ""))
    return figure


def tiles(images: np.ndarray, columns: int = 4) -> np.ndarray:
    """Return `(n, h, w)` images side by side, a line of nothing between them."""
    import numpy as np

    gaps = ((0, -len(images) % columns), (0, 1), (0, 1))
    apart = np.pad(images.astype(float), gaps, constant_values=np.nan)
    _, h, w = apart.shape
    return apart.reshape(-1, columns, h, w).swapaxes(1, 2).reshape(-1, columns * w)


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "strength"), points, tell, measure)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
