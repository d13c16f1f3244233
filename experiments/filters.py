"""Does a network find the filters that people designed, and how many of its channels does it need?

    python -m experiments.filters
    python -m experiments.filters --full --lr 5e-3   # Fashion-MNIST

Three questions to one small network on the 8×8 digits (3×3 convolution to 16 channels, ReLU,
max-pooling, another convolution, a dense head):

1. How much of the first layer's squared weight does training move into the space that blur, edges
   and Sobel's two slopes span (`cnn.ops.filters`)? It has 4 of 9 dimensions, so a kernel without
   preference has 4 / 9 there.
2. Halve the channels after the pooling. What do the first 8 principal components of the trained
   network's features keep of its accuracy, without further training?
3. What do 8 channels of a 1×1 convolution keep, of variance and accuracy, that was trained with the
   rest?

There are 359 test digits, so differences of less than 3 points are not asked about.

Reference:
    Lin, Chen and Yan 2014, "Network in network", introduced the 1×1 convolution. Szegedy et al.
    2015, section 4, use it to reduce channels before expensive convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Outcome, Points, Results, Summary, Table, percent

with epy.lazy_imports():
    import numpy as np
    import optax

    from cnn import layers
    from cnn.ops import filters
    from cnn.train import state as train_state

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.train import Config, Result

QUESTION = "Which filters does a network learn, and how many of its channels does it need?"
HYPOTHESIS = (
    "the first layer moves towards blur, edges and slopes; half of the channels can go, by "
    "principal components or by a trained 1×1 convolution, although that keeps less variance."
)
WHOLE, HALVED = "16 channels", "1×1 to 8"
CHANNELS, KEPT = 16, (1, 2, 4, 8, 12, 16)
POOLED = 3
"""Index of the layer after convolution, ReLU and pooling."""
MOST = 2000
"""Maximal number of training images whose features a covariance is taken of, and of test images
that are classified with fewer channels."""


def kept(k: int, what: str = "accuracy") -> str:
    """Return the name of the accuracy, or of the share of variance, with k components."""
    return f"{k} components {what}"


CLAIMS = (
    Claim(
        "training moves more than 0.05 of the first layer into the span of the designed filters",
        *((WHOLE,), (WHOLE,)),
        above=0.05,
        measure="designed",
        of_b="designed, untrained",
    ),
    Claim(
        "8 of 16 principal components lose less than 3 points",
        *((WHOLE,), (WHOLE,)),
        above=-0.03,
        measure=kept(8),
        of_b=kept(16),
    ),
    Claim(
        "a trained 1×1 convolution to 8 channels loses less than 3 points",
        *((HALVED,), (WHOLE,)),
        above=-0.03,
    ),
    Claim(
        "the 1×1 convolution keeps less variance than 8 components, by more than 0.1",
        *((HALVED,), (HALVED,)),
        below=-0.1,
        measure="1×1 variance",
        of_b=kept(8, "variance"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    steps: int = 500
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST; add --lr 5e-3."""
    out: Path = Path("results/filters")

    small: ClassVar[str] = "digits"


