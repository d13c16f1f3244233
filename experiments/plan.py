"""What a training step would need on a TPU slice that is not there.

    python -m experiments.plan --model resnet18 --input 224 224 3 --topology v5e:4x4 v5e:16x16 \\
        --precision bfloat16

Traces the training step of `experiments.train` for the slice and lowers it for TPUs and for CUDA.
No accelerator is needed, nothing is allocated and nothing runs. Prints the bytes of state and
batch, operations, collectives, and the least time of a step by the chips' documented rates. The
memory of activations is not known before XLA compiles the program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etils import epy

from cnn.errors import InputError
from cnn.train.recipe import PROGRAM_FIELDS, Recipe
from experiments.harness import chips, cli, networks
from experiments.harness.chips import Slice
from experiments.harness.roofline import Roofline, Work, roofline
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np
    from flax import linen as nn

    from cnn import data as datasets
    from cnn import geometry
    from cnn.train import config, sharding
    from experiments.harness import lowering

OTHERS = {"map_devices", "devices", "seed_groups", "loss"}
"""Settings of the program that are not flags: the topology says the devices, and targets are
classes."""

if TYPE_CHECKING:
    from cnn.data import Dataset
    from experiments.harness.lowering import Step

    RecipeFlags = Recipe
else:
    RecipeFlags = cli.subset(Recipe, {*PROGRAM_FIELDS, "steps", "seeds"} - OTHERS)

PASSES = 3
"""A step multiplies three times as often as a forward pass: the gradients of inputs and of weights
each take as many multiplications."""


@dataclass(frozen=True, kw_only=True)
class Flags(RecipeFlags):
    """A model, the shape of its input, the settings of training that change the program, slices."""

    model: str = ""
    """Network: a function of cnn.models, e.g. resnet18, or package.module:function for a Linen
    module of your own. Needed, unless `spec` is given."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model's function, NAME=VALUE: width=32 norm=group."""
    spec: Path | None = None
    """JSON file with a model's value, in place of `model`: a run.json, or its part "model"."""
    ablate: tuple[str, ...] = ()
    """Ablations of the model, one after another: unshare, tile:2, localize:1:where=0."""
    input: tuple[int, ...]
    """Shape of one example, channels last, e.g. 224 224 3."""
    classes: int = 1000
    """Number of classes."""
    topology: tuple[str, ...]
    """TPU slices, each a kind of chip and the chips along each axis: v5e:4x4 v5p:4x4x4."""
    batch_per_chip: int = 64
    """Examples per step on each chip."""

    @property
    def subject(self) -> str:
        """The network, in words."""
        return " ".join([self.model or str(self.spec), *self.ablate])

    @property
    def recipe(self) -> Recipe:
        """The recipe with these settings, and the others by default."""
        names = {f.name for f in dataclasses.fields(Recipe)} & {*self.__dataclass_fields__}
        return Recipe(**{name: getattr(self, name) for name in names})


class Plan(NamedTuple):
    """One slice and the step on it."""

    where: Slice
    step: Step
    work: Work

    @property
    def times(self) -> Roofline:
        return roofline(self.work, self.where)


def main(flags: Flags) -> None:
    """Print the tables, and a line for each slice that the state does not fit."""
    slices = _checked(flags)
    model = networks.by_name(flags.model, flags.model_args, flags.spec, flags.ablate)(flags.classes)
    macs = _macs(model, flags.input)
    parameters = config.check_model(model, flags.recipe, _stand_in(flags))
    plans = [_plan(flags, model, macs, where) for where in slices]
    for table in tables(flags, plans, parameters, macs):
        table.show()
    print(
        "Not calibrated: least times by documented peak rates. Gradients and activations, their\n"
        "memory and their traffic, are not in these numbers, and neither is the latency of "
        "all-reduces."
    )
    for plan in plans:
        if line := does_not_fit(plan, flags.shard_params):
            print(line)


def _checked(flags: Flags) -> list[Slice]:
    """Return the slices. Raise `InputError` for flags that are out of range."""
    flags.recipe.check()
    if not flags.topology:
        raise InputError("topology is missing: give a slice, such as v5e:4x4")
    slices = [chips.parse_slice(text) for text in flags.topology]
    for name in ("classes", "batch_per_chip"):
        if getattr(flags, name) < 1:
            raise InputError(f"{name} must be 1 or more, got {getattr(flags, name)}")
    if not 2 <= len(flags.input) <= 4 or min(flags.input) < 1:
        shape = " ".join(map(str, flags.input))
        raise InputError(
            f"input must be 1 to 3 sizes and the channels, such as 224 224 3, got {shape}"
        )
    pairs = {"mixup", "cutmix"} & {*flags.augment}
    for where in slices:
        parts = where.chip.devices * flags.accumulate
        if flags.batch_per_chip % parts:
            raise InputError(
                f"batch_per_chip must be a multiple of devices per chip × accumulate = "
                f"{where.chip.devices} × {flags.accumulate} on {where.name}, got "
                f"{flags.batch_per_chip}"
            )
        if pairs and flags.batch_per_chip // where.chip.devices % 2:
            raise InputError(
                f"batch_per_chip must be even on each device for {pairs.pop()}, which mixes pairs, "
                f"got {flags.batch_per_chip}"
            )
    return slices


def _macs(model: nn.Module, input_shape: tuple[int, ...]) -> int | None:
    """Return multiply-accumulates of a forward pass, None if those of a layer are not known."""
    layers = geometry.describe(model, input_shape, aligned=False).layers
    known = [layer.macs for layer in layers if layer.macs is not None]
    return sum(known) if len(known) == len(layers) else None


