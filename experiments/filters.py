"""Does a network find the filters that people designed, and how many of its channels does it need?

    python -m experiments.filters
    python -m experiments.filters --full --lr 5e-3   # Fashion-MNIST

Three questions to one small network on the 8×8 digits (3×3 convolution to 16 channels, ReLU,
max-pooling, another convolution, a dense head):

1. How much of the first layer is in the space that blur, edges and Sobel's two slopes span
   (`cnn.ops.filters`)? It has 4 of 9 dimensions, so a kernel without preference has 4 / 9 there.
2. How soon is a designed kernel learned back from its output on the training images, by full-batch
   gradient descent on the squared error from zero, with the step size 2 / (least + greatest
   curvature)?
3. Halve the channels after the pooling. What do the first 8 principal components of the trained
   network's features keep of their variance, and of the network's accuracy without further
   training? What do 8 channels of a 1×1 convolution keep that was trained with the rest?

Reference:
    Lin, Chen and Yan 2014, "Network in network", introduced the 1×1 convolution. Szegedy et al.
    2015, section 4, use it to reduce channels before expensive convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table, percent

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
    "the first layer moves towards blur, edges and slopes; all of them are learned back; a trained "
    "1×1 convolution keeps less variance than PCA and more accuracy."
)
WHOLE, HALVED = "16 channels", "1×1 to 8"
CHANNELS, KEPT = 16, (1, 2, 4, 8, 12, 16)
HALF = CHANNELS // 2
POOLED = 3
"""Index of the layer after convolution, ReLU and pooling."""
STEPS_BACK, NEAR = 10_000, 0.01
"""Steps of gradient descent to learn a kernel back, and the relative error that ends it."""
MOST = 2000
"""Maximal number of training images whose features or patches a covariance is taken of."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    steps: int = 500
    full: bool = False
    """Use Fashion-MNIST: 6 minutes on two cores, 6 GB of memory; add --lr 5e-3."""
    out: Path = Path("results/filters")

    small: ClassVar[str] = "digits"


def networks() -> dict[str, nn.Module]:
    """Return the network as it is, and with a 1×1 convolution that halves its channels."""
    first = (layers.Conv(CHANNELS, (3, 3), padding=1), layers.ReLU(), layers.MaxPool((2, 2)))
    head = (layers.Flatten(), layers.Dense(10, scale=1.0))
    rest = (layers.Conv(CHANNELS, (3, 3), padding=1), layers.ReLU(), *head)
    halve = layers.Conv(HALF, (1, 1), use_bias=False)
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
    data = config.data.held_out() if config.validate else config.data
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
        features, tested = (
            np.asarray(below.apply(first, s.x)) for s in (data.train.first(MOST), data.test)
        )
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
            values[f"variance {k}"] = variances[:k].sum() / variances.sum()
            values[f"accuracy {k}"] = (classes == data.test.y).mean()
        if config.model == networks()[HALVED]:
            rows = np.asarray(state.params[f"layers_{POOLED}"]["kernel"], float)[0, 0].T
            centred = (features - mean).reshape(-1, CHANNELS)
            values["variance of 1×1"] = share_within(centred, rows)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


def learned_back(images: np.ndarray, kernel: np.ndarray, steps: int) -> np.ndarray:
    """Return |w_t − w| / |w| for t = 1, …, steps of gradient descent from w_0 = 0.

    The error is quadratic and its curvature is the matrix of second moments of the patches of
    `images`, `(n, h, w)`. So in its eigenbasis every component of w − w_t falls as
    (1 − step size · λ)^t.
    """
    patches = np.lib.stride_tricks.sliding_window_view(images, kernel.shape, axis=(1, 2))
    flat = patches.reshape(-1, kernel.size).astype(float)
    curvature, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    falls = 1 - 2 / (curvature[0] + curvature[-1]) * curvature
    left = (directions.T @ kernel.ravel()) * falls ** np.arange(1, steps + 1)[:, None]
    return np.linalg.norm(left, axis=1) / np.linalg.norm(kernel)


