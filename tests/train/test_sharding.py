"""Parameters that are spread over devices train as those that are copied to each of them."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh, PartitionSpec

from cnn.ablations import unshare
from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Conv, ConvLocal, Dense, Dropout, Flatten, ReLU
from cnn.train import Config, fit, load_run
from cnn.train.checkpoints import Checkpoints
from cnn.train.compile import programs, training_program
from cnn.train.devices import BY_EXAMPLE_AND_SEED
from cnn.train.ensemble import States
from cnn.train.recipe import Recipe
from cnn.train.sharding import bytes_per_device, partition
from cnn.train.step import Batch
from tests.small import assert_close, assert_same
from tests.small import config as small_config

SPREAD, WHOLE, STATISTICS = 8 * 5 * 1 * 128 + 1024 * 8, 2 * 128 + 8 + 16 + 2, 2 * 128
"""Weights of `model()` in large arrays and in small ones, and running statistics."""
SCALARS = 4 * 4 + 8
"""Bytes of three counters, the learning rate and the key."""
MOMENTUM: dict[str, Any] = {"optimizer": "sgd", "optimizer_args": ("momentum=0.9",)}


def model(norm: bool = True, local: bool = True) -> Chain:
    """Return a network of 8 positions, without a bias that normalization would make useless."""
    layer = ConvLocal if local else Conv
    extra = (BatchNorm(),) if norm else ()
    layers = (layer(128, (5,), use_bias=not norm), *extra, ReLU(), Flatten(), Dense(8), ReLU())
    return Chain((*layers, Dropout(0.2), Dense(2)))


def config(out: Path | None = None, **fields: Any) -> Config:
    return small_config(out, **({"model": model(), "steps": 6, "lr": 1e-3} | fields))


def learned(states: States) -> list[Any]:
    return [(s.params, s.batch_stats, s.opt_state, s.average) for s in states]


CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "adam 1": (1, {}),
    "adam 2": (2, {}),
    "momentum": (4, MOMENTUM),
    "no norm": (2, MOMENTUM | {"model": model(norm=False)}),
    "clip": (4, MOMENTUM | {"clip_norm": 0.1}),
    "muon": (4, {"optimizer": "muon"}),
    "lamb": (4, {"optimizer": "lamb", "seeds": 2}),
    "parts": (4, {"model": model(norm=False), "accumulate": 2, "remat": True, "ema": 0.9}),
    "mixup": (4, {"augment": ("shift", "mixup"), "on_nan": "skip"}),
}


@pytest.mark.parametrize(
    ("devices", "fields"),
    [
        pytest.param(4, {}, id="adam 4"),
        *(pytest.param(*case, marks=pytest.mark.slow, id=name) for name, case in CASES.items()),
    ],
)
def test_training_is_that_of_one_device(devices: int, fields: dict[str, Any]) -> None:
    """Batch normalization, dropout, augmentation and norms over all weights see the whole."""
    alone = fit(config(**fields))
    spread = fit(config(**fields, devices=devices, shard_params=True))
    assert_close(learned(spread.states), learned(alone.states), 1e-5)
    for name, values in alone.test.items():
        np.testing.assert_allclose(spread.test[name], values, atol=1e-5)
    kernel = spread.states[0].params["layers_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (8 // devices, 5, 1, 128)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_bytes_on_each_device_fall_with_their_number(devices: int) -> None:
    """Weights and two moments of Adam; running mean and variance; scalars."""
    init = programs(model(), config(devices=devices, shard_params=True), (12, 1)).init
    state = init(0, 1e-3)
    held: Counter[Any] = Counter()
    for leaf in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        held.update({shard.device: shard.data.nbytes for shard in leaf.addressable_shards})
    whole = 4 * (3 * WHOLE + STATISTICS) + SCALARS
    assert {*held.values()} == {4 * 3 * SPREAD // devices + whole}
    in_one = 4 * 3 * SPREAD if devices == 1 else 0
    assert bytes_per_device(state) == (4 * 3 * SPREAD // devices + whole, whole + in_one)


def test_an_array_is_split_along_the_first_axis_that_the_devices_divide() -> None:
    def split(*shape: int, devices: int = 4) -> PartitionSpec:
        return partition(jax.ShapeDtypeStruct(shape, jnp.float32), devices)

    assert split(28, 28, 3, 3, 64, 64) == PartitionSpec("data")  # positions
    assert split(14, 28, 3, 3, 64, 64) == PartitionSpec(None, "data")
    assert split(3, 3, 64, 64) == PartitionSpec(None, None, "data")
    assert split(3, 3, 64, 64, devices=256) == split(4096, devices=1) == PartitionSpec()
    assert split(4096) == PartitionSpec("data")
    assert split(4092) == PartitionSpec()


def test_the_backward_pass_gathers_weights_again() -> None:
    """Otherwise all of them would be on every device between the passes.

    The first layer needs no gradient of its input, so it needs its weight once only.
    """
    mesh, recipe = AbstractMesh((1, 4), ("seed", "data")), Recipe(shard_params=True)
    net = Chain((ConvLocal(128, (5,)), ReLU(), ConvLocal(8, (5,)), Flatten(), Dense(2)))
    init = programs(net, Recipe(), (12, 1)).init
    x = jax.ShapeDtypeStruct((8, 1, 1, 12, 1), jnp.float32)
    y = jax.ShapeDtypeStruct((8, 1, 1), jnp.int32)
    program = training_program(net, recipe, "cpu", mesh)
    state: Any = jax.eval_shape(init, 0, 1.0)
    traced = str(jax.make_jaxpr(program)((state,), (), Batch(x, y)))  # type: ignore[arg-type]
    assert traced.count(" all_gather[") == 1 + 2
    assert traced.count(" reduce_scatter[") == 2


@pytest.mark.slow
def test_seeds_stacked_in_a_scan_are_seeds_side_by_side() -> None:
    """As accelerators run them."""
    run = config(devices=4, shard_params=True, seeds=2, model=model(norm=False), lr=1.0)
    program = programs(run.model, run, (12, 1))
    devices = program.devices
    stacked = devices.compile(
        training_program(run.model, run, "tpu", devices.mesh), BY_EXAMPLE_AND_SEED, False
    )
    data = devices.replicate(Batch(run.data.train.x, run.data.train.y))  # type: ignore[arg-type]
    rows = devices.shard(np.arange(16 * 3 * 2).reshape(16, 3, 2) % 64, BY_EXAMPLE_AND_SEED)
    states = tuple(program.init(seed, 1e-3) for seed in (0, 1))
    several = stacked(states, data, rows)
    single = program.run(states, data, rows)
    for (a, measured), (b, too) in zip(several, single, strict=True):
        assert_close((learned((a,)), measured), (learned((b,)), too), 1e-6)
        assert bytes_per_device(a) == bytes_per_device(b)


@pytest.mark.parametrize(("before", "after"), [((4, True), (1, False)), ((1, False), (2, True))])
def test_a_checkpoint_comes_back_on_any_number_of_devices(
    tmp_path: Path, before: tuple[int, bool], after: tuple[int, bool]
) -> None:
    """Each device restores its part."""

    def state(seed: int, devices: int, shard: bool) -> States:
        run = config(devices=devices, shard_params=shard)
        return (programs(run.model, run, (12, 1)).init(seed, 1e-3),)

    saved, template = state(1, *before), state(0, *after)
    with closing(Checkpoints(tmp_path, {})) as checkpoints:
        checkpoints.save(1, saved)
        checkpoints.wait()
        restored = checkpoints.restore(lambda step: template)
    assert restored is not None
    assert_same(learned(restored[1]), learned(saved))
    kernels = [s[0].params["layers_0"]["kernel"] for s in (restored[1], template)]
    assert kernels[0].sharding.is_equivalent_to(kernels[1].sharding, 4)


@pytest.mark.slow
def test_a_run_goes_on_spread_or_not(tmp_path: Path) -> None:
    straight = fit(config(devices=1, steps=8))
    phases = [(2, 4, True), (4, 1, False), (6, 2, True), (8, 4, True)]
    for steps, devices, shard in phases:
        settings = {"steps": steps, "devices": devices, "shard_params": shard}
        last = fit(config(tmp_path / "run", resume=True, **settings))
    assert_close(learned(last.states), learned(straight.states), 1e-5)
    run = load_run(tmp_path / "run")
    assert_close(run.variables[0]["params"], straight.states[0].params, 1e-5)


@pytest.mark.slow
def test_resume_is_the_uninterrupted_run_bit_for_bit(tmp_path: Path) -> None:
    spread = {"devices": 4, "shard_params": True}
    straight = fit(config(**spread))
    fit(config(tmp_path / "run", steps=3, **spread))
    resumed = fit(config(tmp_path / "run", resume=True, **spread))
    assert_same(learned(resumed.states), learned(straight.states))


@pytest.mark.slow
def test_relaxed_parameters_are_spread() -> None:
    """Those of the model that is relaxed fit one device, those that it becomes need not."""
    shared: nn.Module = model(norm=False, local=False)
    recipe = {"model": shared, "relax_to": unshare(shared), "relax_at": 3}
    alone, spread = (fit(config(**recipe, devices=n, shard_params=n > 1)) for n in (1, 4))
    assert_close(learned(spread.states), learned(alone.states), 1e-5)
    kernel = spread.states[0].params["layers_0"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (2, 5, 1, 128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"map_devices": "pmap"}, "map_devices must be shard_map with shard_params, got 'pmap'"),
        ({"seed_groups": 2, "seeds": 2}, "seed_groups must be 1 with shard_params, got 2"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as error:
        fit(config(tmp_path / "run", devices=4, shard_params=True, **fields))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