def _stand_in(flags: Flags) -> Dataset:
    """Return a data set of one example with the shapes that the flags say."""
    channels, names = flags.input[-1], tuple(map(str, range(flags.classes)))
    one = datasets.Split(np.zeros((1, *flags.input), np.float32), np.zeros(1, np.int32))
    return datasets.Dataset("the plan", one, one, names, (0.0,) * channels, (1.0,) * channels)


def _plan(flags: Flags, model: nn.Module, macs: int | None, where: Slice) -> Plan:
    batch = flags.batch_per_chip * where.chips
    step = lowering.trace_step(model, flags.recipe, flags.input, where.devices, batch)
    examples = flags.batch_per_chip * flags.seeds
    work = Work(
        flops=None if macs is None else 2.0 * PASSES * macs * examples,
        state=sharding.bytes_per_device(step.state)[0] * where.chip.devices,
        batch=lowering.nbytes(step.batch) // where.chips,
        reduced=sum(each.reduced for each in lowering.collectives(step)),
    )
    return Plan(where, step, work)


def tables(
    flags: Flags, plans: Sequence[Plan], parameters: int, macs: int | None
) -> tuple[Table, ...]:
    """Return what the program holds and does, and what it needs on each slice."""
    # On one device batch normalization reduces nothing: the largest slice shows all collectives.
    largest = max(plans, key=lambda plan: plan.where.devices)
    step, size = largest.step, "×".join(map(str, flags.input))
    seeds = f", {flags.seeds} seeds" if flags.seeds > 1 else ""
    title = f"{flags.subject} on {size}, {flags.precision}, {flags.batch_per_chip} examples"
    state = step.state
    bytes_of = {
        "weights and running statistics": [(s.params, s.batch_stats) for s in state],
        "optimizer state": [s.opt_state for s in state],
        "moving average": [s.average for s in state],
    }
    facts = [["parameters", parameters]]
    facts += [[f"{name}, MB", _mega(lowering.nbytes(tree))] for name, tree in bytes_of.items()]
    if flags.shard_params:
        whole = sharding.bytes_per_device(state)[1] * largest.where.chip.devices
        facts += [[f"state on each chip of {largest.where.name}, MB", _mega(largest.work.state)]]
        facts += [["of it in arrays that are not split, MB", _mega(whole)]]
    facts += [["batch per chip, MB", _mega(largest.work.batch)]]
    facts += [["multiply-accumulates per example", "not known" if macs is None else macs]]
    flops = largest.work.flops
    gflops = "not known" if flops is None else _digits(flops / 1e9)
    facts += [[f"GFLOPs per step and chip (2 × {PASSES} × multiply-accumulates)", gflops]]

    lowered = []
    for platform in ("tpu", "cuda"):
        own = lowering.implementations(step, platform)
        chosen = ", ".join(f"{name} ({count})" for name, count in own.items())
        counts = lowering.count_operations(step, platform)
        lowered.append([platform, *counts.values(), chosen or "definitions"])
    reduced = [
        [f"{each.kind}: {each.place}", each.operations, _mega(each.nbytes)]
        for each in lowering.collectives(step)
    ]
    operations = ["convolutions", "dot products", "custom calls", "implementations of its own"]
    kinds = ["collective", "operations", "MB"]
    heads = ["slice", "chips", "batch", "state + batch, GB", "HBM, GB"]
    heads += ["compute, ms", "memory, ms", "all-reduce, ms", "bound", "step, at least, ms"]
    return (
        Table(f"{title} per chip{seeds}", ["quantity", "value"], facts),
        Table(f"One step on {largest.where.name}, lowered", ["platform", *operations], lowered),
        Table("Its collectives, before XLA combines them", kinds, reduced),
        Table("Slices", heads, [_row(flags, plan) for plan in plans]),
    )


def _row(flags: Flags, plan: Plan) -> list[str]:
    where, work, times = plan.where, plan.work, plan.times
    return [
        *(where.name, f"{where.chips:,}", f"{flags.batch_per_chip * where.chips:,}"),
        *(f"{(work.state + work.batch) / 1e9:,.3g}", f"{where.chip.hbm / 1e9:,.3g}"),
        *(_milli(times.compute), _milli(times.memory), _milli(times.all_reduce)),
        *(times.bound, _milli(times.seconds)),
    ]


def _mega(count: int) -> str:
    return _digits(count / 1e6)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _milli(seconds: float | None) -> str:
    return "not known" if seconds is None else _digits(1e3 * seconds)


def does_not_fit(plan: Plan, sharded: bool) -> str:
    """Return a line if state and batch alone exceed a chip's memory, or an empty string."""
    where, (_, state, batch, _) = plan.where, plan.work
    room = where.chip.hbm - batch
    if state <= room:
        return ""
    need = f"{where.name}: state and batch need {(state + batch) / 1e9:.3g} GB on each chip, which "
    need += f"has {where.chip.hbm / 1e9:.3g} GB: "
    if room <= 0:
        return need + "give a smaller --batch-per-chip"
    if sharded:
        return need + "take a slice with more chips"
    one = state / where.chip.devices
    larger = [n for n, c in chips.CHIPS.items() if one * c.devices + batch <= c.hbm]
    remedy = f"--shard-params spreads it, over at least {math.ceil(state / room)} chips"
    return need + remedy + (f"; it fits {', '.join(larger)}" if larger else "")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