def first_near(error: np.ndarray) -> int | None:
    """Return the first of steps 1, 2, … whose error is below `NEAR`, None if there is none."""
    near = error < NEAR
    return 1 + int(near.argmax()) if near.any() else None


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    images = np.asarray(settings.load().train.first(MOST).x)[..., 0]
    errors = {name: learned_back(images, k, STEPS_BACK) for name, k in designed().items()}
    soon = {name: first_near(error) for name, error in errors.items()}
    whole, halved = results[WHOLE,], results[HALVED,]
    accuracy = whole["test_accuracy"]
    findings = [
        f"Training changes the share of the first layer in the span of the designed filters by "
        f"{study.difference(whole['designed'], whole['designed, untrained'])}, to "
        f"{percent(whole['designed'])} % (44.4 % by chance).",
        f"Halving the {CHANNELS} channels changes {settings.part} accuracy by "
        f"{study.difference(halved['test_accuracy'], accuracy)} with a trained 1×1 convolution and "
        f"by {study.difference(whole[f'accuracy {HALF}'], accuracy)} with {HALF} principal "
        "components.",
        f"Of the variance of its inputs, the 1×1 convolution keeps "
        f"{percent(halved['variance of 1×1'])} %; {HALF} principal components of them would keep "
        f"{percent(halved[f'variance {HALF}'])} %.",
        f"Steps after which a designed filter is learned back to {NEAR:.0%}: "
        + ", ".join(f"{n} {t:,}" if t else f"{n} never" for n, t in soon.items())
        + ".",
    ]
    rows = [[k, whole[f"variance {k}"], whole[f"accuracy {k}"]] for k in KEPT]
    what = f"Principal components instead of {CHANNELS} channels"
    caption = f"{what}, {settings.title}, {settings.protocol}"
    heads = ["components", "variance, %", f"{settings.part} accuracy, %"]
    tables = [Table(caption, heads, rows), study.differences(results, [((HALVED,), (WHOLE,))])]
    return Summary(findings, tables, {"filters": figure(settings, results, errors)})


def figure(settings: Settings, results: Results, errors: Mapping[str, np.ndarray]) -> plots.Figure:
    """Return the kernels, the error of those learned back, and what fewer channels keep."""
    whole, halved = results[WHOLE,], results[HALVED,]
    kernels = np.stack([*designed().values(), *whole["kernels"][0]])
    scaled = kernels / np.abs(kernels).max((1, 2), keepdims=True)
    back = []
    colors = (plots.BLACK, plots.AMBER, plots.SKY, plots.GREY)
    for (name, error), color in zip(errors.items(), colors, strict=True):
        steps = np.unique(np.geomspace(1, (error >= NEAR / 2).sum(), 50).astype(int))
        shown = 100 * error[steps - 1]
        back.append(plots.Series(name, shown, steps.tolist(), color=color, marker=""))
    kept = []
    for what, at_half, label, color, marker, line in (
        ("variance", halved["variance of 1×1"], "variance", plots.GREY, "s", "--"),
        ("accuracy", halved["test_accuracy"], f"{settings.part} accuracy", plots.BLUE, "o", "-"),
    ):
        series = partial(plots.Series, color=color, marker=marker)
        percents = [100 * whole[f"{what} {k}"] for k in KEPT]
        kept += [
            series(f"PCA, {label}", percents, KEPT, line=line),
            series(f"1×1, {label}", [100 * at_half], [HALF], line="", hollow=True),
        ]
    panels = [
        plots.Image(
            plots.tile(scaled),
            title="designed (top), learned; brown < 0",
            references=[plots.Reference(y=3, color=plots.BLACK, line="-")],
        ),
        plots.Curves(
            back,
            log="y",
            x_label="steps of gradient descent",
            y_label="error of the kernel (%)",
            y_limits=(50 * NEAR, 150),
            legend="upper right",
        ),
        plots.Curves(
            kept,
            ticks=[str(k) for k in KEPT],
            x_label=f"channels kept of {CHANNELS}",
            y_label="%",
            y_limits=(0, 105),
            legend="lower right",
        ),
    ]
    return plots.Figure(panels, height=2.9)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("network",), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
