"""What does padding change in a network?

    python -m experiments.padding

A small network on MNIST-1D has three convolutions (window 5, stride 1, 16 channels) and then the
mean over positions. Beyond the border it sees zeros, the reflected signal, its last value, or the
other end; or its windows stay inside ("valid"), or go on as long as they touch the signal ("full").
The mean forgets positions, so only the border can reveal where something is, and all networks have
the same parameters. (With a dense head, "valid" and "full" would change the number of weights, and
position would be known in any case.) The learning rate of every border is tuned. It rises over the
first seventh of the steps: without that, one training in ten does not fit its training set.

After training, position is read out of the mean over positions: an object of 9 samples of noise is
put at each of 32 places of a signal of zeros, and ridge regression on 256 random ReLU features of
the 16 means predicts its place, on objects that were not fitted (`cnn.probes.position_leak`), with
the penalty that is best for others that were not fitted either. R² is 0 if the means do not depend
on the place.

Reference:
    Islam, Jia and Bruce (2020), "How much position information do convolutional neural networks
    encode?", read position out of maps of VGG and ResNet, and hardly any without zero padding.
    Kayhan and van Gemert (2020) find position in networks whose border cuts windows off, "valid"
    included, and none with full convolution without biases (`experiments.position_leak`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table, number

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp

    from cnn import layers, probes

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.ops import Padding, PaddingMode
    from cnn.train import Config, Result

QUESTION = "What does padding change in a network?"
HYPOTHESIS = (
    "a border that cuts windows off reveals where an object is, most if windows stay inside, "
    "and a circular one does not; on signals whose place is random, the border changes accuracy "
    "by less than a point."
)
BORDERS: dict[str, tuple[Padding, PaddingMode]] = {
    "zeros": (2, "zeros"),
    "reflect": (2, "reflect"),
    "replicate": (2, "replicate"),
    "circular": (2, "circular"),
    "valid": ("VALID", "zeros"),
    "full": ("FULL", "zeros"),
}
POSITION = "position, R²"
LAST_MAP = "layers_5"
"""Name of the layer, after its ReLU, whose mean is read."""
OBJECTS, WIDTH, FEATURES = 400, 9, 256
"""Objects that are fitted, and as many that choose the penalty, and that test; their size along an
axis; and the random features of the read-out."""
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e4)
"""Of the ridge regression; with the largest, the prediction is constant."""
WARMUP = 1 / 7
"""Share of the steps over which the learning rate rises."""
CLAIMS = (
    *(
        study.Claim(
            f"{border} is as accurate as zeros", (border,), ("zeros",), above=-0.01, below=0.01
        )
        for border in ("circular", "valid", "full")
    ),
    *(
        study.Claim(text, (a,), (b,), above=0.1, measure=POSITION)
        for text, a, b in (
            ("zeros reveal position, circular does not", "zeros", "circular"),
            ("windows that stay inside reveal it more than zeros", "valid", "zeros"),
            ("windows that stay inside reveal it more than full convolution", "valid", "full"),
        )
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    borders: tuple[str, ...] = tuple(BORDERS)
    """Kinds of padding."""
    steps: int = 700
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST: several hours."""
    out: Path = Path("results/padding")


def network(border: str, rank: int = 1) -> nn.Module:
    """Return the network with one of `BORDERS`. Raise `InputError` if there is no such one."""
    padding, mode = study.choose("border", border, BORDERS)
    block = (layers.Conv(16, (5,) * rank, 1, padding, mode), layers.ReLU())
    return layers.Chain((*block * 3, layers.GlobalAvgPool(), layers.Dense(10, scale=1.0)))


def points(settings: Settings) -> Points:
    """Return a point per border."""
    data = settings.load()
    rank = len(data.input_shape) - 1
    warmup = round(WARMUP * settings.steps)
    return {(b,): settings.config(network(b, rank), data, warmup=warmup) for b in settings.borders}


def objects(shape: Sequence[int], seed: int) -> jax.Array:
    """Return objects of noise in all places along the first axis, `(objects, places, *shape)`.

    On other axes they are in the middle.
    """
    length, *others, channels = shape
    size = [WIDTH, *(WIDTH for _ in others), channels]
    noise = jax.random.normal(jax.random.key(seed), (OBJECTS, *size))
    around = [((n - WIDTH) // 2, (n - WIDTH + 1) // 2) for n in others]
    places = [
        jnp.pad(noise, [(0, 0), (at, length - WIDTH - at), *around, (0, 0)])
        for at in range(length - WIDTH + 1)
    ]
    return jnp.stack(places, 1)


def read_out(fitted: jax.Array, choosing: jax.Array, tested: jax.Array) -> float:
    """Return R² of the place of objects, from features `(objects, places, channels)` of theirs."""
    mean, deviation = (of((0, 1), keepdims=True) for of in (fitted.mean, fitted.std))
    keys = jax.random.split(jax.random.key(0))
    weights = jax.random.normal(keys[0], (fitted.shape[-1], FEATURES)) / fitted.shape[-1] ** 0.5
    offsets = jax.random.normal(keys[1], (1, 1, FEATURES))

    def expand(h: jax.Array) -> jax.Array:
        z = (h - mean) / jnp.where(deviation > 0, deviation, 1)  # a dead channel stays 0
        return jax.nn.relu(z @ weights + offsets)

    fitted, choosing, tested = map(expand, (fitted, choosing, tested))
    best = max(PENALTIES, key=lambda ridge: float(probes.position_leak(fitted, choosing, ridge)))
    return float(probes.position_leak(fitted, tested, best))


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return how well the place of an object is read out of the mean of the last map."""
    shape = config.data.input_shape
    drawn = [objects(shape, seed) for seed in range(3)]
    found = []
    for state in result.states:
        last = jax.jit(probes.layer_functions(config.model, state.variables, shape)[LAST_MAP])

        def means(x: jax.Array, last: Callable[[jax.Array], jax.Array] = last) -> jax.Array:
            maps = last(x.reshape(-1, *shape))
            return maps.mean(range(1, maps.ndim - 1)).reshape(*x.shape[:2], -1)

        found.append(read_out(*map(means, drawn)))
    return {POSITION: found}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    by_position = sorted(results, key=lambda name: -results[name][POSITION].mean())
    listed = ", ".join(
        f"{border} {results[border,][POSITION].mean():.2f}" for (border,) in by_position
    )
    findings = [f"R² of the place of an object, read out of the means: {listed}."]
    rows = [[b, o["test_accuracy"], number(o[POSITION])] for (b,), o in results.items()]
    table = Table(
        f"{settings.title}, {settings.protocol}",
        ["border", f"{settings.part} accuracy, %", POSITION],
        rows,
    )

    def panel(values: str, scale: float, label: str) -> plots.Dots:
        series = plots.Series("", [scale * results[name][values] for name in results])
        borders = [border for (border,) in results]
        return plots.Dots([series], borders, horizontal=True, x_label=label)

    panels = [
        panel("test_accuracy", 100, f"{settings.part} accuracy (%)"),
        panel(POSITION, 1, "place of an object, read out (R²)"),
    ]
    return Summary(findings, [table], {"padding": plots.Figure(panels, height=2.4, share_y=True)})


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("border",),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02, 0.04)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
