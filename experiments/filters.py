"""Does a network find the filters that people designed, and what may its channels be reduced to?

    python -m experiments.filters

Three questions to one small network on the 8×8 digits (3×3 convolution to 16 channels, ReLU,
max-pooling, another one, a dense head):

How much of the first layer is in the space that blur, edges and Sobel's two slopes span
(`cnn.ops.filters`)? These are 4 of 9 dimensions: a kernel without any preference has 4 / 9 there.

How soon is a designed kernel learned back from its output on the training images, by full-batch
gradient descent on the squared error from zero, at the step 2 / (least + greatest curvature)?

Halve the channels after the pooling: what do the 8 first principal components of the trained
network's features keep of their variance and of its accuracy, put in its place without training on?
And a 1×1 convolution to 8 channels that was trained with the rest, by the variance of its own
inputs in its row space? Lin, Chen and Yan (2014, "Network in network") introduced the 1×1
convolution, Szegedy et al. (2015, section 4) use it to reduce channels before dear ones.

Measured: 5 seeds, mean ± standard deviation, 500 steps (26 s of training and 14 s for the rest on
two shared cores, jax 0.10.2). The first layer does not detectably move towards the designed
filters: 47.8 ± 4.4 % of it is in their span, untrained 45.9 ± 4.1, a difference of 1.9 points (95 %
interval −2.4 to 6.2); in the second network it is 0.2 (−2.5 to 2.8). Five seeds of a network this
small cannot say more, nor can 8×8 digits for photographs. All four are learned back to 1 %, after
13 (slope, down), 28 (slope, right), 47 (edges) and 54 steps (blur). Principal components in the
place of the 16 channels keep, in percent:

    components             1           2           4           8          12          16
    variance      43.6 ± 4.4  64.4 ± 3.4  80.2 ± 2.0  92.9 ± 0.8  97.8 ± 0.5       100.0
    accuracy      52.1 ± 9.0  79.9 ± 2.2  87.2 ± 1.5  93.0 ± 0.6  93.8 ± 0.9  93.9 ± 0.6

The trained 1×1 convolution has 93.8 ± 0.9 % accuracy, while its row space holds 50.3 ± 7.3 % of the
variance of its inputs: as much as 8 of 16 directions drawn blindly, where 8 components hold 92.7.
So variance kept does not tell accuracy kept; but that the 1×1 ends above PCA without training on is
not beyond error, by 0.8 points (−0.7 to 2.3), nor is what halving costs: the 1×1 −0.1 (−1.2 to
0.9), PCA −0.9 (−1.9 to 0.1).

Photographs of clothes say the same (`--full --lr 5e-3`, 5 seeds, 332 s): 44.1 ± 4.4 % of the first
layer is in the span; all four are learned back, in 251 to 724 steps, as neighbouring pixels are
more alike; the 1×1 has 88.2 ± 0.5 % accuracy with 47.8 ± 5.8 % of the variance, 8 components
87.8 ± 0.7 with 96.7 ± 0.5, all 16 channels 88.1 ± 0.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnn.train import Config, Result
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "Which filters does a network learn, and how many of its channels does it need?"
HYPOTHESIS = (
    "the first layer moves towards blur, edges and slopes; all of them are learned back; a trained "
    "1×1 convolution keeps less variance than PCA and more accuracy."
)
WHOLE, HALVED = "16 channels", "1×1 to 8"
CHANNELS, KEPT = 16, (1, 2, 4, 8, 12, 16)
HALF = CHANNELS // 2
DOWN = 3
"""Index of what follows convolution, ReLU and pooling."""
STEPS_BACK, NEAR = 10_000, 0.01
"""Steps of gradient descent for learning a kernel back, and the error at which it has been."""
MOST = 2000
"""Training images, at most, whose features or patches a covariance is taken of."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """What is kept for both networks."""

    steps: int = 500
    """Optimizer steps of every run."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out; take --lr 5e-3.

    6 minutes on two cores, 6 GB of memory.
    """
    out: Path = Path("results/filters")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def networks() -> dict[str, nn.Module]:
    """Return the network as it is, and with a 1×1 convolution that halves its channels."""
    from cnn.layers import Chain, Conv, Dense, Flatten, MaxPool, ReLU

    first = (Conv(CHANNELS, (3, 3), padding=1), ReLU(), MaxPool((2, 2)))
    rest = (Conv(CHANNELS, (3, 3), padding=1), ReLU(), Flatten(), Dense(10, scale=1.0))
    halve = Conv(HALF, (1, 1), use_bias=False)
    return {WHOLE: Chain((*first, *rest)), HALVED: Chain((*first, halve, *rest))}


def points(settings: Study) -> dict[Name, Config]:
    """Return a point per network."""
    from cnn.train import Config

    data, recipe = settings.data("digits"), settings.recipe()
    return {(name,): Config(model=m, data=data, **recipe) for name, m in networks().items()}


def designed() -> dict[str, np.ndarray]:
    """Return the lectures' filters of 3×3, `(3, 3)` each."""
    import numpy as np

    from cnn.ops import filters

    down, right = np.moveaxis(np.asarray(filters.sobel(), float)[:, :, 0], -1, 0)
    blur, edges = (np.asarray(k, float)[:, :, 0, 0] for k in (filters.blur(), filters.edges()))
    return {"blur": blur, "edges": edges, "slope, down": down, "slope, right": right}


