"""What does pooling make a network indifferent to, and what does it learn to be?

    python -m experiments.pooling

One small network (two convolutions of 3×3 with 8 and 16 channels, each with a ReLU and a pooling by
2, and a dense head) on the 8×8 digits in the middle of 16×16 pixels, with pooling of each kind
alone: the largest of 2×2 cells, their mean, one cell of four (subsampled), or none at all. Two more
have four times the channels, of which every four are pooled into their largest, before subsampling
("across") or beside spatial max-pooling ("across, max"). Each trains on digits as they are, on
digits moved by up to one pixel, and on digits turned by up to 45°, and is tested on such.

Spatial pooling is made for small shifts. Pooling across maps is made for nothing: Goodfellow,
Bengio and Courville (2016, section 9.3 and figure 9.9) say that it can learn what to be invariant
to, since each of the pooled maps may answer to another rotation. Two probes look: how far a shift
by one pixel, and a turn by 15°, move the last map below its pooling and above it, relative to its
size (`cnn.probes.invariance_error`).

Not measured yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli, study

if TYPE_CHECKING:
    import jax
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.ablations import Pooling
    from cnn.data import Dataset, Split
    from cnn.train import Config, Result
    from experiments.report import Table
    from experiments.study import Name, Outcome, Story

QUESTION = "What does pooling make a network indifferent to?"
HYPOTHESIS = (
    "spatial pooling lowers the error under a shift however it is trained; pooling across maps "
    "lowers that under rotation, but only where it trained with rotations."
)
KINDS: dict[str, tuple[Pooling, int]] = {
    "none": ("none", 1),
    "subsampled": ("stride", 1),
    "max": ("max", 1),
    "mean": ("avg", 1),
    "across": ("stride", 4),
    "across, max": ("max", 4),
}
"""Spatial pooling, and how many neighbouring maps are pooled into one."""
POSES = ("as they are", "moved", "turned")
BELOW, ABOVE = "layers_4", "layers_5"
"""The last map before and after its pooling."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Settings):
    """Which poolings, and what is kept."""

    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of pooling."""
    poses: tuple[str, ...] = POSES
    """What the digits are trained and tested in."""
    steps: int = 700
    """Optimizer steps of every run."""
    lr: float = 5e-3
    """Largest learning rate of Adam."""
    seeds: int = 3
    """Seeds per point; a seed has the same data order at every kind of pooling."""
    out: Path = Path("results/pooling")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def network(kind: str) -> nn.Module:
    """Return the network with one of `KINDS`. Raises `InputError` for an unknown one."""
    from cnn.ablations import repool
    from cnn.errors import unknown_name
    from cnn.layers import Chain, Conv, Dense, Flatten, MaxPool, MaxPoolChannels, ReLU

    if kind not in KINDS:
        raise unknown_name("pooling", kind, KINDS)
    spatial, across = KINDS[kind]
    pool = Chain((MaxPoolChannels(across), MaxPool((2, 2))))
    body = [p for c in (8, 16) for p in (Conv(across * c, (3, 3), padding=1), ReLU(), pool)]
    return repool(Chain((*body, Flatten(), Dense(10, gain=1.0))), spatial)


def posed(data: Dataset, pose: str) -> Dataset:
    """Return every image in every place (9) or angle (7) of one of `POSES`."""
    import jax.numpy as jnp
    import numpy as np

    from cnn.data import Split
    from cnn.probes import rotate, shift

    ways: dict[str, list[Callable[[jax.Array], jax.Array]]] = {
        "as they are": [partial(shift, by=0)],
        "moved": [partial(shift, by=by) for by in product((-1, 0, 1), repeat=2)],
        "turned": [partial(rotate, degrees=by) for by in range(-45, 46, 15)],
    }
    background = np.asarray(data.train.x).min()

    def every(split: Split) -> Split:
        x = jnp.asarray(split.x - background)  # zeros come in when an image is turned
        images = [np.asarray(way(x)) + background for way in ways[pose]]
        return Split(np.concatenate(images), np.tile(split.y, len(images)))

    return replace(data, train=every(data.train), test=every(data.test))


def points(settings: Study) -> dict[Name, Config]:
    """Return every kind of pooling on digits in every pose."""
    from cnn.data import load
    from cnn.train import Config
    from experiments.translation import canvas

    digits, recipe = canvas(load("digits")), settings.recipe()
    sets = {pose: posed(digits, pose) for pose in settings.poses}
    return {
        (kind, pose): Config(model=network(kind), data=data, **recipe)
        for pose, data in sets.items()
        for kind in settings.kinds
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return how far a shift by 1 and a turn by 15° move the last map, before and after pooling."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn.data import load
    from cnn.probes import invariance_error, layer_functions, rotate, shift
    from experiments.translation import canvas

    digits = canvas(load("digits"))
    x = jnp.asarray(digits.test.x)
    background = np.asarray(digits.train.x).min()
    ways: dict[str, Callable[[jax.Array], jax.Array]] = {
        "shift": lambda x: shift(x, 1),
        "turn": lambda x: rotate(x - background, 15) + background,
    }
    found: dict[str, list[float]] = {f"{way} {at}": [] for way in ways for at in ("below", "above")}
    for state in result.states:
        maps = layer_functions(config.model, state.variables, digits.input_shape)
        for at, layer in (("below", BELOW), ("above", ABOVE)):
            f = jax.jit(maps[layer])
            for name, way in ways.items():
                found[f"{name} {at}"].append(float(invariance_error(f, x, way)))
    return found


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    findings = []
    for way, pose in (("shift", "moved"), ("turn", "turned")):
        for places in (p for p in (POSES[0], pose) if p in settings.poses):
            shown = [
                f"{kind} {o[f'{way} below'].mean():.2f} to {o[f'{way} above'].mean():.2f}"
                for (kind, trained), o in results.items()
                if trained == places
            ]
            findings += [f"Moved by a {way}, below to above pooling, {places}: {', '.join(shown)}."]
    pairs = [
        ((kind, pose), ("subsampled", pose))
        for pose in settings.poses
        for kind in settings.kinds
        if kind != "subsampled"
    ]
    values = ("test_accuracy", "shift above", "turn above")
    tables = [
        table(settings, results),
        *(study.differences(results, pairs, value) for value in values),
    ]
    return study.Story(findings, tables, {"pooling": draw(settings, results)})


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return accuracy in percent and the probes, a row per pooling and pose."""
    from experiments.report import Table, number, percent

    probes = [f"{way} {at}" for way in ("shift", "turn") for at in ("below", "above")]
    rows = [
        [", ".join(name), percent(o["test_accuracy"]), *(number(o[probe]) for probe in probes)]
        for name, o in results.items()
    ]
    part = "validation" if settings.validate else "test"
    caption = (
        f"Digits, accuracy in percent and relative change of the last map, mean ± standard "
        f"deviation over {settings.seeds} seeds, {settings.steps:,} steps"
    )
    return Table(caption, ["pooling, digits", f"{part}, %", *probes], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw accuracy and what moves the pooled map, by kind of pooling, a colour per pose."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.report import AMBER, BLACK, COLUMN_WIDTH, SKY, STYLE, spread

    part = "validation" if settings.validate else "test"
    panels = (
        ("test_accuracy", 100, f"{part} accuracy (%)"),
        ("shift above", 1, "change by a shift of 1 pixel"),
        ("turn above", 1, "change by a turn of 15°"),
    )
    looks = tuple(zip(settings.poses, (BLACK, AMBER, SKY), "o^s", (-0.2, 0, 0.2), strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.9), layout="constrained")
        columns = figure.subplots(1, 3, sharey=True)
        for axes, (value, unit, label) in zip(columns, panels, strict=True):
            for pose, colour, marker, apart in looks:
                scores = [unit * results[kind, pose][value] for kind in settings.kinds]
                means, deviations = spread(scores)
                axes.errorbar(
                    means,
                    [i + apart for i in range(len(scores))],
                    xerr=deviations,
                    color=colour,
                    fmt=marker,
                    ms=3.5,
                    capsize=2,
                    label=f"digits {pose}",
                )
            axes.set_yticks(range(len(settings.kinds)), settings.kinds)
            axes.set_ylim(len(settings.kinds) - 0.5, -0.5)
            axes.set_xlabel(label)
            axes.grid(axis="x", lw=0.4, alpha=0.5)
        handles, labels = columns[0].get_legend_handles_labels()
        title = f"trained and tested on (mean ± s.d. of {settings.seeds} seeds)"
        figure.legend(
            handles, labels, title=title, frameon=False, loc="outside lower center", ncols=3
        )
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("pooling", "digits"), points, tell, measure)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
