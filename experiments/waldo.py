"""How many examples does it take to find a pattern that may be anywhere?

    python -m experiments.waldo
    python -m experiments.waldo --tune   # choose the rates again

Where's Waldo: an image has k patches of 4×4 pixels, so d = 16, of noise from N(0, 1). One patch,
another one in every image, also wears stripes of amplitude 1. The label says whether their first
row is light or dark. (Another pattern of this norm would be as hard: gradient descent from normal
weights treats all of them alike.)

Three rungs are compared: a convolution whose windows are the patches, with 8 channels, ReLU, global
mean and two logits; the locally connected network, whose patches do not share their kernel; and the
dense one, whose units see the whole image. All train by gradient descent with momentum, because the
theorems below are about it. Every seed draws its own data. The number of examples needed for an
error of 25 % is read from curves of errors as in `invariance_in_label`. Rates are tuned with k²
examples, other ones than in the study.

The least error of any rule, which knows the stripes but not their place, is a comparison of two
mean likelihoods. The best rule that treats all patches alike and is linear in the image has the
error Φ(-4 / √k): 2 % of 4 patches, 25 % of 36. Below that a network must detect.

Reference:
    Lahoti, Karp, Winston, Singh and Li 2024, "Role of locality and weight sharing in image-based
    tasks": for this task, the "dynamic signal distribution", convolutional networks need Õ(k + d)
    examples, local ones Ω(k d) and at most Õ(k (k + d)), dense ones Ω(k² d) (from the abstract).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.counting import (
    ERROR,
    check_counts,
    finding,
    is_known,
    needed,
    number,
    slopes,
)
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import jax
    import numpy as np
    from scipy import special

    from cnn import ablations, layers
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split
    from cnn.train import Config, Result

QUESTION = "How many examples does it take to find a pattern that may be anywhere?"
HYPOTHESIS = (
    "among 36 patches sharing saves three quarters of the examples, and so does locality; both "
    "are worth more there than among 4; the number of examples needed grows less than like "
    "k with sharing, about like k without, and like k² in the dense network."
)
RUNGS = ("conv", "local", "dense")
PATCH = 4
"""Pixels on each side of a patch."""
TESTED = 2000
"""Test examples of each seed."""
LR = 0.3
"""Learning rate where none was tuned."""
FEWER, MORE = "1280", "5120"
CLAIMS = (
    Claim(
        "at k = 36, sharing saves three quarters of the examples",
        *(("conv", "36", FEWER), ("local", "36", MORE)),
        above=0.0,
    ),
    Claim(
        "at k = 36, locality saves three quarters of the examples",
        *(("local", "36", FEWER), ("dense", "36", MORE)),
        above=0.0,
    ),
    Claim(
        "sharing is worth more at k = 36 than at k = 4",
        *(("conv", "36", MORE), ("local", "36", MORE)),
        above=0.01,
        minus=(("conv", "4", MORE), ("local", "4", MORE)),
    ),
    Claim(
        "locality is worth more at k = 36 than at k = 4",
        *(("local", "36", MORE), ("dense", "36", MORE)),
        above=0.01,
        minus=(("local", "4", MORE), ("dense", "4", MORE)),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sides: tuple[int, ...] = (2, 3, 4, 6)
    """Patches along each side of an image; k is the square of that."""
    sizes: tuple[int, ...] = (5, 20, 80, 320, 1280, 5120)
    """Numbers of training examples."""
    steps: int = 500
    batch_size: int = 128
    """Examples per step, or all if there are fewer."""
    seeds: int = 10
    """Seeds per point; each generates its own data."""
    out: Path = Path("results/waldo")

    large: ClassVar[str] = ""


def stripes() -> np.ndarray:
    """Return the pattern of class 1, `(4, 4)`, light in the first row; class 0 has minus that."""
    return np.tile([[1.0], [-1.0]], (PATCH // 2, PATCH))


def places(side: int, count: int, seed: int, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the patch with the stripes and the class, `(count,)`; part 0 trains, part 1 tests."""
    rng = np.random.default_rng((seed, side, part, 1))
    return np.divmod(rng.integers(2 * side**2, size=count), 2)


