"""What does a convolution lose where the position is the answer?

    python -m experiments.handicap
    python -m experiments.handicap --tune   # choose the rates again

A square of 3×3 pixels is somewhere in an image of 16×16, and the network has to say where: it
predicts the row and the column of its centre, by the squared error. There are 14×14 positions. A
quarter of them is for testing, drawn by the seed (uniform split), or all 49 of the lower right
quadrant. A prediction is right if row and column are, to half a pixel. The networks are

    conv         two 3×3 convolutions with 16 channels and stride 2, a dense layer on their map
    local        the same without sharing
    dense        the same without sharing and locality
    global       a 1×1 and a 3×3 convolution with 8 channels, without stride and ReLU, the maximum
                 over positions, a dense layer
    coordinates  as global, but the image has two more channels: the row and the column of a pixel

The last two are smaller forms of the network with coordinates in the code of the reference. The
maximum makes a network blind to place, up to the border. Those with a dense layer on a map can
learn a place that they were shown, and its neighbours. To say a row and a column that were never
shown together takes another bias: that a row means the same in all columns. Learning rate and
weight decay of every network are tuned for both splits, on a quarter of its training positions.

Reference:
    Liu et al. 2018, "An intriguing failing of convolutional neural networks and the CoordConv
    solution", "supervised coordinate regression"; code: github.com/uber-research/CoordConv. There,
    squares have 9×9 pixels in 64×64, and both splits are these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn import ablations, layers
    from cnn import data as datasets
    from cnn.data import split

if TYPE_CHECKING:
    from flax import linen as nn
    from jaxtyping import Array, Bool, Float

    from cnn.data import Dataset
    from cnn.train import Config, Result

QUESTION = "What does a convolution lose where the position is the answer?"
HYPOTHESIS = (
    "with a global maximum, nearly everything; with a dense layer on its map it finds new "
    "positions between known ones, but none in a quadrant that it was never shown, nor does a "
    "network without sharing or locality; coordinates as channels are enough for both."
)
SIZE, SQUARE = 16, 3
"""Pixels on each side of the image, and of the square."""
POSITIONS = SIZE - SQUARE + 1
"""Positions of the square along each axis."""
UNIT = (POSITIONS - 1) / 2
"""Pixels in a unit of targets and coordinates, which are -1 and 1 at the ends of the positions."""
RUNGS = ("conv", "local", "dense", "global", "coordinates")
UNIFORM, QUADRANT = "uniform", "quadrant"
TESTED = 1 / 4
"""Part of the positions that is held out by a seed."""
DARK = 5
"""Pixels of the errors that are darkest in a figure."""
CLAIMS = (
    Claim(
        "uniform: a dense layer on the map is worth more than 25 points",
        *(("conv", UNIFORM), ("global", UNIFORM)),
        above=0.25,
    ),
    Claim(
        "a new quadrant costs conv more than 25 points",
        *(("conv", UNIFORM), ("conv", QUADRANT)),
        above=0.25,
    ),
    Claim(
        "quadrant: coordinates find more than 25 points more than conv",
        *(("coordinates", QUADRANT), ("conv", QUADRANT)),
        above=0.25,
    ),
    Claim(
        "quadrant: sharing is not what is wrong",
        *(("local", QUADRANT), ("conv", QUADRANT)),
        below=0.05,
    ),
    Claim(
        "quadrant: locality is not what is wrong",
        *(("dense", QUADRANT), ("conv", QUADRANT)),
        below=0.05,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    rungs: tuple[str, ...] = RUNGS
    """Networks."""
    steps: int = 500
    seeds: int = 10
    """Seeds per point. For the uniform split each draws positions of its own."""
    out: Path = Path("results/handicap")

    large: ClassVar[str] = ""


def accuracy(outputs: Float[Array, "b 2"], targets: Float[Array, "b 2"]) -> Bool[Array, " b"]:
    """Return whether row and column are right to half a pixel."""
    return (jnp.abs(outputs - targets) * UNIT < 0.5).all(-1)


def distance(outputs: Float[Array, "b 2"], targets: Float[Array, "b 2"]) -> Float[Array, " b"]:
    """Return the distances in pixels."""
    return jnp.sqrt(jnp.square(outputs - targets).sum(-1)) * UNIT


def squares(coordinates: bool) -> datasets.Split:
    """Return an image of every position, row by row, with one channel, or with coordinates."""
    rows, columns = np.divmod(np.arange(POSITIONS**2), POSITIONS)
    x = np.zeros((POSITIONS**2, SIZE, SIZE, 3 if coordinates else 1), np.float32)
    for image, row, column in zip(x, rows, columns, strict=True):
        image[row : row + SQUARE, column : column + SQUARE, 0] = 1
    if coordinates:
        scale = (np.arange(SIZE) - (SIZE - 1) / 2) / UNIT
        x[..., 1], x[..., 2] = scale[:, None], scale
    y = np.stack([rows, columns], 1) / UNIT - 1
    return datasets.Split(x, y.astype(np.float32))


def where(name: str, seed: int, coordinates: bool = False) -> Dataset:
    """Return the data with the positions of a split held out for testing."""
    whole = squares(coordinates)
    quadrant = (whole.y > 0).all(1)
    parts = {
        UNIFORM: lambda: split.split_by_seed(whole.y, seed, TESTED),
        QUADRANT: lambda: (np.flatnonzero(~quadrant), np.flatnonzero(quadrant)),
    }
    train, test = (whole.take(rows) for rows in study.choose("split", name, parts)())
    no_scaling = ((0.0,) * whole.x.shape[-1], (1.0,) * whole.x.shape[-1])
    return datasets.Dataset("where", train, test, ("row", "column"), *no_scaling)


def network(rung: str) -> nn.Module:
    """Return a network. Raise `InputError` if there is no such one."""
    last = layers.Dense(2, scale=1.0)
    below = (layers.Conv(16, (3, 3), 2, padding=1), layers.ReLU()) * 2
    conv = layers.Chain((*below, layers.Flatten(), last))
    linear = (layers.Conv(8, (1, 1), scale=1.0), layers.Conv(8, (3, 3), scale=1.0))
    pooled = layers.Chain((*linear, layers.GlobalMaxPool(), last))
    known = {"conv": conv, "local": ablations.unshare(conv), "dense": ablations.densify(conv)}
    return study.choose("rung", rung, {**known, "global": pooled, "coordinates": pooled})


def points(settings: Settings) -> Points:
    """Return every network on both splits, for each seed."""
    data = {
        (name, seed, has): where(name, seed, has)
        for name, seed, has in product((UNIFORM, QUADRANT), settings.seed_range, (False, True))
    }
    names = ("accuracy", "distance")
    return {
        (rung, name, str(seed)): settings.config(
            network(rung),
            data[name, seed, rung == "coordinates"],
            loss="squared-error",
            metrics=tuple(f"experiments.handicap:{each}" for each in names),
            seed=seed,
            seeds=1,
        )
        for rung, name, seed in product(settings.rungs, (UNIFORM, QUADRANT), settings.seed_range)
    }


def points_to_tune(settings: Settings) -> Points:
    """Return the same with a quarter of the training positions as test set, drawn by the seed."""

    def held_out(data: Dataset, seed: int) -> Dataset:
        rows = split.split_by_seed(data.train.y, seed, TESTED)
        kept, held = (data.train.take(part) for part in rows)
        return replace(data, train=kept, test=held)

    found = points(replace(settings, validate=False))
    return {name: replace(c, data=held_out(c.data, c.seed)) for name, c in found.items()}


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return the error in pixels at every position, `(14, 14)`, by seed."""
    whole = squares(coordinates=config.data.input_shape[-1] > 1)
    predict = jax.jit(config.model.apply)
    targets = jnp.asarray(whole.y)
    found = [distance(predict(state.variables, whole.x), targets) for state in result.states]
    return {"errors": [np.asarray(each).reshape(POSITIONS, POSITIONS) for each in found]}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figures."""
    measures = ("test_accuracy", "train_accuracy", "test_distance")
    rows = []
    for (rung, name), one in results.items():
        right, known, far = (one[key] for key in measures)
        rows.append([f"{rung}: {name}", one.parameters, right, known, study.number(far, 2)])
    heads = ["network: split", "parameters", f"{settings.part}, %", "training, %", "error, pixels"]
    caption = f"Positions that are right, and mean {settings.part} error, {settings.protocol}"
    figures = {"handicap": figure(settings, results), "handicap_maps": maps(settings, results)}
    return Summary(findings(settings, results), [Table(caption, heads, rows)], figures)


def findings(settings: Settings, results: Results) -> list[str]:
    """Return how many positions are right, and how far off the mean position would be."""
    found = []
    for name, which in ((UNIFORM, "new positions"), (QUADRANT, "a new quadrant")):
        right = (
            f"{r} {100 * results[r, name]['test_accuracy'].mean():.1f}" for r in settings.rungs
        )
        data = where(name, settings.seed)
        middle = jnp.asarray(data.train.y.mean(0, keepdims=True))
        far = float(distance(middle, jnp.asarray(data.test.y)).mean())
        found.append(
            f"Percent of {which} that are right: {', '.join(right)}. The mean of the training "
            f"positions is off by {far:.1f} pixels."
        )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return which part of the test positions is right, by network and split."""
    panel = plots.Dots(
        [
            plots.Series(name, [100 * results[r, name]["test_accuracy"] for r in settings.rungs])
            for name in (UNIFORM, QUADRANT)
        ],
        settings.rungs,
        y_label=f"{settings.part} positions found (%)",
        y_limits=(-3, 103),
    )
    return plots.Figure([panel])


def maps(settings: Settings, results: Results) -> plots.Figure:
    """Return the error at every position, where a quadrant was not shown."""
    box = (POSITIONS / 2 - 0.5, POSITIONS - 0.5)
    panels = [
        plots.Image(
            np.minimum(results[rung, QUADRANT]["errors"].mean(0) / DARK, 1),
            signed=False,
            title=rung,
            references=[plots.Reference(x=box, y=box, color=plots.ORANGE, line="-")],
        )
        for rung in settings.rungs
    ]
    note = f"error by position, white: none, dark: {DARK} pixels or more; box: the new quadrant"
    return plots.Figure(panels, height=1.7, note=note)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "split", "draw"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    pooled=True,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.005, 0.01, 0.02), "weight_decay": (0.0, 0.1)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
