"""What are locality and weight sharing worth?

    python -m experiments.ladder
    python -m experiments.ladder --variants standard --rungs conv local dense --seeds 5
    python -m experiments.ladder --variants "with pooling" --data digits   # from p4m to attention
    python -m experiments.ladder --tune   # choose the rates again, and write tuned/ladder.json

One architecture loses its inductive biases one after another. Width, depth, optimizer, steps, data
order and the variance at initialization stay the same:

    conv            local, one kernel for all positions
    tiled-2, -4     local, position p uses kernel p mod 2 or 4
    local           local, a kernel for every position
    dense           every output position sees every input position
    mlp, logistic   no map of positions at all

Every rung has the learning rate and the weight decay that are best for it on the validation part,
dense, mlp and logistic those for both orders together, which are alike to them.
The data is MNIST-1D: signals of 40 samples, 4,000 for training and 50,000 new ones for testing.
They are used in order, and with their positions permuted, which makes locality useless: every seed
draws its own permutation. The variants of the network on data in order are

    standard            25 channels, and a dense layer on all positions as head
    mean head           the mean over positions, then a dense layer
    8, 64 channels      instead of 25
    equal parameters    channels of conv and dense such that they have as many parameters as local
    tied bias           local with one bias per channel, as in conv, instead of one per position
    with pooling        24 channels, stride 1, and max-pooling by 2 after each ReLU, which keeps the
                        symmetry under reflection. So the ladder has rungs in both directions:
        flip            a kernel is also shared with its reflection (p4 and p4m on images)
        mixing          beyond the first layer, one matrix over positions that all channels share,
                        then one over channels that all positions share (`experiments.mixing` takes
                        the difference from a convolution apart)
        attention       one head per tap, which starts half by position, half by content (not on
                        images of more than 256 pixels, which are too many pairs for it)
    published           the recipe of the reference, for comparison: Adam at 1e-2, 6,000 steps

Reference:
    Greydanus and Kobak (2024), "Scaling down deep learning with MNIST-1D", arXiv 2011.14439. The
    published accuracies are those of the README of their repository (table "Comparing MNIST and
    MNIST-1D"), on the package's 1,000 test signals; people reach 96 % there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import InputError
from experiments.harness import claims, cli, plots, rungs, study
from experiments.harness.rungs import permuted
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations
    from cnn import data as datasets
    from experiments.harness import predictions

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config, Result

QUESTION = "What are locality and weight sharing worth?"
HYPOTHESIS = (
    "weight sharing and locality each improve test accuracy by more than a point, whatever the "
    "head, the width and the number of parameters; on permuted positions neither does."
)
STANDARD, MEAN, EQUAL, TIED, POOLED, REFERENCE = (
    "standard",
    "mean head",
    "equal parameters",
    "tied bias",
    "with pooling",
    "published",
)
WIDTHS = {"8 channels": 8, "64 channels": 64}
PUBLISHED: dict[tuple[str, str], float] = {
    ("conv", "ordered"): 0.94,
    ("mlp", "ordered"): 0.68,
    ("logistic", "ordered"): 0.32,
    ("conv", "permuted"): 0.56,
    ("mlp", "permuted"): 0.68,
    ("logistic", "permuted"): 0.32,
}
"""Test accuracy by rung and order, one permutation, one seed."""
ORDERED, PERMUTED, ALL = "ordered", "permuted", "all seeds"
STANDARD_RUNGS = ("conv", "tiled-2", "tiled-4", "local", "dense", "mlp", "logistic")
FREE_OF_ORDER = ("dense", "mlp", "logistic")
MOST_ATTENDED = 256
"""Positions of the data up to which attention is a rung: it has a score for each pair of them."""


def _claims() -> list[Claim]:
    """Return what is tested: both biases in order, permuted, and in every variant."""

    def pair(text: str, a: tuple[str, str], b: tuple[str, str], order: str = ORDERED) -> Claim:
        helps = order == ORDERED
        above, below = (0.01, math.inf) if helps else (-math.inf, 0.01)
        return Claim(text, (*a, order), (*b, order), above, below)

    def both(where: str, variant: str, local: str, order: str = ORDERED) -> list[Claim]:
        conv, dense = ("conv", variant), ("dense", variant)
        helps = "helps" if order == ORDERED else "does not help"
        return [
            pair(f"sharing {helps} {where}", conv, ("local", local), order),
            pair(f"locality {helps} {where}", ("local", local), dense, order),
        ]

    found = both("on data in order", STANDARD, STANDARD)
    found += both("on permuted data", STANDARD, STANDARD, PERMUTED)
    found += both("with equal parameters", EQUAL, STANDARD)
    wheres = {MEAN: "with a mean head", **{name: f"with {name}" for name in WIDTHS}, POOLED: POOLED}
    for variant, where in wheres.items():
        found += both(where, variant, variant)
    tied = pair("sharing helps with tied biases", ("conv", STANDARD), ("local", TIED))
    return [*found, tied]


CLAIMS = _claims()


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    variants: tuple[str, ...] = (STANDARD, MEAN, *WIDTHS, EQUAL, TIED, POOLED, REFERENCE)
    """Variants of the network."""
    rungs: tuple[str, ...] = (*rungs.GROUPS, *STANDARD_RUNGS, rungs.MIXING, rungs.ATTENTION)
    """Rungs of the ladder, of which a variant may have only some."""
    data: str = study.Settings.small
    """Data set, signals or images: digits, mnist1d, ...; the rates are tuned for the default."""
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST, whose rates are not tuned."""
    out: Path = Path("results/ladder")

    @property
    def data_name(self) -> str:
        """The data set `data`, or that of `full`."""
        return self.large if self.full else self.data


