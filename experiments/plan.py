"""What a training step would need on a TPU slice, or on GPUs, that are not there.

    python -m experiments.plan --model resnet18 --input 224 224 3 --topology v5e:4x4 v5e:16x16 \\
        --precision bfloat16

Traces the training step of `experiments.train` for the slice and lowers it for TPUs and for CUDA:
bytes of state and batch, operations, collectives, and the least time of a step by the chips'
documented rates. If libtpu is installed (`make install EXTRA=tpu`, on a machine without a TPU, too)
it also compiles the step for the slice, which takes minutes: memory of activations, bytes moved,
collectives as XLA combines them, and settings that fit if these do not. The same for H100 GPUs with
JAX's CUDA plugin (`EXTRA=cuda`), without FLOPs and bytes moved. No accelerator is needed, nothing
is allocated and nothing runs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etils import epy

from cnn.errors import InputError
from cnn.train.recipe import PROGRAM_FIELDS, Recipe
from experiments.harness import chips, cli, compiled_tables, networks
from experiments.harness.chips import Slice
from experiments.harness.roofline import Work

with epy.lazy_imports():
    import numpy as np
    from flax import linen as nn

    from cnn import data as datasets
    from cnn.train import config, sharding, utilization
    from experiments.harness import compilation, fitting, lowered_tables, lowering

ENVIRONMENT = {
    **{"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"},
    **{"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any: the topology says which, but libtpu asks for one
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # another process may compile, or train on the TPU
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # what is written without a TPU is read only with one
}
"""Settings with which libtpu compiles without a TPU. JAX and libtpu read them when they start."""

OTHERS = {"map_devices", "devices", "seed_groups", "loss"}
"""Settings of the program that are not flags: the topology says the devices, and targets are
classes."""

if TYPE_CHECKING:
    from cnn.data import Dataset
    from experiments.harness.compilation import Compiled, TooLarge
    from experiments.harness.fitting import Attempt, Setting
    from experiments.harness.lowered_tables import Plan

    RecipeFlags = Recipe
else:
    RecipeFlags = cli.subset(Recipe, {*PROGRAM_FIELDS, "steps", "seeds"} - OTHERS)


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
    """TPU slices, each a kind of chip and the chips along each axis: v5e:4x4 v5p:4x4x4. Or GPUs of
    one host: h100:1x8."""
    batch_per_chip: int = 64
    """Examples per step on each chip."""
    level: Literal["lower", "compile"] | None = None
    """Lower the step, in seconds, or compile it too, in minutes; compile if the compiler of the
    slices is installed: libtpu, or JAX's CUDA plugin."""

    @property
    def subject(self) -> str:
        """The network, in words."""
        return " ".join([self.model or str(self.spec), *self.ablate])

    @property
    def title(self) -> str:
        """The network and its batch, in words."""
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        network = f"{self.subject} on {'×'.join(map(str, self.input))}, {self.precision}"
        return f"{network}, {self.batch_per_chip} examples per chip{seeds}"

    @property
    def recipe(self) -> Recipe:
        """The recipe with these settings, and the others by default."""
        names = {f.name for f in dataclasses.fields(Recipe)} & {*self.__dataclass_fields__}
        return Recipe(**{name: getattr(self, name) for name in names})


def main(flags: Flags) -> None:
    """Print the tables, and a line for each slice that the state does not fit."""
    slices = _checked(flags)
    level = _level(flags, slices)
    model = networks.by_name(flags.model, flags.model_args, flags.spec, flags.ablate)(flags.classes)
    macs = utilization.multiplications(model, flags.input)
    parameters = config.check_model(model, flags.recipe, _stand_in(flags))
    plans = [_plan(flags, model, macs, where) for where in slices]
    for table in lowered_tables.tables(flags.title, plans, parameters, macs):
        table.show()
    print(lowered_tables.NOTE)
    too_large = {plan.where.name: lowered_tables.does_not_fit(plan) for plan in plans}
    for line in filter(None, too_large.values()):
        print(line)
    if level == "compile":
        _compile(flags, model, [plan for plan in plans if not too_large[plan.where.name]])


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


def _level(flags: Flags, slices: Sequence[Slice]) -> str:
    """Return the level. Raise `InputError` if what it needs is not installed."""
    needed = [
        ("jax_cuda13_plugin", "cuda") if each.is_gpu else ("libtpu", "tpu") for each in slices
    ]
    missing = [each for each in needed if importlib.util.find_spec(each[0]) is None]
    if flags.level == "compile" and missing:
        package, extra = missing[0]
        raise InputError(
            f"level compile needs {package}: make install EXTRA={extra}, or give level lower"
        )
    return flags.level or ("lower" if missing else "compile")


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
        flops=None if macs is None else 2.0 * utilization.PASSES * macs * examples,
        state=sharding.bytes_per_device(step.state)[0] * where.chip.devices,
        batch=lowering.nbytes(step.batch) // where.chips,
        reduced=sum(each.reduced for each in lowering.collectives(step)),
    )
    return lowered_tables.Plan(where, step, work, flags.shard_params)


def _compile(flags: Flags, model: nn.Module, plans: Sequence[Plan]) -> None:
    """Print what XLA makes of the step on each slice, and for one that is too large what fits."""
    fit = []
    for plan in plans:
        where, attempt = plan.where, _compiler(flags, model, plan.where)
        found = attempt(fitting.Setting("", flags.recipe, flags.batch_per_chip, None))
        if isinstance(found, compilation.Compiled):
            fit.append((where, found))
            continue
        state = sharding.bytes_per_device(plan.step.state)[0]
        fits = fitting.what_fits(
            *(flags.recipe, flags.batch_per_chip, where), state, found, attempt
        )
        print(f"{where.name}: {found}; {fits}")
    if not fit:
        return
    for table in compiled_tables.tables(fit):
        table.show()
    print(compiled_tables.NOTE)
    if any(step.program.loops for _, step in fit):
        print(compiled_tables.LOOPS)


def _compiler(flags: Flags, model: nn.Module, where: Slice) -> Attempt:
    """Return the function that compiles the step for a slice with a setting."""
    devices = compilation.devices(where)

    def attempt(setting: Setting) -> Compiled | TooLarge:
        batch = setting.batch_per_chip * where.chips
        step = lowering.trace_step(model, setting.recipe, flags.input, devices, batch)
        room = where.chip.hbm if where.is_gpu else math.inf
        return compilation.compile_step(step, f"{where.name} {setting.flag}".strip(), room)

    return attempt


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    cli.run(main, Flags, __doc__)
