"""Train every combination of some settings; what is finished is never trained again.

    python -m experiments.sweep --data digits --over model=mlp,logistic --over lr=1e-3,3e-3,1e-2

Every flag of `experiments.train` can be given once for all, or varied by `--over`. Each point and
seed is a line of `results.jsonl` in `--out`. Points that differ in their learning rates share one
compiled program; on an accelerator they train side by side in it, as seeds do.

Several processes share a sweep out by `--shard 0/4`, `--shard 1/4` and so on, on one machine or as
the jobs of a cluster (`experiments/launch/sweep.sbatch`), with one folder in common. The command
without `--shard` then finds every point there and prints the whole table.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import tyro

from cnn.errors import InputError, unknown_name
from experiments import train
from experiments.harness import cli, study

if TYPE_CHECKING:
    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome

OF_ONE_RUN = (
    *("log_every", "checkpoint_every", "checkpoint_minutes", "keep_last", "keep_best"),
    *("resume", "overwrite", "tensorboard", "wandb", "profile"),
)
"""What a point does not have: it is finished or it is not there."""


@dataclass(frozen=True, kw_only=True)
class Flags(train.Named):
    """What varies, and all else once."""

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, NAME=A,B,C; given several times, every combination is a point."""
    shard: str = "0/1"
    """I/N trains every N-th point only, from the I-th on, counted from 0."""
    model: str = ""
    """Network: a function of cnn.models, e.g. lenet5."""
    data: str = ""
    """Data set: mnist1d and digits are built in; others by TFDS from `data_dir`."""
    validate: bool = True
    """Report on a held-out part of the training set: sweeps choose, and not by the test set."""
    out: Path | None = Path("results/sweep")
    """Folder of results.jsonl."""


def main(flags: Flags) -> None:
    """Train what is missing of this process's points and print the table of them."""
    for name in OF_ONE_RUN:
        if getattr(flags, name) != getattr(train.Named, name):
            raise InputError(f"{name} is for single runs: leave it out, a sweep goes on by itself")
    if flags.out is None:
        raise InputError("out None cannot be: a sweep needs a folder")
    names, points = axes(flags.over)
    chosen = shard(flags.shard, {point: at(flags, names, point) for point in points})
    configs = configure(chosen)
    settings = study.Settings(seeds=flags.seeds, validate=flags.validate, out=flags.out)
    table(settings, names, study.run(settings, names, configs)).show()


def axes(over: Sequence[str]) -> tuple[list[str], list[Name]]:
    """Return the names that vary and every combination of their values, as they were written.

    Raises `InputError` for a name that is no setting, or stands there twice.
    """
    known = {f.name for f in fields(train.Named)} - {
        "seed",
        "seeds",
        "out",
        "data_dir",
        *OF_ONE_RUN,
    }
    values: dict[str, list[str]] = {}
    for axis in over:
        name, _, listed = axis.partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise unknown_name("setting", name, known)
        if name in values or not all(listed.split(",")):
            raise InputError(f"over {axis!r} cannot be: give each name once, as NAME=A,B,C")
        values[name] = listed.split(",")
    if not values:
        raise InputError("over is missing: give --over NAME=A,B,C, for example lr=1e-3,1e-2")
    return list(values), list(dict.fromkeys(itertools.product(*values.values())))


def at(flags: Flags, names: Sequence[str], point: Name) -> Flags:
    """Return the flags with the settings of one point, checked."""
    changed = replace(flags, **{n: parse(n, v) for n, v in zip(names, point, strict=True)})
    for name in ("model", "data"):
        if not getattr(changed, name):
            raise InputError(f"{name} is missing: give --{name}, or --over {name}=A,B")
    changed.check()
    return changed


def parse(name: str, text: str) -> Any:
    """Return `text` as the type of the setting `name`, or raise `InputError`."""
    kind = get_type_hints(train.Named)[name]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(kind, args=[text])
    except SystemExit:
        raise InputError(f"over {name}: {text!r} is not what {name} can be: see --help") from None


def shard(part: str, points: Mapping[Name, Flags]) -> dict[Name, Flags]:
    """Return every n-th point from the i-th on; `part` is "i/n"."""
    i, _, n = part.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise InputError(f"shard {part!r} cannot be: give I/N with I from 0 to N - 1")
    return dict(itertools.islice(points.items(), int(i), None, int(n)))


def configure(points: Mapping[Name, Flags]) -> dict[Name, Config]:
    """Return the run of every point; points on the same data share it."""
    from cnn import models
    from cnn.data import load

    for flags in points.values():
        models.by_name(flags.model)
    load_once = lru_cache(load)
    return {
        name: train.config(replace(flags, out=None), load_once(flags.data, flags.data_dir))
        for name, flags in points.items()
    }


def table(settings: study.Settings, names: Sequence[str], results: Mapping[Name, Outcome]) -> Table:
    """Return accuracy in percent and training loss of every point, mean ± deviation over seeds."""
    from experiments.harness.report import Table, percent

    part = "validation" if settings.validate else "test"
    rows = [
        [*name, f"{r.parameters:,}", percent(r["test_accuracy"]), f"{r['train_loss'].mean():.4f}"]
        for name, r in results.items()
    ]
    caption = f"Mean ± standard deviation over {settings.seeds} seeds"
    return Table(caption, [*names, "parameters", f"{part}, %", "training loss"], rows)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
