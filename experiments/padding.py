"""What does a network make of the border?

    python -m experiments.padding

A small network on MNIST-1D, three convolutions (window 5, stride 1, 16 channels), meets the border
in six ways: it sees zeros, the reflected signal, its last value, or the other end beyond it; its
windows stay inside ("valid"), or go on as long as they touch the signal ("full"). Above stands
either the mean over positions ("mean"), so that only the border can tell where something is, or a
dense layer on the whole map ("dense"), which knows anyway.

Beside accuracy, two probes of what was learned: how well the last map tells position on noise, R²
of a linear read-out (`cnn.probes.position_leak`), and how far it is from moving with its input,
which moves around by one sample (`cnn.probes.shift_error`).

Islam, Jia and Bruce (2020, "How much position information do convolutional neural networks
encode?") read position out of VGG and ResNet, and hardly any without zero padding. Kayhan and van
Gemert (2020) find the same of all borders that cut windows off, "valid" among them
(`experiments.position_leak`).

Measured: mean ± standard deviation of 3 seeds, 1,000 steps (369 s on two cores shared with much
else, jax 0.10.2), accuracy in percent:

                 mean: accuracy   position   shift error   dense: accuracy   position   shift error
    zeros            94.5 ± 0.9       .065           .19        92.8 ± 1.6       .046           .25
    reflect          94.6 ± 1.7       .010           .24        93.5 ± 1.4       .008           .31
    replicate        94.5 ± 1.9       .027           .25        93.9 ± 0.7       .017           .29
    circular         91.0 ± 0.7      −.001           .00        93.6 ± 1.0       .000           .00
    valid            94.3 ± 1.5      −.001           .19        93.9 ± 1.7       .000           .21
    full             91.2 ± 1.4       .135           .20        94.1 ± 2.4       .107           .24

The hypothesis holds in part. Full convolution tells position most, not zeros, as a larger share of
its outputs see the border. Valid convolution tells nothing here, since each of its outputs sees
noise alone; that it cuts off what stands near the border, which an image with objects shows, this
probe does not see. Nor is accuracy the same under the mean over positions: circular − zeros is −3.5
points (95 % interval −4.7 to −2.4), full − zeros −3.3 (−5.3 to −1.3). Position is no explanation:
circular tells least of it and full most. Under the dense head no border costs anything; reflect −
zeros is +0.7 (0.2 to 1.2), the only one of ten differences besides those two that excludes zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.ops import Padding, PaddingMode
    from cnn.train import Config, Result
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "What does a network make of the border?"
HYPOTHESIS = (
    "every border but the circular one tells position, zeros the most; on signals that stand "
    "anywhere it makes no difference to accuracy."
)
BORDERS: dict[str, tuple[Padding, PaddingMode]] = {
    "zeros": (2, "zeros"),
    "reflect": (2, "reflect"),
    "replicate": (2, "replicate"),
    "circular": (2, "circular"),
    "valid": ("VALID", "zeros"),
    "full": ("FULL", "zeros"),
}
HEADS = ("mean", "dense")
PROBES = ("position leak", "shift error")
LAST_MAP = "layers_5"
"""The layer, after its ReLU, that the probes look at."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """Which borders, and what is kept."""

    borders: tuple[str, ...] = tuple(BORDERS)
    """What the windows see beyond the border, or where they stop."""
    steps: int = 1000
    """Optimizer steps of every run."""
    lr: float = 1e-2
    """Largest learning rate of Adam."""
    seeds: int = 3
    """Seeds per point; a seed has the same data order at every point."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out.

    About 3 hours of one core, estimated from 50 steps of one network.
    """
    out: Path = Path("results/padding")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def network(border: str, head: str, rank: int = 1) -> nn.Module:
    """Return the network with one of `BORDERS` and of `HEADS`. Raises `InputError`."""
    from cnn.errors import unknown_name
    from cnn.layers import Chain, Conv, Dense, Flatten, GlobalAvgPool, ReLU

    if border not in BORDERS:
        raise unknown_name("border", border, BORDERS)
    padding, mode = BORDERS[border]
    layers = [p for _ in range(3) for p in (Conv(16, (5,) * rank, 1, padding, mode), ReLU())]
    top = GlobalAvgPool() if head == "mean" else Flatten()
    return Chain((*layers, top, Dense(10, scale=1.0)))


def points(settings: Study) -> dict[Name, Config]:
    """Return every border under every head."""
    from cnn.train import Config

    data, recipe = settings.data("mnist1d"), settings.recipe()
    rank = len(data.input_shape) - 1
    return {
        (border, head): Config(model=network(border, head, rank), data=data, **recipe)
        for head in HEADS
        for border in settings.borders
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return what the last map tells of position on noise, and its error under a shift by one."""
    import jax

    from cnn.probes import layer_functions, position_leak, shift_error

    shape = config.data.input_shape
    fitted, held_out = jax.random.normal(jax.random.key(0), (2, 1000, *shape))
    found: dict[str, list[float]] = {probe: [] for probe in PROBES}
    for state in result.states:
        last = jax.jit(layer_functions(config.model, state.variables, shape)[LAST_MAP])
        found["position leak"].append(float(position_leak(last(fitted), last(held_out))))
        found["shift error"].append(float(shift_error(last, held_out, 1)))
    return found


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    findings = []
    for head in HEADS:
        shown = ", ".join(
            f"{border} {results[border, head]['position leak'].mean():.2f}"
            for border in settings.borders
        )
        findings.append(f"Share of position that a linear read-out finds, head {head}: {shown}.")
    base = settings.borders[0]
    pairs = [((b, head), (base, head)) for head in HEADS for b in settings.borders[1:]]
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"padding": draw(settings, results)})


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return accuracy in percent and the probes, a row per border and head."""
    from experiments.harness.report import Table, number, percent

    rows = [
        [", ".join(name), percent(o["test_accuracy"]), *(number(o[probe]) for probe in PROBES)]
        for name, o in results.items()
    ]
    part = "validation" if settings.validate else "test"
    caption = (
        f"{settings.title('MNIST-1D')}, mean ± standard deviation over {settings.seeds} seeds, "
        f"{settings.steps:,} steps"
    )
    return Table(caption, ["border, head", f"{part} accuracy, %", "position, R²", PROBES[1]], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw accuracy and the two probes by border, a colour per head."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import AMBER, BLACK, COLUMN_WIDTH, STYLE, spread

    part = "validation" if settings.validate else "test"
    panels = (
        ("test_accuracy", 100, f"{part} accuracy (%)"),
        ("position leak", 1, "position read out (R²)"),
        ("shift error", 1, "shift error (relative)"),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.4), layout="constrained")
        for axes, (value, unit, label) in zip(
            figure.subplots(1, 3, sharey=True), panels, strict=True
        ):
            for head, colour, marker, apart in zip(
                HEADS, (BLACK, AMBER), "os", (-0.12, 0.12), strict=True
            ):
                scores = [unit * results[border, head][value] for border in settings.borders]
                means, deviations = spread(scores)
                axes.errorbar(
                    means,
                    [i + apart for i in range(len(scores))],
                    xerr=deviations,
                    color=colour,
                    fmt=marker,
                    ms=4,
                    capsize=2,
                    label=f"head: {head}",
                )
            axes.set_yticks(range(len(settings.borders)), settings.borders)
            axes.set_ylim(len(settings.borders) - 0.5, -0.5)
            axes.set_xlabel(label)
            axes.grid(axis="x", lw=0.4, alpha=0.5)
        handles, labels = axes.get_legend_handles_labels()
        title = f"mean ± s.d. of {settings.seeds} seeds"
        figure.legend(handles, labels, title=title, frameon=False, loc="outside right center")
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("border", "head"), points, tell, measure)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
