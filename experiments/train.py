"""Train any named network on any named data set.

    python -m experiments.train --model cnn1d --data mnist1d --lr 1e-2 --seeds 3 --out runs/a

Several seeds train together; `metrics.jsonl` in the run folder ends with their mean training loss
and test accuracy (a fraction), and each seed's own. Go on after an interruption with `--resume`.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnn.recipe import Recipe
from experiments import cli
from experiments.launch.together import Processes, together

if TYPE_CHECKING:
    from cnn.data import Dataset
    from cnn.train import Config


@dataclass(frozen=True, kw_only=True)
class Named(Recipe):
    """A model and a data set by name, and the recipe."""

    model: str
    """Network: a function of cnn.models, e.g. lenet5."""
    data: str
    """Data set: mnist1d and digits are built in; others by TFDS from `data_dir`."""
    data_dir: Path | None = None
    """Where prepared TFDS sets are."""
    relax_to: Literal["local", "dense"] = "local"
    """What convolutions become at `relax_at`: locally connected, or fully."""


@dataclass(frozen=True, kw_only=True)
class Flags(Processes, Named):
    """One run, and the processes it takes."""


def config(flags: Named, data: Dataset) -> Config:
    """Return the run that `flags` ask for on `data`."""
    from cnn import models
    from cnn.ablations import densify, unshare
    from cnn.train import Config

    recipe = {f.name: getattr(flags, f.name) for f in dataclasses.fields(Recipe)}
    model = models.by_name(flags.model)(num_classes=data.num_classes)
    relax = {"local": unshare, "dense": densify}[flags.relax_to]
    relax_to = None if flags.relax_at is None else relax(model)
    return Config(model=model, data=data, relax_to=relax_to, **recipe)


def main(flags: Flags) -> None:
    """Train as `flags` say, print the result, write the run folder."""
    flags.check()
    with together(flags) as speaks:
        _train(flags, speaks)


def _train(flags: Flags, speaks: bool) -> None:
    from cnn import models
    from cnn.data import load
    from cnn.train import fit
    from cnn.train.feed import way
    from experiments.progress import show_steps
    from experiments.report import percent

    models.by_name(flags.model)  # before the data, which may take its time
    run = config(flags, load(flags.data, flags.data_dir))
    with show_steps(f"{flags.model} on {flags.data}", flags.steps) as advance:
        result = fit(run, on_step=advance)

    if not speaks:
        return
    part = "validation" if flags.validate else "test"
    spread = f"mean ± standard deviation over {flags.seeds} seeds; " if flags.seeds > 1 else ""
    print(
        f"{flags.model} on {flags.data}: {part} accuracy {percent(result.test_accuracy)} %, "
        f"training loss {result.train_loss.mean():.4f} ({spread}{result.parameters:,} parameters, "
        f"{result.steps:,} steps, {result.seconds:.1f} s, {way(run.data.train)})"
    )
    if flags.out is not None:
        print(f"written to {flags.out}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