def images(side: int, size: int, seed: int) -> Dataset:
    """Return `size` training examples `(4 side, 4 side, 1)`.

    With the same seed, a smaller set is the beginning of a larger one.
    """

    def split(count: int, part: int) -> Split:
        patch, y = places(side, count, seed, part)
        rng = np.random.default_rng((seed, side, part, 0))
        x = rng.standard_normal((count, side, PATCH, side, PATCH), np.float32)
        signed = (2 * y - 1).reshape(-1, 1, 1) * stripes()
        x[np.arange(count), patch // side, :, patch % side] += signed
        return datasets.Split(x.reshape(count, *2 * (PATCH * side,), 1), y.astype(np.int32))

    classes = ("dark first", "light first")
    return datasets.Dataset("waldo", split(size, 0), split(TESTED, 1), classes, (0.0,), (1.0,))


def least_error(side: int, seed: int) -> float:
    """Return the error on the test images of comparing the mean likelihoods over all patches."""
    test = images(side, 1, seed).test
    x = np.asarray(test.x).reshape(-1, side, PATCH, side, PATCH)
    match = np.einsum("nribj,ij->nrb", x, stripes())
    light, dark = (special.logsumexp(sign * match, axis=(1, 2)) for sign in (1, -1))
    return float(((light > dark) != test.y).mean())


def rungs() -> dict[str, nn.Module]:
    """Return the networks by name, from the strongest bias to none."""
    head = (layers.GlobalAvgPool(), layers.Dense(2, scale=1.0))
    conv = layers.Chain((layers.Conv(8, (PATCH, PATCH), PATCH), layers.ReLU(), *head))
    return {"conv": conv, "local": ablations.unshare(conv), "dense": ablations.densify(conv)}


def points(settings: Settings) -> Points:
    """Return every rung on every number of patches and examples, per seed. Raise `InputError`."""
    check_counts(sides=settings.sides, sizes=settings.sizes)
    return runs(settings, product(settings.sides, settings.sizes))


def points_to_tune(settings: Settings) -> Points:
    """Return every rung on every number of patches, with k² examples and new ones to validate."""
    return runs(replace(settings, validate=False), ((side, side**4) for side in settings.sides))


def runs(settings: Settings, sides_and_sizes: Iterable[tuple[int, int]]) -> Points:
    """Return every rung on every one of these sides and numbers of examples, for each seed."""
    keys = [(*pair, seed) for pair in sides_and_sizes for seed in settings.seed_range]
    data = {key: images(*key) for key in keys}
    return {
        (rung, str(side**2), str(size), str(seed)): settings.config(
            model,
            examples,
            optimizer="sgd",
            optimizer_args=("momentum=0.9", "nesterov=true"),
            lr=LR if settings.lr is None else settings.lr,
            batch_size=min(settings.batch_size, size),
            seed=seed,
            seeds=1,
        )
        for rung, model in rungs().items()
        for (side, size, seed), examples in data.items()
    }


def measure(config: Config, result: Result) -> dict[str, list[np.ndarray]]:
    """Return the detections of a convolution in the first test image, by seed."""
    if type(config.model.layers[0]) is not layers.Conv:
        return {}
    image = np.asarray(config.examples.test.x)[:1]
    return {"detections": [detections(config.model, s.variables, image) for s in result.states]}


def detections(model: nn.Module, variables: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Return for each patch of one image what it adds to logit 1 minus logit 0, `(side, side)`.

    The mean over the patches and the difference of the biases make up the difference.
    """
    weights = variables["params"]
    below = layers.Chain(model.layers[:2])
    features = below.apply({"params": {"layers_0": weights["layers_0"]}}, x)[0]
    return np.asarray(features @ jax.numpy.diff(weights["layers_3"]["kernel"])[:, 0])


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    ks, sizes = [side**2 for side in settings.sides], settings.sizes
    errors = {
        (rung, k): np.stack(
            [1 - results[rung, str(k), str(size)]["test_accuracy"] for size in sizes], 1
        )
        for rung, k in product(RUNGS, ks)
    }  # (seeds, sizes)
    counts = {
        rung: np.array([[needed(sizes, c) for c in errors[rung, k]] for k in ks]).T
        for rung in RUNGS
    }
    least = [np.mean([least_error(s, i) for i in settings.seed_range]) for s in settings.sides]
    found = [finding(rung, "k", ks, of, sizes) for rung, of in counts.items()]
    found.append(f"The least error of any rule is {', '.join(f'{100 * e:.1f}' for e in least)} %.")
    needs = Table(
        f"Examples needed for an error of {100 * ERROR:.0f} % by number of patches, geometric mean "
        f"over {settings.seeds} seeds",
        ["rung", *map(str, ks)],
        [[rung, *(number(one, sizes) for one in of.T)] for rung, of in counts.items()],
    )
    table = Table(
        f"Test error in percent by number of training examples, {settings.protocol}",
        ["rung, patches", *(f"{size:,}" for size in sizes)],
        [[f"{rung}, {k}", *of.T] for (rung, k), of in errors.items()],
    )
    shown = results["conv", str(ks[-1]), str(sizes[-1])]["detections"][0]
    panels = [growth(ks, counts, sizes), *picture(settings, shown)]
    note = "box: the stripes; right, purple: light row first; left, without numbers that are bounds"
    return Summary(found, [needs, table], {"waldo": plots.Figure(panels, note=note)})


def growth(
    ks: Sequence[int], counts: Mapping[str, np.ndarray], sizes: Sequence[int]
) -> plots.Curves:
    """Return examples needed against the number of patches, with slopes; bounds are left out."""
    series = []
    for rung, of in counts.items():
        if (known := is_known(of, sizes)).any():
            k, of = np.array(ks)[known], of[:, known]
            between = ", ".join(f"{each:.1f}" for each in slopes(k, of))
            label = f"{rung}, slopes {between}" if between else rung
            series.append(plots.Series(label, list(of.T), k.tolist()))
    low = min((float(np.min(of)) for one in series for of in one.values), default=1.0)
    guide = [low * k / ks[0] for k in ks]
    return plots.Curves(
        [plots.Series("like k", guide, ks, line="--", marker="", color=plots.GREY), *series],
        ticks=[str(k) for k in ks],
        log="xy",
        x_label="k (patches)",
        y_label=f"examples for {100 * ERROR:.0f} % error",
    )


def picture(settings: Settings, found: np.ndarray) -> list[plots.Image]:
    """Return the first test image of the first seed, and the detections in it."""
    side = settings.sides[-1]
    place = divmod(int(places(side, 1, settings.seed, 1)[0][0]), side)
    image = np.asarray(images(side, 1, settings.seed).test.x)[0, ..., 0]

    def panel(values: np.ndarray, title: str, pixels: int) -> plots.Image:
        y, x = ((pixels * at - 0.5, pixels * (at + 1) - 0.5) for at in place)
        box = plots.Reference(x=x, y=y, color=plots.BLACK, line="-")
        return plots.Image(values / np.abs(values).max(), title=title, references=[box])

    return [panel(image, "a test image", PATCH), panel(found, "what conv finds in it", 1)]


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "patches", "size", "seed drawn"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    pooled=True,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.1, 0.3, 1.0), "weight_decay": (0.0, 0.001)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