def networks() -> dict[str, nn.Module]:
    """Return the network as it is, and with a 1×1 convolution that halves its channels."""
    first = (layers.Conv(CHANNELS, (3, 3), padding=1), layers.ReLU(), layers.MaxPool((2, 2)))
    head = (layers.Flatten(), layers.Dense(10, scale=1.0))
    rest = (layers.Conv(CHANNELS, (3, 3), padding=1), layers.ReLU(), *head)
    halve = layers.Conv(CHANNELS // 2, (1, 1), use_bias=False)
    return {WHOLE: layers.Chain((*first, *rest)), HALVED: layers.Chain((*first, halve, *rest))}


def points(settings: Settings) -> Points:
    """Return a point per network."""
    data = settings.load()
    return {(name,): settings.config(model, data) for name, model in networks().items()}


def designed() -> dict[str, np.ndarray]:
    """Return the designed filters, `(3, 3)` each."""
    down, right = np.moveaxis(np.asarray(filters.sobel(), float)[:, :, 0], -1, 0)
    blur, edges = np.asarray([filters.binomial_blur(), filters.edges()], float)[..., 0, 0]
    return {"blur": blur, "edges": edges, "slope, down": down, "slope, right": right}


def share_within(vectors: np.ndarray, basis: np.ndarray) -> float:
    """Return Σ |Pv|² / Σ |v|² over the rows v of `vectors`, P onto the span of the basis' rows."""
    q, _ = np.linalg.qr(basis.T)
    return float(np.square(vectors @ q).sum() / np.square(vectors).sum())


def pca(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the principal components of `features`, `(..., c)`.

    Returns:
        Mean `(c,)`, variances `(c,)` from the largest down, and components `(c, c)` as rows.
    """
    flat = features.reshape(-1, features.shape[-1]).astype(float)
    variances, components = np.linalg.eigh(np.cov(flat.T))
    return flat.mean(0), variances[::-1], components.T[::-1]


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return, per seed, the first kernels and what reduced channels keep."""
    data = config.examples
    train, test = data.train.first(MOST), data.test.first(MOST)
    basis = np.stack([kernel.ravel() for kernel in designed().values()])
    below = layers.Chain(config.model.layers[:POOLED])
    above = layers.Chain(config.model.layers[POOLED:])
    found: dict[str, list[float | np.ndarray]] = {}
    for seed, state in zip(result.seeds, result.states, strict=True):
        start = train_state.init_state(config.model, optax.identity(), data.input_shape, seed)
        kernels = [np.asarray(s.params["layers_0"]["kernel"], float) for s in (start, state)]
        untrained, trained = (kernel.reshape(9, CHANNELS).T for kernel in kernels)
        above_params = {
            f"layers_{i - POOLED}": state.params[f"layers_{i}"]
            for i in range(POOLED, len(config.model.layers))
            if f"layers_{i}" in state.params
        }
        first = {"params": {"layers_0": state.params["layers_0"]}}
        features, tested = (np.asarray(below.apply(first, s.x)) for s in (train, test))
        mean, variances, components = pca(features)
        values: dict[str, float | np.ndarray] = {
            "designed": share_within(trained, basis),
            "designed, untrained": share_within(untrained, basis),
            "kernels": trained.reshape(CHANNELS, 3, 3),
        }
        for k in KEPT:
            part = components[:k]
            reduced = (mean + (tested - mean) @ part.T @ part).astype(np.float32)
            classes = np.asarray(above.apply({"params": above_params}, reduced)).argmax(-1)
            values[kept(k, "variance")] = float(variances[:k].sum() / variances.sum())
            values[kept(k)] = classes == test.y
        if config.model == networks()[HALVED]:
            rows = np.asarray(state.params[f"layers_{POOLED}"]["kernel"], float)[0, 0].T
            centred = (features - mean).reshape(-1, CHANNELS)
            values["1×1 variance"] = share_within(centred, rows)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figures."""
    whole, halved = results[WHOLE,], results[HALVED,]
    trained, untrained = (percent(whole[f"designed{of}"]) for of in ("", ", untrained"))
    findings = [
        f"Of the first layer's squared weight, {trained} % is in the span of the designed filters "
        f"after training, {untrained} % before (44.4 % by chance).",
        f"Of the variance of its inputs, the trained 1×1 convolution keeps "
        f"{percent(halved['1×1 variance'])} %; 8 principal components of them would keep "
        f"{percent(halved[kept(8, 'variance')])} %.",
    ]
    rows = [[f"PCA to {k}", whole[kept(k, "variance")], whole[kept(k)]] for k in KEPT]
    rows.append([HALVED, halved["1×1 variance"], halved["test_accuracy"]])
    caption = f"Fewer than {CHANNELS} channels, {settings.title}, {settings.protocol}"
    table = Table(caption, ["channels", "variance, %", f"{settings.part} accuracy, %"], rows)
    figures = {"filters": filter_figure(whole), "channels": channel_figure(settings, results)}
    return Summary(findings, [table], figures)


def filter_figure(whole: Outcome) -> plots.Figure:
    """Return the designed filters and those that the first seed learned."""
    kernels = np.stack([*designed().values(), *whole["kernels"][0]])
    scaled = kernels / np.abs(kernels).max((1, 2), keepdims=True)
    line = plots.Reference(y=3, color=plots.BLACK, line="-")
    panel = plots.Image(
        plots.tile(scaled), title="designed (top row), learned; brown < 0", references=[line]
    )
    return plots.Figure([panel])


def channel_figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy and variance against the number of channels that are kept."""
    whole, halved = results[WHOLE,], results[HALVED,]
    series = []
    for what, one_by_one, label, color, line in (
        ("variance", "1×1 variance", "variance", plots.GREY, "--"),
        ("accuracy", "test_accuracy", f"{settings.part} accuracy", plots.BLUE, "-"),
    ):
        of = partial(plots.Series, color=color, marker="o")
        series += [
            of(f"PCA, {label}", [100 * whole[kept(k, what)] for k in KEPT], KEPT, line=line),
            of(f"1×1, {label}", [100 * halved[one_by_one]], [8], line="", hollow=True),
        ]
    panel = plots.Curves(
        series,
        ticks=[str(k) for k in KEPT],
        x_label=f"channels kept of {CHANNELS}",
        y_label="%",
        y_limits=(0, 105),
        legend="lower right",
    )
    return plots.Figure([panel])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network",),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
