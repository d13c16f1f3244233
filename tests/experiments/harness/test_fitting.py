"""Which settings are tried when a step is too large, with a compiler made up by hand."""

from __future__ import annotations

import math

import pytest

from cnn.train.recipe import Recipe
from experiments.harness import hlo
from experiments.harness.chips import Slice, parse_slice
from experiments.harness.compilation import Compiled, TooLarge
from experiments.harness.fitting import Setting, ways, what_fits

ONE, TWO = (parse_slice(each) for each in ("v5e:2x2", "tpu7x:2x2x1"))


def compiled(peak: float) -> Compiled:
    return Compiled(0, 0, int(peak), 0.0, 0.0, hlo.Program([], 0, False))


class Machine:
    """A device with 10 GB. The state takes 2 GB, shared 1, an example 1, with remat one half."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    def __call__(self, setting: Setting) -> Compiled | TooLarge:
        self.tried.append(setting.flag)
        examples = setting.batch_per_chip / setting.recipe.accumulate
        needed = (1 if setting.recipe.shard_params else 2) + examples * (
            0.5 if setting.recipe.remat else 1
        )
        return compiled(needed * 1e9) if needed <= 10 else TooLarge(needed * 1e9, 10e9)


def test_each_way_ends_with_the_first_setting_that_fits() -> None:
    """16 examples need 18 GB. 8 need 10 GB; sharing the state leaves 17, too many."""
    machine = Machine()
    said = what_fits(Recipe(), 16, ONE, int(2e9), TooLarge(18e9, 10e9), machine)
    assert said == (
        "what fits, by trying: --remat (peak 10 GB), or --batch-per-chip 8 (peak 10 GB), or "
        "--accumulate 2 (peak 10 GB)"
    )
    assert machine.tried == ["--remat", "--batch-per-chip 8", "--accumulate 2", "--shard-params"]


def test_settings_that_cannot_fit_are_not_tried() -> None:
    """32 examples need 34 GB: 16 are not tried. Without sizes in XLA's message all are."""
    machine = Machine()
    what_fits(Recipe(remat=False), 32, ONE, int(2e9), TooLarge(34e9, 10e9), machine)
    assert machine.tried == ["--remat", "--batch-per-chip 8", "--accumulate 4", "--shard-params"]
    machine = Machine()
    what_fits(Recipe(), 32, ONE, int(2e9), TooLarge(math.nan, math.nan), machine)
    assert machine.tried[1:3] == ["--batch-per-chip 16", "--batch-per-chip 8"]


def test_a_state_that_is_too_large_can_only_be_spread() -> None:
    machine = Machine()
    said = what_fits(Recipe(), 16, ONE, int(11e9), TooLarge(27e9, 10e9), machine)
    assert machine.tried == ["--shard-params"]
    assert said == "nothing that was tried fits: --shard-params"
    spread = Recipe(shard_params=True)
    assert what_fits(spread, 1, ONE, int(11e9), TooLarge(12e9, 10e9), machine) == "nothing to try"


@pytest.mark.parametrize(
    ("settings", "where", "batch", "batches", "parts"),
    [
        ({}, ONE, 6, [3, 1], [2]),
        ({"accumulate": 2}, ONE, 8, [4, 2], [4, 8]),
        ({"augment": ("mixup",)}, ONE, 6, [2], [2]),
        ({}, TWO, 8, [4, 2], [2, 4]),
    ],
)
def test_settings_keep_to_what_training_takes(
    settings: dict[str, object], where: Slice, batch: int, batches: list[int], parts: list[int]
) -> None:
    """A batch divides over devices and parts; mixup mixes pairs on each device."""
    recipe = Recipe(remat=True, shard_params=True, **settings)  # type: ignore[arg-type]
    smaller, split = ways(recipe, batch, where)
    assert [each.batch_per_chip for each in smaller] == batches
    assert [each.recipe.accumulate for each in split] == parts
    assert {each.batch_per_chip for each in split} == {batch}
