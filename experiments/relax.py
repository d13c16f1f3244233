"""Is weight sharing needed all through training, or only at its beginning?

    python -m experiments.relax

A convolutional network trains for t steps. Then its weights are written into a locally connected or
a fully connected network that computes the same function (`cnn.ablations.lift`), and that network
trains to the end. At t = 0 only the initial weights are shared. Two controls are the convolution
that is never freed, and the larger networks trained from scratch without the constraint.

Reference:
    d'Ascoli et al. (2019), "Finding the needle in the haystack with convolutions", relax to fully
    connected layers on CIFAR-10. The relaxed network ends above the convolution it came from, and
    highest for a t between the extremes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, models

if TYPE_CHECKING:
    import numpy as np

    from cnn.train import Config

QUESTION = "Is a bias needed all through training, or only at its beginning?"
HYPOTHESIS = (
    "a network that is freed after some training ends above the one that was never constrained, "
    "and above the one that is never freed."
)
KINDS = ("local", "dense")
SCRATCH, NEVER = "from scratch", "never"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    shares: tuple[float, ...] = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
    """Shares of the steps after which the constraint is lifted."""
    out: Path = Path("results/relax")

    large: ClassVar[str] = ""


def points(settings: Settings) -> Points:
    """Return the convolution as it is, freed at each step, and the networks without constraint."""
    data, conv = settings.load(), models.cnn1d()
    found: dict[Name, Config] = {("conv", NEVER): settings.config(conv, data)}
    for kind, model in zip(KINDS, (ablations.unshare(conv), ablations.densify(conv)), strict=True):
        for step in sorted({round(share * settings.steps) for share in settings.shares}):
            found[kind, str(step)] = settings.config(conv, data, relax_to=model, relax_at=step)
        found[kind, SCRATCH] = settings.config(model, data)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    accuracy = {name: outcome["test_accuracy"] for name, outcome in results.items()}
    steps = [step for kind, step in results if kind == "local" and step != SCRATCH]
    conv = ("conv", NEVER)
    findings, pairs = [], []
    for kind in KINDS:
        best = max(((kind, step) for step in steps), key=lambda name: accuracy[name].mean())
        scratch = (kind, SCRATCH)
        pairs += [(best, conv), (best, scratch)]
        to_conv, to_scratch = (
            study.difference(accuracy[best], accuracy[other]) for other in (conv, scratch)
        )
        findings.append(
            f"Freed to {kind}, the network ends highest when it is freed at step {int(best[1]):,} "
            f"of {settings.steps:,}: {100 * accuracy[best].mean():.1f} %. The difference to the "
            f"convolution that is never freed is {to_conv}; to {kind} from scratch it is "
            f"{to_scratch}. (The step is the best of {len(steps)}, chosen on these accuracies.)"
        )
    rows = [
        [step, *(accuracy[conv if step == NEVER else (kind, step)] for kind in KINDS)]
        for step in (SCRATCH, *steps, NEVER)
    ]
    table = Table(settings.caption(), ["freed at step", *KINDS], rows)
    tables = [table, study.differences(results, pairs)]
    return Summary(findings, tables, {"relax": figure(settings, accuracy, steps)})


def figure(
    settings: Settings, accuracy: Mapping[Name, np.ndarray], steps: Sequence[str]
) -> plots.Figure:
    """Return test accuracy against the step at which the constraint is lifted."""
    conv = 100 * accuracy["conv", NEVER]
    mean, deviation = conv.mean(), conv.std(ddof=1) if len(conv) > 1 else 0.0
    references = [
        plots.Reference(y=mean, label="conv, never freed", color=plots.BLUE, line="-"),
        plots.Reference(y=(mean - deviation, mean + deviation), color=plots.BLUE),
    ]
    for kind in KINDS:
        scratch, color = 100 * accuracy[kind, SCRATCH].mean(), plots.RUNGS[kind][0]
        references.append(plots.Reference(y=scratch, color=color))
    series = [
        plots.Series(f"{kind}, freed", [100 * accuracy[kind, step] for step in steps])
        for kind in KINDS
    ]
    panel = plots.Curves(
        series,
        ticks=[f"{int(step):,}" for step in steps],
        x_label=f"step at which the constraint is lifted, of {settings.steps:,}",
        y_label=f"{settings.part} accuracy (%)",
        legend="center right",
        references=references,
    )
    return plots.Figure([panel], note="dotted: trained from scratch")


STUDY = study.Study(QUESTION, HYPOTHESIS, ("freed to", "at"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
