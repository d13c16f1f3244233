"""How much order does a convolution need?

    python -m experiments.permutation
    python -m experiments.permutation --tune   # choose the rates again

The signals of MNIST-1D are cut at some of the 39 places between neighbouring samples, and the
pieces change places, in the same way for all signals. No two samples that a cut has parted stand
side by side afterwards, so the number of cuts is the number of broken neighbourhoods. No cut leaves
the data as it is; 39 cuts permute all positions. Each seed draws its own places and its own order
of the pieces, the same for all networks. The places do not favour the positions at which the
strides of the convolution begin, as pieces of equal length would.

`conv` is local and shares its kernels over positions, `local` is only local, and to `mlp` an order
of positions is like any other. So `mlp` is the control: its accuracy must not depend on the cuts,
and it is tuned on all of them together.

Reference:
    Greydanus and Kobak (2024), arXiv 2011.14439: the README of their repository (table "Comparing
    MNIST and MNIST-1D") has a test accuracy of 94 % for a convolutional network on the data in
    order and 56 % on permuted data, and 68 % for a fully connected network on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import claims, cli, plots, rungs, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import data as datasets

QUESTION = "How much order does a convolution need?"
HYPOTHESIS = (
    "the convolution is the best network on data in order and the worst on data without any. One "
    "cut takes a part of what sharing is worth, and to the fully connected network all orders are "
    "alike."
)
SHOWN = ("conv", "local", "mlp")
WHOLE, ONE, ALL = "0", "1", "39"
CLAIMS = (
    Claim("in order, conv is better than mlp", ("conv", WHOLE), ("mlp", WHOLE), above=0.01),
    Claim("without order, conv is worse than mlp", ("conv", ALL), ("mlp", ALL), below=-0.01),
    Claim("after one cut, sharing still helps", ("conv", ONE), ("local", ONE), above=0.01),
    Claim("without order, sharing harms", ("conv", ALL), ("local", ALL), below=-0.01),
    Claim(
        "after one cut, sharing is worth less",
        ("conv", ONE),
        ("local", ONE),
        minus=(("conv", WHOLE), ("local", WHOLE)),
        below=-0.01,
    ),
    Claim("mlp does not need order", ("mlp", ALL), ("mlp", WHOLE), above=-0.01, below=0.01),
)
"""The last part of a name is the number of cuts."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    cuts: tuple[int, ...] = (0, 1, 3, 8, 18, 39)
    """Numbers of cuts, from 0 to one less than the number of samples."""
    seeds: int = 10
    """Seeds per point. Each has cuts and an order of its own."""
    out: Path = Path("results/permutation")

    large: ClassVar[str] = ""


def cut(size: int, cuts: int, seed: int) -> np.ndarray:
    """Return an order of 4 or more positions, cut at random places, its pieces in random order.

    No two positions that a cut has parted are side by side in it, in either direction.

    Raises:
        InputError: Unless there are from 0 to `size` - 1 cuts.
    """
    if not 0 <= cuts < size:
        raise InputError(f"cuts must be from 0 to {size - 1}, got {cuts}")
    rng = np.random.default_rng(seed)
    while True:
        places = np.sort(rng.choice(np.arange(1, size), cuts, replace=False))
        pieces = np.split(np.arange(size), places)
        order = np.concatenate([pieces[i] for i in rng.permutation(len(pieces))])
        if (abs(np.diff(order)) != 1).sum() == cuts:
            return order


def points(settings: Settings) -> Points:
    """Return every network at every number of cuts, each seed with an order of its own."""
    data = settings.load()
    models = rungs.standard(data)
    size = data.input_shape[0]
    permuted = {
        (cuts, seed): datasets.permute(data, cut(size, cuts, seed))
        for cuts in settings.cuts
        for seed in settings.seed_range
    }
    return {
        (rung, str(cuts), str(seed)): settings.config(models[rung], shuffled, seed=seed, seeds=1)
        for rung in SHOWN
        for (cuts, seed), shuffled in permuted.items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    cuts = [str(n) for n in sorted(settings.cuts)]
    tables = [
        Table(
            f"{part.capitalize()} error on {settings.title} in percent by the number of cuts, "
            f"{settings.protocol}",
            ["rung", *cuts],
            [[rung, *errors(results, rung, cuts, measure)] for rung in SHOWN],
        )
        for part, measure in ((settings.part, "test_accuracy"), ("training", "train_accuracy"))
    ]
    findings = [compare(results, cuts, rung) for rung in SHOWN[1:]]
    return Summary(findings, tables, {"permutation": figure(settings, results, cuts)})


def errors(
    results: Results, rung: str, cuts: Sequence[str], measure: str = "test_accuracy"
) -> list[np.ndarray]:
    """Return the errors of the seeds, as fractions, at each number of cuts."""
    return [1 - results[rung, n][measure] for n in cuts]


def compare(results: Results, cuts: Sequence[str], rung: str) -> str:
    """Return at which numbers of cuts conv is better than another network, and where worse."""
    pairs = [Claim(n, ("conv", n), (rung, n), above=0.0) for n in cuts]
    verdicts = claims.judge(pairs, results)
    told = {"holds": "better", "does not hold": "worse", "cannot tell": "not told apart"}
    after = {
        word: ", ".join(one.claim.text for one in verdicts if one.verdict == verdict)
        for verdict, word in told.items()
    }
    found = "; ".join(f"{word} after {texts} cuts" for word, texts in after.items() if texts)
    return f"conv against {rung}: {found} (at 95 % for all {len(verdicts)} numbers together)."


def figure(settings: Settings, results: Results, cuts: Sequence[str]) -> plots.Figure:
    """Return the error of each network against the number of cuts."""
    series = [
        plots.Series(rung, [100 * error for error in errors(results, rung, cuts)]) for rung in SHOWN
    ]
    panel = plots.Curves(
        series,
        ticks=cuts,
        x_label="broken neighbourhoods, of 39",
        y_label=f"{settings.part} error (%)",
    )
    return plots.Figure([panel])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "cuts", "draw"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:1] if name[0] == "mlp" else name[:2],
        grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)},
    ),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
