"""Can a fully connected network learn to be local, and to share?

    python -m experiments.learned_bias
    python -m experiments.learned_bias --tune   # choose the rates again
    python -m experiments.learned_bias --full --steps 10000 --seeds 3 --strengths 1e-4
        --only conv/0   # CIFAR-10

A shallow network on MNIST-1D is trained with three first layers: a convolution (8 channels of
window 9, stride 2), the same with a kernel per position (`local`), and a fully connected one
(`dense`). Batch normalization, 192 hidden units and the head are the same. All train by gradient
descent without momentum. β-LASSO pulls every weight to zero by λ and sets it to zero below β λ,
β = 50 (`cnn.train.optimizers`). "sparse" is the λ that is best on the validation part.

Measures of the first layer, each beside what chance gives:

    best window   share of a dense filter's squared weight in its best window of 9. Chance: the same
                  weights in random order. So it has the same sparsity.
    alike         cosine of a filter with the most similar one of the next position (`local`), or
                  with the most similar one of all others, shifted by 2 or more (`dense`). Chance:
                  the same filters with random signs, so weights are as large at the same places.
    sharing       (alike − chance) / (1 − chance): 1 for a convolution, 0 for chance

The units of a dense layer have no order, and neither have the channels at one position. So nothing
here depends on it.

With --full, the images are CIFAR-10, cropped and flipped at random as in the paper. Each rung has
the best learning rate of 0.25, 0.5, 1 and, for conv, 2 on a validation part, with one other seed
and 2,000 steps: 1 for conv, and 0.5 for local and dense (`--only local/0 dense/0 dense/0.0001 --lr
0.5`). λ was chosen there, too, from 1e-5 and 1e-4.

Reference:
    Neyshabur 2020, "Towards learning convolutions from scratch", S-CONV, S-LOCAL and S-FC on
    CIFAR-10. β-LASSO takes S-FC to 85.19 % by the abstract of arXiv:2007.13657, 84.50 % by that in
    the proceedings of NeurIPS. Its training takes 4,000 epochs, those of SGD 400 epochs, which give
    84.14, 81.52 and 72.77 % (from memory, not checked). So 85.19 and 84.14 do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers
    from cnn.probes import filters as probe_filters
    from cnn.probes import similarity

if TYPE_CHECKING:
    from flax import linen as nn
    from jax import Array

    from cnn.layers import ConvBase
    from cnn.train import Config, Result

QUESTION = "Do locality and sharing emerge where they are not built in?"
HYPOTHESIS = (
    "locality is worth more than a point; sparse training gives part of it to the dense network, "
    "whose filters become local beyond what sparsity gives; sharing does not emerge, in the local "
    "network or in the dense one."
)
PLAIN, SPARSE = "0", "sparse"
CONV, LOCAL, DENSE = ((rung, PLAIN) for rung in ("conv", "local", "dense"))
SPARSE_LOCAL, SPARSE_DENSE = (("local", SPARSE), ("dense", SPARSE))
WINDOW, STRIDE = 9, 2
LR = 1.0
"""Learning rate where none was tuned."""
DRAWN = 20
"""Filters that are drawn."""
MATCHED = 160
"""Largest number of dense filters that are compared with each other: all of them on MNIST-1D."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    strengths: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3)
    """λ of β-LASSO, besides 0, which is plain gradient descent."""
    steps: int = 1500
    """Optimizer steps of every run: 37 epochs."""
    seeds: int = 10
    full: bool = False
    """Use CIFAR-10, the data of the paper."""
    out: Path = Path("results/learned_bias")

    large: ClassVar[str] = "cifar10"


CLAIMS = (
    Claim("locality that is built in is worth more than a point", LOCAL, DENSE, above=0.01),
    Claim("sparse training gives dense more than a point", SPARSE_DENSE, DENSE, above=0.01),
    Claim(
        "it gives dense more than a point more than local",
        *(SPARSE_DENSE, DENSE),
        above=0.01,
        minus=(SPARSE_LOCAL, LOCAL),
    ),
    Claim(
        "the best window of sparse dense filters holds more than 0.05 beyond chance",
        *(SPARSE_DENSE, SPARSE_DENSE),
        above=0.05,
        measure="best window",
        of_b="best window, chance",
    ),
    Claim(
        "neighbouring filters of local are nearer to chance than to equal",
        *(LOCAL, CONV),
        below=-0.5,
        measure="sharing",
    ),
    Claim(
        "sparse dense filters, shifted, are nearer to chance than to equal",
        *(SPARSE_DENSE, CONV),
        below=-0.5,
        measure="sharing",
    ),
)