def share_within(vectors: np.ndarray, basis: np.ndarray) -> float:
    """Return Σ |Pv|² / Σ |v|² over the rows v of `vectors`, P onto the span of `basis`' rows."""
    import numpy as np

    q, _ = np.linalg.qr(basis.T)
    return float(np.square(vectors @ q).sum() / np.square(vectors).sum())


def principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean `(c,)`, variances falling `(c,)`, components as rows `(c, c)`, of `(..., c)`."""
    import numpy as np

    flat = features.reshape(-1, features.shape[-1]).astype(float)
    variances, components = np.linalg.eigh(np.cov(flat.T))
    return flat.mean(0), variances[::-1], components.T[::-1]


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return, per seed, the first kernels and what reduced channels keep."""
    import numpy as np
    import optax

    from cnn.layers import Chain
    from cnn.train.state import init_state

    data = config.data.held_out() if config.validate else config.data
    basis = np.stack([k.ravel() for k in designed().values()])
    before = Chain(config.model.layers[:DOWN])
    after = Chain(config.model.layers[DOWN:])
    found: list[dict[str, float | np.ndarray]] = []
    for seed, state in zip(result.seeds, result.states, strict=True):
        start = init_state(config.model, optax.identity(), data.input_shape, seed)
        kernels = [np.asarray(s.params["layers_0"]["kernel"], float) for s in (start, state)]
        untrained, trained = (k.reshape(9, CHANNELS).T for k in kernels)
        moved = {
            f"layers_{i - DOWN}": state.params[f"layers_{i}"]
            for i in range(DOWN, len(config.model.layers))
            if f"layers_{i}" in state.params
        }
        first = {"params": {"layers_0": state.params["layers_0"]}}
        train, test = (
            np.asarray(before.apply(first, s.x)) for s in (data.train.first(MOST), data.test)
        )
        mean, variances, components = principal(train)
        values: dict[str, float | np.ndarray] = {
            "designed": share_within(trained, basis),
            "designed, untrained": share_within(untrained, basis),
            "kernels": trained.reshape(CHANNELS, 3, 3),
        }
        for k in KEPT:
            part = components[:k]
            reduced = (mean + (test - mean) @ part.T @ part).astype(np.float32)
            guess = np.asarray(after.apply({"params": moved}, reduced)).argmax(-1)
            values[f"variance {k}"] = variances[:k].sum() / variances.sum()
            values[f"accuracy {k}"] = (guess == data.test.y).mean()
        if config.model == networks()[HALVED]:
            rows = np.asarray(state.params[f"layers_{DOWN}"]["kernel"], float)[0, 0].T
            centred = (train - mean).reshape(-1, CHANNELS)
            values["variance of 1×1"] = share_within(centred, rows)
        found.append(values)
    return {name: [values[name] for values in found] for name in found[0]}


