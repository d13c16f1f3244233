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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table, number

with epy.lazy_imports():
    import jax

    from cnn import layers, probes

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
    """Use Fashion-MNIST: about 3 hours of one core (estimated)."""
    out: Path = Path("results/padding")


def network(border: str, head: str, rank: int = 1) -> nn.Module:
    """Return the network with one of `BORDERS` and of `HEADS`. Raise `InputError`."""
    padding, mode = study.choose("border", border, BORDERS)
    block = (layers.Conv(16, (5,) * rank, 1, padding, mode), layers.ReLU())
    top = layers.GlobalAvgPool() if head == "mean" else layers.Flatten()
    return layers.Chain((*block * 3, top, layers.Dense(10, scale=1.0)))


def points(settings: Settings) -> Points:
    """Return every border with every head."""
    data = settings.load()
    rank = len(data.input_shape) - 1
    return {
        (border, head): settings.config(network(border, head, rank), data)
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


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    base, *others = settings.borders

    def by_head(texts: Mapping[Any, str]) -> str:
        return "; ".join(
            f"head {head}: " + ", ".join(f"{n[0]} {texts[n]}" for n in texts if n[1] == head)
            for head in HEADS
        )

    leaks = {name: f"{outcome['position leak'].mean():.2f}" for name, outcome in results.items()}
    accuracy = {name: outcome["test_accuracy"] for name, outcome in results.items()}
    pairs = [((border, head), (base, head)) for head in HEADS for border in others]
    gaps = {a: study.difference(accuracy[a], accuracy[b], brief=True) for a, b in pairs}
    findings = [f"R² of position, read out linearly from the last map: {by_head(leaks)}."]
    if others:
        difference = f"Difference in accuracy to {base}, in points with 95 % intervals"
        findings.append(f"{difference}: {by_head(gaps)}.")
    rows = [
        [", ".join(name), o["test_accuracy"], *(number(o[probe]) for probe in PROBES)]
        for name, o in results.items()
    ]
    heads = ["border, head", f"{settings.part} accuracy, %", "position, R²", "shift error"]
    table = Table(f"{settings.title}, {settings.protocol}", heads, rows)

    def panel(value: str, scale: float, label: str) -> plots.Dots:
        values = {h: [scale * results[b, h][value] for b in settings.borders] for h in HEADS}
        series = [plots.Series(f"head: {head}", of) for head, of in values.items()]
        return plots.Dots(series, settings.borders, horizontal=True, x_label=label)

    panels = [
        panel("test_accuracy", 100, f"{settings.part} accuracy (%)"),
        panel("position leak", 1, "position read out (R²)"),
        panel("shift error", 1, "shift error (relative)"),
    ]
    figure = plots.Figure(panels, height=2.4, share_y=True, legend="right")
    return Summary(findings, [table, study.differences(results, pairs)], {"padding": figure})


STUDY = study.Study(QUESTION, HYPOTHESIS, ("border", "head"), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