def rungs(rank: int) -> dict[str, nn.Module]:
    """Return S-CONV, S-LOCAL and S-FC with α = 8, for signals (rank 1) or images (rank 2)."""
    first = layers.Conv(8, (WINDOW,) * rank, STRIDE, WINDOW // 2, use_bias=False)
    hidden = layers.Dense(192, use_bias=False)
    norm = (layers.BatchNorm(), layers.ReLU())
    head = layers.Dense(10, scale=1.0)
    conv = layers.Chain((first, *norm, layers.Flatten(), hidden, *norm, head))
    local, dense = (f(conv, "layers_0") for f in (ablations.unshare, ablations.densify))
    return {"conv": conv, "local": local, "dense": dense}


def points(settings: Settings) -> Points:
    """Return every rung without β-LASSO, local and dense also at every strength."""
    data = settings.load()
    networks = rungs(len(data.input_shape) - 1)
    pairs = [(rung, 0.0) for rung in networks]
    pairs += [(rung, strength) for rung in ("local", "dense") for strength in settings.strengths]
    return {
        (rung, f"{strength:g}"): settings.config(
            networks[rung],
            data,
            optimizer="beta-lasso",
            lr=LR if settings.lr is None else settings.lr,
            weight_decay=strength,
            augment=("crop", "flip") if settings.full else (),
        )
        for rung, strength in pairs
    }


def best_of(settings: Settings, names: Sequence[Name]) -> Mapping[Name, Sequence[Name]]:
    """Return the strengths of which the best is taken."""
    sparse = [name for name in names if name[1] != PLAIN]
    return {(rung, SPARSE): [name for name in sparse if name[0] == rung] for rung, _ in sparse}


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return measures of the first layer by name, a value per seed."""
    layer = config.model.layers[0]
    seeds: list[dict[str, float | np.ndarray]] = []
    for state in result.states:
        kernel = state.params["layers_0"]["kernel"]
        more: dict[str, float] = {"sharing": 1.0}
        if isinstance(layer, layers.DenseSpatial):
            found = np.asarray(kernel, float)
            at_any_shift = partial(similarity.shifted_cosines, least_shift=STRIDE, most=MATCHED)
            more = sharing(found, at_any_shift)
            at_random = similarity.places_at_random(found)
            more["best window"] = similarity.best_window_share(found, WINDOW)
            more["best window, chance"] = similarity.best_window_share(at_random, WINDOW)
        elif isinstance(layer, layers.ConvLocal):
            found = np.asarray(probe_filters.filters(kernel, layer).weights, float)
            more = sharing(found, similarity.neighbour_cosines)
        kept = float((np.asarray(kernel) != 0).mean())
        drawn = strongest_filters(kernel, layer, config.data.input_shape)
        seeds.append({"kept": kept, **more, "filters": drawn})
    return {name: [seed[name] for seed in seeds] for name in seeds[0]}


def strongest_filters(kernel: Array, layer: ConvBase, input_shape: tuple[int, ...]) -> np.ndarray:
    """Return `placed_filters` in thousandths of the largest weight, so that lines stay short."""
    found = placed_filters(kernel, layer, input_shape)
    return np.rint(1000 * found / (np.abs(found).max() or 1)).astype(int)


def placed_filters(kernel: Array, layer: ConvBase, input_shape: tuple[int, ...]) -> np.ndarray:
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


def sharing(
    weights: np.ndarray, best_cosines: Callable[[np.ndarray], np.ndarray]
) -> dict[str, float]:
    """Return how alike filters are, by `best_cosines`, and with random signs."""
    both = weights, similarity.signs_at_random(weights)
    alike, chance = (float(np.nanmean(best_cosines(of))) for of in both)
    return {"alike": alike, "chance": chance, "sharing": (alike - chance) / (1 - chance)}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figures."""
    shown = {name: o for name, o in results.items() if name[1] != SPARSE}
    measures = ("best window", "best window, chance", "alike", "chance", "sharing")
    rows = [
        [
            *(f"{rung}, λ = {strength}", o.parameters),
            *(o[k] for k in ("test_accuracy", "train_accuracy", "kept")),
            *(study.number(o[k], 2) if k in o.values else "" for k in measures),
        ]
        for (rung, strength), o in shown.items()
    ]
    heads = ["network", "parameters", f"{settings.part}, %", "training, %", "not zero, %"]
    heads += ["best window", "by chance", "alike", "by chance", "sharing"]
    caption = f"{settings.title}, {settings.protocol}; measures of the first layer"
    pairs = [(CONV, LOCAL), (LOCAL, DENSE)]
    pairs += [((rung, s), (rung, PLAIN)) for rung, s in shown if s != PLAIN]
    tables = [Table(caption, heads, rows), study.differences(results, pairs)]
    figures = {"learned_bias": curves(settings, shown), "learned_filters": filter_figure(results)}
    return Summary(findings(results), tables, figures)


def findings(results: Results) -> list[str]:
    """Return what emerges in the dense layer, and in the local one."""
    found = []
    for name in (SPARSE_DENSE, DENSE, SPARSE_LOCAL, LOCAL):
        if name not in results:
            continue
        o = results[name]
        text = f"{name[0]} at λ = {(o.chosen or name)[1]}: "
        text += f"{100 * o['kept'].mean():.1f} % of the first layer's weights are not zero"
        if name[0] == "dense":
            best, chance = (100 * o[f"best window{of}"].mean() for of in ("", ", chance"))
            text += f"; the best window of a filter holds {best:.1f} % of its squared weight, "
            text += f"{chance:.1f} % with its weights in random order"
        where = "at any shift" if name[0] == "dense" else "at the next position"
        text += f"; the most similar filter {where} has a cosine of {o['alike'].mean():.2f}, "
        found.append(text + f"{o['chance'].mean():.2f} with random signs.")
    return found


def curves(settings: Settings, shown: Results) -> plots.Figure:
    """Return accuracy by strength, and the share of weight in the best window of dense filters."""
    strengths = [s for rung, s in shown if rung == "dense"]
    accuracy = [
        plots.Series(rung, [100 * shown[rung, s]["test_accuracy"] for s in strengths])
        for rung in ("local", "dense")
    ]
    conv = plots.Series("conv", [100 * shown[CONV]["test_accuracy"]], [0])
    shares = [
        plots.Series(label, [100 * shown["dense", s][key] for s in strengths], line=line)
        for label, key, line in (
            ("dense", "best window", "-"),
            ("dense, random order", "best window, chance", "--"),
        )
    ]
    panel = partial(plots.Curves, ticks=strengths, x_label="strength λ of β-LASSO")
    left = panel([*accuracy, conv], y_label=f"{settings.part} accuracy (%)")
    right = panel(shares, y_label="squared weight in best window (%)")
    return plots.Figure([left, right])


def filter_figure(results: Results) -> plots.Figure:
    """Return the first seed's filters of one channel, at their place on the input.

    Of signals a filter is a row, of images a tile, scaled to its largest weight. Filters of dense
    have no order; they are sorted by the place of that weight, and filters of zeros come last.
    """
    panels = []
    for name in (CONV, LOCAL, DENSE, SPARSE_DENSE):
        if name not in results:
            continue
        rung, strength = results[name].chosen or name
        filters = results[name]["filters"][0]
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


PUBLISHED: Mapping[Name, Mapping[str, str]] = {
    ("cifar10", *point): {"test_accuracy": accuracy}
    for point, accuracy in ((CONV, "84.14"), (LOCAL, "81.52"), (DENSE, "72.77"))
}
"""Of wider networks, trained for 400 epochs (from memory, not checked)."""

STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "strength"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    best_of=best_of,
    tuning=study.Tuning(__file__, grid={"lr": (0.25, 0.5, 1.0, 2.0)}),
    published=PUBLISHED,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