def learned_back(images: np.ndarray, kernel: np.ndarray, steps: int) -> np.ndarray:
    """Return |w_t − w| / |w| for t = 1, …, steps of gradient descent from w_0 = 0.

    The error is quadratic, with the second moments of the patches of `images`, `(n, h, w)`, as its
    curvature, so in their eigenbasis every component of w falls as (1 − step · λ)^t.
    """
    import numpy as np

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


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    import numpy as np

    from experiments.harness.report import percent

    images = np.asarray(settings.data("digits").train.first(MOST).x)[..., 0]
    back = {name: learned_back(images, k, STEPS_BACK) for name, k in designed().items()}
    soon = {name: first_near(error) for name, error in back.items()}
    whole, halved = results[WHOLE,], results[HALVED,]
    findings = [
        f"Of the first layer's kernels {percent(whole['designed'])} % is in the span of the "
        f"designed ones, untrained {percent(whole['designed, untrained'])}; by chance 44.4.",
        "Learned back to 1 % after steps: "
        + ", ".join(f"{n} {t:,}" if t else f"{n} never" for n, t in soon.items()),
        f"Of 16 channels, 8 principal components keep {percent(whole[f'variance {HALF}'])} % of "
        f"the variance and {percent(whole[f'accuracy {HALF}'])} % accuracy, of "
        f"{percent(whole['test_accuracy'])}; a trained 1×1 keeps "
        f"{percent(halved['variance of 1×1'])} % and has {percent(halved['test_accuracy'])}, "
        f"where PCA of the same features would keep {percent(halved[f'variance {HALF}'])} %.",
    ]
    pairs = [((HALVED,), (WHOLE,))]
    tables = [table(settings, whole), study.differences(results, pairs)]
    return study.Story(findings, tables, {"filters": draw(settings, results, back)})


def table(settings: Study, whole: Outcome) -> Table:
    """Return what principal components keep, a row per number of them."""
    from experiments.harness.report import Table, percent

    rows = [
        [str(k), percent(whole[f"variance {k}"]), percent(whole[f"accuracy {k}"])] for k in KEPT
    ]
    caption = (
        f"Principal components in the place of {CHANNELS} channels, {settings.title('digits')}, "
        f"mean ± standard deviation over {settings.seeds} seeds, {settings.steps:,} steps"
    )
    part = "validation" if settings.validate else "test"
    return Table(caption, ["components", "variance, %", f"{part} accuracy, %"], rows)


def draw(
    settings: Study, results: Mapping[Name, Outcome], back: Mapping[str, np.ndarray]
) -> Figure:
    """Draw the kernels, the error of those learned back, and what fewer channels keep."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import (
        AMBER,
        BLACK,
        BLUE,
        COLUMN_WIDTH,
        GREY,
        SKY,
        STYLE,
        spread,
    )

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        mosaic(left, results[WHOLE,])
        for (name, error), colour in zip(back.items(), (BLACK, AMBER, SKY, GREY), strict=True):
            shown = error[error >= NEAR / 2]
            middle.loglog(range(1, len(shown) + 1), 100 * shown, color=colour, lw=1, label=name)
        middle.set_ylim(50 * NEAR, 150)
        middle.set_xlabel("steps of gradient descent")
        middle.set_ylabel("error of the kernel (%)")
        middle.legend(frameon=False)
        looks = (("variance", GREY, "s--", "variance"), ("accuracy", BLUE, "o-", "test accuracy"))
        for what, colour, line, label in looks:
            scores = [100 * results[WHOLE,][f"{what} {k}"] for k in KEPT]
            style = {"color": colour, "ms": 3.5, "lw": 1, "capsize": 2}
            right.errorbar(KEPT, *spread(scores), fmt=line, label=f"PCA, {label}", **style)
            value = "variance of 1×1" if what == "variance" else "test_accuracy"
            halved = spread([100 * results[HALVED,][value]])
            style |= {"ms": 7, "mfc": "white"}
            right.errorbar(HALF, *halved, fmt=line[0], label=f"1×1, {label}", **style)
        right.set_xticks(KEPT)
        right.set_ylim(0, 105)
        right.set_xlabel(f"channels kept of {CHANNELS}")
        right.set_ylabel(f"% (mean ± s.d. of {settings.seeds} seeds)")
        right.legend(frameon=False, loc="lower right")
    return figure


def mosaic(axes: Axes, whole: Outcome) -> None:
    """Draw the designed kernels above the learned ones of the first seed, each to its own scale."""
    import numpy as np

    canvas = np.full((5 * 4 + 1, 4 * 4), np.nan)
    for i, kernel in enumerate([*designed().values(), *whole["kernels"][0]]):
        row, column = divmod(i, 4)
        top, side = 4 * row + (row > 0), 4 * column
        canvas[top : top + 3, side : side + 3] = kernel / np.abs(kernel).max()
    axes.imshow(canvas, cmap="PuOr", vmin=-1, vmax=1)
    axes.axhline(3.5, color="black", lw=0.6)
    axes.set_title("designed (top), learned; brown < 0")
    axes.set_axis_off()


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("network",), points, tell, measure)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
