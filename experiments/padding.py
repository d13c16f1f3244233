"""What does padding change in a network?

    python -m experiments.padding

A small network on MNIST-1D has three convolutions (window 5, stride 1, 16 channels). Beyond the
border it sees zeros, the reflected signal, its last value, or the other end; or its windows stay
inside ("valid"), or go on as long as they touch the signal ("full"). Either the mean over positions
follows ("mean"), so that only the border can reveal where something is, or a dense layer on the
whole map ("dense"), which has all positions in any case.

Two probes measure what was learned, besides accuracy:

    position leak   R² of a linear read-out of position from the last map, on noise
                    (`cnn.probes.position_leak`)
    shift error     how far the last map is from moving with its input, for a circular shift by one
                    sample (`cnn.probes.shift_error`)

Reference:
    Islam, Jia and Bruce (2020), "How much position information do convolutional neural networks
    encode?", read position out of VGG and ResNet, and hardly any without zero padding. Kayhan and
    van Gemert (2020) find position in networks with any padding that cuts windows off, "valid"
    included (`experiments.position_leak`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import unknown_name
from experiments.harness import cli, plots, study
from experiments.harness.study import Name, Outcome, Summary, Table, number, percent

with epy.lazy_imports():
    import jax

    from cnn import layers, probes, train

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.ops import Padding, PaddingMode
    from cnn.train import Config, Result

QUESTION = "What does padding change in a network?"
HYPOTHESIS = (
    "every border but the circular one reveals position, zeros the most; on signals whose place "
    "is random it makes no difference to accuracy."
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
"""Name of the layer, after its ReLU, on which the probes measure."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    borders: tuple[str, ...] = tuple(BORDERS)
    """Kinds of padding. The first one is what the others are compared with."""
    steps: int = 1000
    lr: float = 1e-2
    seeds: int = 3
    full: bool = False
    """Use Fashion-MNIST, which must be prepared, and the folder OUT/full.

    About 3 hours of one core, estimated from 50 steps of one network.
    """
    out: Path = Path("results/padding")


def network(border: str, head: str, rank: int = 1) -> nn.Module:
    """Return the network with one of `BORDERS` and of `HEADS`.

    Raises:
        InputError: The border is unknown.
    """
    if border not in BORDERS:
        raise unknown_name("border", border, BORDERS)
    padding, mode = BORDERS[border]
    block = (layers.Conv(16, (5,) * rank, 1, padding, mode), layers.ReLU())
    top = layers.GlobalAvgPool() if head == "mean" else layers.Flatten()
    return layers.Chain((*block * 3, top, layers.Dense(10, scale=1.0)))


def points(settings: Settings) -> dict[Name, Config]:
    """Return every border with every head."""
    data, recipe = settings.load(), settings.recipe()
    rank = len(data.input_shape) - 1
    return {
        (border, head): train.Config(model=network(border, head, rank), data=data, **recipe)
        for head in HEADS
        for border in settings.borders
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the position leak of the last map on noise, and its error under a shift by one."""
    shape = config.data.input_shape
    fitted, held_out = jax.random.normal(jax.random.key(0), (2, 1000, *shape))
    found: dict[str, list[float]] = {probe: [] for probe in PROBES}
    for state in result.states:
        last = jax.jit(probes.layer_functions(config.model, state.variables, shape)[LAST_MAP])
        found["position leak"].append(float(probes.position_leak(last(fitted), last(held_out))))
        found["shift error"].append(float(probes.shift_error(last, held_out, 1)))
    return found


def summarize(settings: Settings, results: Mapping[Name, Outcome]) -> Summary:
    """Return findings, tables and figure."""
    base, *others = settings.borders

    def by_head(text: Callable[[str, str], str], borders: Sequence[str]) -> str:
        return "; ".join(
            f"head {head}: " + ", ".join(f"{border} {text(border, head)}" for border in borders)
            for head in HEADS
        )

    def leak(border: str, head: str) -> str:
        return f"{results[border, head]['position leak'].mean():.2f}"

    def difference(border: str, head: str) -> str:
        a, b = (results[name, head]["test_accuracy"] for name in (border, base))
        return study.difference(a, b, brief=True)

    findings = [
        f"R² of position, read out linearly from the last map: {by_head(leak, settings.borders)}."
    ]
    if others:
        findings.append(
            f"Difference in accuracy to {base}, in points with 95 % intervals: "
            f"{by_head(difference, others)}."
        )
    rows = [
        [", ".join(name), percent(o["test_accuracy"]), *(number(o[probe]) for probe in PROBES)]
        for name, o in results.items()
    ]
    heads = ["border, head", f"{settings.part} accuracy, %", "position, R²", "shift error"]
    pairs = [((border, head), (base, head)) for head in HEADS for border in others]
    table = Table(f"{settings.title}, {settings.protocol}", heads, rows)
    panels = [
        plots.Dots(
            [
                plots.Series(
                    f"head: {head}",
                    [scale * results[border, head][value] for border in settings.borders],
                )
                for head in HEADS
            ],
            settings.borders,
            horizontal=True,
            x_label=label,
        )
        for value, scale, label in (
            ("test_accuracy", 100, f"{settings.part} accuracy (%)"),
            ("position leak", 1, "position read out (R²)"),
            ("shift error", 1, "shift error (relative)"),
        )
    ]
    figure = plots.Figure(panels, height=2.4, share_y=True, legend="right")
    return Summary(findings, [table, study.differences(results, pairs)], {"padding": figure})


STUDY = study.Study(QUESTION, HYPOTHESIS, ("border", "head"), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
