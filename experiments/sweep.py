"""Train every combination of some settings; finished points are not trained again.

    python -m experiments.sweep --data digits --over model=mlp,logistic --over lr=1e-3,3e-3,1e-2

Any flag of `experiments.train` can be given once, or varied by `--over`. Each point and seed is a
line of `results.jsonl` in `--out`. A point that fails is named, and the others are trained; the
exit code is then 1. Points that differ only in their learning rates share one
compiled program; on an accelerator they train side by side in it, as seeds do.

Several processes divide a sweep by `--shard 0/4`, `--shard 1/4` and so on, on one machine or as
jobs of a cluster (`experiments/launch/sweep.sbatch`), with one folder in common. The command
without `--shard` then finds every point there and prints the whole table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import tyro
from etils import epy

from cnn.errors import InputError, unknown_name
from experiments import train
from experiments.harness import cli, results, runner, runtime, study
from experiments.harness.study import Name, Outcome, Table
from experiments.launch.distributed import Processes

with epy.lazy_imports():
    from cnn import data as datasets

if TYPE_CHECKING:
    from cnn.train import Config

OF_ONE_RUN = (
    *("log_every", "checkpoint_every", "checkpoint_minutes", "keep_last", "keep_best"),
    *("resume", "overwrite", "tensorboard", "wandb", "profile"),
    *(field.name for field in fields(Processes)),
)
"""Flags of `experiments.train` that a sweep refuses: a point is trained whole or not at all."""


@dataclass(frozen=True, kw_only=True)
class Flags(train.Flags):
    """The settings that vary, and all others."""

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, NAME=A,B,C; given several times, every combination is a point."""
    shard: str = "0/1"
    """I/N trains every N-th point only, from the I-th on, counted from 0."""
    model: str = ""
    data: str = ""
    validate: bool = True
    """Report on a held-out part of the training set, because the test set is not for choosing."""
    out: Path | None = Path("results/sweep")
    """Folder of results.jsonl."""


def main(flags: Flags) -> None:
    """Train the missing points of this shard and print the table of them."""
    for name in OF_ONE_RUN:
        if getattr(flags, name) != getattr(train.Flags, name):
            raise InputError(f"{name} is for single runs: leave it out")
    if flags.out is None:
        raise InputError("out must be a folder, got None")
    runtime.configure_jax()
    names, points = axes(flags.over)
    chosen = shard(flags.shard, {point: at_point(flags, names, point) for point in points})
    settings = study.Settings(seeds=flags.seeds, validate=flags.validate, out=flags.out)
    made, not_made = configs(chosen)
    found, not_trained = study.train_missing(settings, names, made)
    failed = not_made | not_trained
    outcomes = {name: found.get(name) for name in chosen}
    table(settings, names, outcomes).show()
    if failed:
        raise study.failure(failed)


def axes(over: Sequence[str]) -> tuple[list[str], list[Name]]:
    """Return the names that vary, and every combination of their values as text."""
    known = {f.name for f in fields(train.Flags)} - {"seed", "seeds", "out", "data_dir"}
    known -= set(OF_ONE_RUN)
    values: dict[str, list[str]] = {}
    for axis in over:
        name, _, listed = axis.partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise unknown_name("setting", name, known)
        if name in values or not all(listed.split(",")):
            raise InputError(f"over must be NAME=A,B,C with each name once, got {axis!r}")
        values[name] = listed.split(",")
    if not values:
        raise InputError("over is missing: give --over NAME=A,B,C, for example lr=1e-3,1e-2")
    return list(values), list(dict.fromkeys(itertools.product(*values.values())))


def at_point(flags: Flags, names: Sequence[str], point: Name) -> Flags:
    """Return the flags with the values of one point, checked."""
    hints = get_type_hints(train.Flags)
    texts = dict(zip(names, point, strict=True))
    values = {name: cli.parse_value(f"over {name}", hints[name], t) for name, t in texts.items()}
    changed = replace(flags, **values)
    for name in ("model", "data"):
        if not getattr(changed, name):
            raise InputError(f"{name} is missing: give --{name}, or --over {name}=A,B")
    with results.naming(point):
        changed.check()
    return changed


def shard(part: str, points: Mapping[Name, Flags]) -> dict[Name, Flags]:
    """Return every n-th point from the i-th on; `part` is "i/n"."""
    i, _, n = part.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise InputError(f"shard must be I/N with I from 0 to N - 1, got {part!r}")
    return dict(itertools.islice(points.items(), int(i), None, int(n)))


def configs(points: Mapping[Name, Flags]) -> tuple[dict[Name, Config], dict[Name, str]]:
    """Return the run of every point, and why there is none of points whose network is not made.

    Points with the same data set share it.
    """
    load_once = lru_cache(datasets.load)
    made, failed = dict[Name, "Config"](), dict[Name, str]()
    for name, flags in points.items():
        data = load_once(flags.data, flags.data_dir, flags.size, flags.channels)
        network = train.by_name(flags.model, flags.model_args)
        try:
            made[name] = train.config(replace(flags, out=None), data, network)
        except Exception as error:
            failed[name] = runner.say_why(name, error)
    return made, failed


def table(
    settings: study.Settings, names: Sequence[str], outcomes: Mapping[Name, Outcome | None]
) -> Table:
    """Return accuracy in percent and training loss of every point, mean ± deviation over seeds."""
    rows = [
        [*name, r.parameters, r["test_accuracy"], f"{r['train_loss'].mean():.4f}"]
        if r
        else [*name, "", "failed", ""]
        for name, r in outcomes.items()
    ]
    caption = f"Mean ± standard deviation over {settings.seeds} seeds"
    return Table(caption, [*names, "parameters", f"{settings.part}, %", "training loss"], rows)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