def variants(data: Dataset) -> dict[str, dict[str, nn.Module]]:
    """Return the models by variant and rung."""
    standard, shape = rungs.standard(data), data.input_shape
    conv, local = standard["conv"], standard["local"]
    return {
        STANDARD: standard,
        MEAN: rungs.ends(rungs.mean_head(data)),
        **{name: rungs.ends(rungs.base(data, width)) for name, width in WIDTHS.items()},
        EQUAL: {k: ablations.match(standard[k], local, shape).model for k in ("conv", "dense")},
        POOLED: rungs.both_directions(data),
        TIED: {"local": ablations.unshare(conv, bias="tied")},
        REFERENCE: {rung: standard[rung] for rung in ("conv", "mlp", "logistic")},
    }


def points(settings: Settings) -> Points:
    """Return every point of the study: a model, and data in order or permuted for each seed.

    Raise `InputError` for settings that have no points.
    """
    if settings.full and settings.data != Settings.data:
        raise InputError(
            f"data: --full takes {settings.large}, got {settings.data}: leave one of them out"
        )
    data = settings.load()
    known = variants(data)
    if math.prod(data.input_shape[:-1]) > MOST_ATTENDED:
        del known[POOLED][rungs.ATTENTION]
    shuffled = {seed: permuted(data, seed) for seed in settings.seed_range}
    published = {"steps": 3 * settings.steps, "lr": 1e-2, "schedule": "constant"}
    found: dict[Name, Config] = {}
    for variant in settings.variants:
        of_variant = study.choose("variant", variant, known)
        recipe = published if variant == REFERENCE else {}
        for rung in settings.rungs:
            model = of_variant.get(rung)
            study.choose("rung", rung, dict.fromkeys(Settings.rungs))
            if model is None:
                continue
            found[rung, variant, ORDERED, ALL] = settings.config(model, data, **recipe)
            for seed, moved in shuffled.items() if variant in (STANDARD, REFERENCE) else ():
                config = settings.config(model, moved, seed=seed, seeds=1, **recipe)
                found[rung, variant, PERMUTED, str(seed)] = config
    if not found:
        raise InputError(
            f"rungs must have one of the variants {', '.join(settings.variants)}, got "
            f"{', '.join(settings.rungs)}"
        )
    return found


def measure(config: Config, result: Result) -> Mapping[str, list[np.ndarray]]:
    """Return which of the package's 1,000 test signals are right, in the order of the data."""
    package, data = datasets.load("mnist1d"), config.data
    if data.input_shape != package.input_shape:
        return {}
    if not np.array_equal(np.asarray(data.train.x), np.asarray(package.train.x)):
        package = permuted(package, config.seed)
    return {PACKAGE: [row for row in predictions.right(config, result, package.test)]}


PACKAGE = "package accuracy"
"""On the 1,000 test signals of the package."""


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    tables = [accuracies(settings, results)]
    has_reference = any(variant == REFERENCE for _, variant, _ in results)
    if has_reference and settings.data_name == Settings.small:
        tables.append(published_table(settings, results))
    if any(variant not in (STANDARD, REFERENCE) for _, variant, _ in results):
        tables.append(variant_table(settings, results))
    found = {"ladder": figure(settings, results)} if rungs_of(STANDARD, results) else {}
    if rungs_of(POOLED, results):
        found["both_directions"] = both_directions(settings, results)
    return Summary(findings(results), tables, found)


def rungs_of(variant: str, results: Results) -> list[str]:
    """Return the rungs of a variant."""
    return list(dict.fromkeys(rung for rung, of, _ in results if of == variant))


def worth(results: Results) -> dict[str, claims.Verdict]:
    """Return the verdicts on sharing and on locality, on data in order."""
    verdicts = {verdict.claim: verdict for verdict in claims.judge(CLAIMS, results)}
    names = ("sharing", "locality")
    return {n: verdicts[c] for n, c in zip(names, CLAIMS, strict=False) if c in verdicts}


