"""Settings with which a step that is too large fits, found by compiling it with them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cnn.train.recipe import Recipe
from experiments.harness.chips import Slice
from experiments.harness.compilation import Compiled, TooLarge


class Setting(NamedTuple):
    """A recipe and a batch that need less memory."""

    flag: str
    """What differs, as the command line says it."""
    recipe: Recipe
    batch_per_chip: int
    fraction: float | None
    """Part of the examples whose activations are still in memory at once; 0 if that is not known
    but the state stays, None if the state shrinks, too."""


Attempt = Callable[[Setting], Compiled | TooLarge]


def what_fits(
    recipe: Recipe,
    batch_per_chip: int,
    where: Slice,
    state: int,
    large: TooLarge,
    attempt: Attempt,
) -> str:
    """Return in words which settings were tried and fit. Each try compiles the step.

    Args:
        state: Bytes of state on each device. A setting is not tried if it would be too large even
            if all else that the step needs shrank with the examples.
    """
    fits, tried = [], []
    for settings in ways(recipe, batch_per_chip, where):
        for setting in settings:
            if setting.fraction is not None:
                least = state + setting.fraction * (large.needed - state)
                if least > large.room:
                    continue
            tried.append(setting.flag)
            if isinstance(compiled := attempt(setting), Compiled):
                fits.append(f"{setting.flag} (peak {compiled.peak / 1e9:.3g} GB)")
                break
    if fits:
        return f"what fits, by trying: {', or '.join(fits)}"
    return f"nothing that was tried fits: {', '.join(tried)}" if tried else "nothing to try"


def ways(recipe: Recipe, batch_per_chip: int, where: Slice) -> Iterator[list[Setting]]:
    """Yield the ways to need less memory, each as settings that need less and less."""
    if not recipe.remat:
        yield [Setting("--remat", dataclasses.replace(recipe, remat=True), batch_per_chip, 0.0)]

    per_device = batch_per_chip // where.chip.devices
    pairs = {"mixup", "cutmix"} & {*recipe.augment}
    unit = math.lcm(recipe.accumulate, 2 if pairs else 1)
    halves = [(per_device >> k) // unit * unit for k in range(1, per_device.bit_length())]
    yield [
        Setting(f"--batch-per-chip {each}", recipe, each, each / batch_per_chip)
        for each in (half * where.chip.devices for half in dict.fromkeys(halves) if half)
    ]

    parts = [recipe.accumulate << k for k in range(1, per_device.bit_length())]
    yield [
        Setting(
            f"--accumulate {each}",
            dataclasses.replace(recipe, accumulate=each),
            batch_per_chip,
            recipe.accumulate / each,
        )
        for each in parts
        if per_device % each == 0
    ]

    if not recipe.shard_params and where.devices > 1:
        sharded = dataclasses.replace(recipe, shard_params=True)
        yield [Setting("--shard-params", sharded, batch_per_chip, None)]
