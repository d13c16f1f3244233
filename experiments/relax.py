"""When does weight sharing help: all through training, or only at its beginning?

    python -m experiments.relax

A convolutional network trains for t steps; then its weights are written into a locally connected,
or a fully connected, network that computes exactly the same (`cnn.ablations.lift`), and that one
trains to the end. At t = 0 only the initial weights were shared, at the last step all of training
was. d'Ascoli et al. (2019), "Finding the needle in the haystack with convolutions", relax to fully
connected layers on CIFAR-10: the relaxed network ends above the convolutional one it came from, and
highest for t between the extremes. Beside the curve stand the networks that were trained from
scratch without the constraint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "Is a bias needed all through training, or only at its beginning?"
HYPOTHESIS = (
    "a network that is freed after some training ends above the one that was never constrained, "
    "and above the one that stayed so."
)
SCRATCH, KEPT = "from scratch", "never"


@dataclass(frozen=True, kw_only=True)
class Study(study.Settings):
    """When the constraint is lifted, and what is kept."""

    shares: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
    """Shares of the steps after which the constraint is lifted."""
    out: Path = Path("results/relax")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def points(settings: Study) -> dict[Name, Config]:
    """Return the convolutional network as it is, relaxed at each step, and never constrained."""
    from cnn.ablations import densify, unshare
    from cnn.data import load
    from cnn.models import cnn1d
    from cnn.train import Config

    data, conv, recipe = load("mnist1d"), cnn1d(), settings.recipe()
    found: dict[Name, Config] = {("conv", KEPT): Config(model=conv, data=data, **recipe)}
    for kind, model in (("local", unshare(conv)), ("dense", densify(conv))):
        for step in sorted({round(share * settings.steps) for share in settings.shares}):
            found[kind, str(step)] = Config(
                model=conv, relax_to=model, relax_at=step, data=data, **recipe
            )
        found[kind, SCRATCH] = Config(model=model, data=data, **recipe)
    return found


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return test accuracy in percent, a row for each step at which the constraint was lifted."""
    from experiments.harness.report import Table, percent

    def cell(kind: str, when: str) -> str:
        return percent(results[kind, when]["test_accuracy"]) if (kind, when) in results else ""

    rows = [[when, cell("local", when), cell("dense", when)] for when in _steps(results)]
    conv = cell("conv", KEPT)
    rows = [[SCRATCH, cell("local", SCRATCH), cell("dense", SCRATCH)], *rows, [KEPT, conv, conv]]
    part = "Validation" if settings.validate else "Test"
    caption = (
        f"{part} accuracy on MNIST-1D in percent, mean ± standard deviation over {settings.seeds} "
        f"seeds, {settings.steps:,} steps"
    )
    return Table(caption, ["freed at step", "local", "dense"], rows)


def _steps(results: Mapping[Name, Outcome]) -> list[str]:
    return [when for kind, when in results if kind == "local" and when != SCRATCH]


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw test accuracy against the step at which the constraint was lifted."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, RUNGS, STYLE

    def scores(kind: str, when: str) -> tuple[float, float]:
        values = 100 * results[kind, when]["test_accuracy"]
        return values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0

    steps = _steps(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        mean, spread = scores("conv", KEPT)
        axes.axhline(mean, color=RUNGS["conv"], lw=1, label="conv, never freed")
        axes.axhspan(mean - spread, mean + spread, color=RUNGS["conv"], alpha=0.15, lw=0)
        for kind, marker in (("local", "o"), ("dense", "s")):
            means, spreads = zip(*(scores(kind, when) for when in steps), strict=True)
            axes.errorbar(
                range(len(steps)),
                means,
                spreads,
                color=RUNGS[kind],
                fmt=f"{marker}-",
                ms=3.5,
                lw=1,
                capsize=2,
                label=f"freed to {kind}",
            )
            mean, _ = scores(kind, SCRATCH)
            axes.axhline(mean, color=RUNGS[kind], lw=1, ls=":", label=f"{kind} from scratch")
        axes.set_xticks(range(len(steps)), [f"{int(when):,}" for when in steps])
        axes.set_xlabel(f"step at which the constraint is lifted, of {settings.steps:,}")
        part = "validation" if settings.validate else "test"
        axes.set_ylabel(f"{part} accuracy (%)")
        axes.legend(
            frameon=False, title=f"mean ± s.d. of {settings.seeds} seeds", loc="lower right"
        )
    return figure


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    findings, pairs = [], []
    conv = ("conv", KEPT)
    for kind in ("local", "dense"):
        mean = {w: 100 * results[kind, w]["test_accuracy"].mean() for w in _steps(results)}
        best = max(mean, key=lambda when: mean[when])
        pairs += [((kind, best), conv), ((kind, best), (kind, SCRATCH))]
        findings.append(
            f"Freed to {kind}, it ends highest when freed at step {best} of {settings.steps:,}: "
            f"{mean[best]:.1f} %, against {100 * results[conv]['test_accuracy'].mean():.1f} for "
            f"the convolution kept and "
            f"{100 * results[kind, SCRATCH]['test_accuracy'].mean():.1f} for {kind} from scratch "
            f"(the best of {len(mean)} steps, chosen on the accuracy shown)."
        )
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"relax": draw(settings, results)})


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("freed to", "at"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