def findings(results: Results) -> list[str]:
    """Return what both biases are worth, and what a permutation of the positions changes."""
    found = worth(results)
    if len(found) < 2:
        return []
    names = {
        "sharing": "Weight sharing (conv over local)",
        "locality": "locality (local over dense)",
    }
    first = " and ".join(f"{names[name]} is worth {one.interval}" for name, one in found.items())
    moved = []
    for rung in rungs_of(STANDARD, results):
        before, after = (rung, STANDARD, ORDERED), (rung, STANDARD, PERMUTED)
        if after in results:
            one = study.estimate(results, [(after, 1), (before, -1)])
            moved.append(f"{rung} {100 * one.mean:+.1f}")
    second = f"Permuted positions change test accuracy by, in points: {', '.join(moved)}."
    shown = [f"{first} on data in order.", *([second] if moved else [])]
    if both := rungs_of(POOLED, results):
        means = {rung: results[rung, POOLED, ORDERED]["test_accuracy"].mean() for rung in both}
        listed = ", ".join(f"{rung} {100 * mean:.1f}" for rung, mean in means.items())
        shown.append(f"Accuracy with pooling, in both directions from conv, in percent: {listed}.")
    return shown


def accuracies(settings: Settings, results: Results) -> Table:
    """Return test accuracy in percent of the standard variant, a row per rung."""
    rows = [
        [
            rung,
            results[rung, STANDARD, ORDERED].parameters,
            *(results[rung, STANDARD, o]["test_accuracy"] for o in (ORDERED, PERMUTED)),
        ]
        for rung in rungs_of(STANDARD, results)
    ]
    caption = f"{settings.part.capitalize()} accuracy on {settings.title}, {settings.protocol}"
    return Table(caption, ["rung", "parameters", "ordered, %", "permuted, %"], rows)


def published_table(settings: Settings, results: Results) -> Table:
    """Return the accuracies with the published recipe beside the published ones."""
    rows = []
    for (rung, variant, order), outcome in results.items():
        if variant == REFERENCE:
            known = PUBLISHED[rung, order]
            row = [outcome["test_accuracy"], outcome[PACKAGE], f"{known:.0%}"]
            rows.append([f"{rung}, {order}", *row])
    caption = (
        f"With the published recipe: Adam at 1e-2, {3 * settings.steps:,} steps, {settings.seeds} "
        "seeds; the published figures are one seed each"
    )
    heads = ["rung", f"{settings.part}, %", "the package's 1,000, %", "published"]
    return Table(caption, heads, rows)


def variant_table(settings: Settings, results: Results) -> Table:
    """Return parameters and accuracies of the variants on data in order."""
    rows = [
        [f"{variant}: {rung}", outcome.parameters, outcome["test_accuracy"]]
        for (rung, variant, _), outcome in results.items()
        if variant not in (STANDARD, REFERENCE)
    ]
    caption = f"Variants of the network, data in order, {settings.protocol}"
    return Table(caption, ["variant: rung", "parameters", f"{settings.part}, %"], rows)


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return test accuracy by rung, with a dot for every seed and brackets for what a bias adds."""
    names = rungs_of(STANDARD, results)
    colors = {ORDERED: plots.BLACK, PERMUTED: plots.SKY}
    series = [
        plots.Series(
            order,
            [100 * results[rung, STANDARD, order]["test_accuracy"] for rung in names],
            color=color,
        )
        for order, color in colors.items()
    ]
    brackets = [
        plots.Bracket(
            names.index(verdict.claim.a[0]),
            names.index(verdict.claim.b[0]),
            f"{name} {verdict.interval.replace(' points', '')}",
        )
        for name, verdict in worth(results).items()
    ]
    panel = plots.Dots(
        series,
        names,
        y_label=f"{settings.part} accuracy (%)",
        y_limits=(20, 100),
        seeds=True,
        legend="lower left",
        brackets=brackets,
    )
    return plots.Figure([panel])


def both_directions(settings: Settings, results: Results) -> plots.Figure:
    """Return test accuracy from more sharing than a convolution has to attention."""
    names = rungs_of(POOLED, results)
    values = [100 * results[rung, POOLED, ORDERED]["test_accuracy"] for rung in names]
    series = [plots.Series(ORDERED, values, color=plots.BLACK)]
    panel = plots.Dots(series, names, y_label=f"{settings.part} accuracy (%)", seeds=True)
    return plots.Figure([panel])


def tuned_together(name: Name) -> Name | None:
    """Return the points that have the settings of a point; None for the published recipe.

    To a rung that is not local all orders of the positions are alike, so it has one recipe.
    """
    rung, variant, order, _ = name
    if variant == REFERENCE:
        return None
    return (rung, variant) if rung in FREE_OF_ORDER else (rung, variant, order)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "variant", "order", "draw"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, by=tuned_together),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
