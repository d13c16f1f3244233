"""What is counted in a traced step, against counts by hand. No device of the slice exists."""

import re
from typing import Any

import jax
import pytest

from cnn.ops import implementations
from cnn.train.compile import training_program
from cnn.train.devices import BY_EXAMPLE_AND_SEED, DeviceMap
from cnn.train.recipe import Recipe
from experiments.harness.lowering import (
    GRADIENTS,
    LAYERS,
    Collective,
    Step,
    collectives,
    count_operations,
    nbytes,
    trace_step,
)
from experiments.harness.lowering import implementations as own
from tests.small import model

PARAMETERS = 3 * 4 + 2 * 4 + 4 * 2 + 2
"""Of a convolution without bias, batch normalization and a dense layer."""


def traced(**settings: object) -> Step:
    """Return a step on 16 devices with 4 examples each."""
    return trace_step(model(norm=True), Recipe(**settings), (12, 1), 16, 64)  # type: ignore[arg-type]


def test_bytes_of_state_and_batch() -> None:
    """Weights and two moments of Adam; running mean and variance; five scalars, one a key."""
    step, scalars = traced(), 4 * 4 + 8
    assert nbytes(step.state) == 4 * (3 * PARAMETERS + 8) + scalars
    assert nbytes(traced(ema=0.9).state) == 4 * (4 * PARAMETERS + 16) + scalars
    assert nbytes(traced(seeds=3).state) == 3 * nbytes(step.state)
    assert nbytes(step.batch) == 64 * 4 * (12 + 1)


@pytest.mark.parametrize("settings", [{}, {"remat": True}, {"on_nan": "skip"}])
def test_batch_norm_has_small_all_reduces_of_its_own(settings: dict[str, object]) -> None:
    """Forward: the shift, the mean and the mean square, 4 channels each. Backward: the last two.

    With remat the forward ones run twice. The others: 5 weights, 2 statistics, loss and accuracy.
    """
    forward = 6 if "remat" in settings else 3
    assert collectives(traced(**settings)) == [
        Collective("all-reduce", LAYERS, forward + 2, 4 * 4 * (forward + 2)),
        Collective("all-reduce", GRADIENTS, 9, 4 * (PARAMETERS + 8 + 2)),
    ]


def test_each_part_of_an_accumulated_batch_normalizes_by_itself() -> None:
    (layers, gradients), (layers_once, once) = (
        collectives(traced(accumulate=4)),
        collectives(traced()),
    )
    assert (layers.operations, layers.nbytes) == (
        4 * layers_once.operations,
        4 * layers_once.nbytes,
    )
    assert gradients == once


def test_a_network_without_batch_norm_reduces_gradients_only() -> None:
    step = trace_step(model(), Recipe(), (12, 1), 4, 8)
    assert [each.place for each in collectives(step)] == [GRADIENTS]


def test_operations_lowered_for_platforms_that_are_not_there() -> None:
    """A TPU convolves forward and for the kernel's gradient; the input needs none.

    Dense: forward and two gradients. One more product for the norm of each of 5 gradients.
    """
    with implementations.use("fastest"):
        step = traced(precision="bfloat16")
        in_float32 = traced()
    counts = {platform: count_operations(step, platform) for platform in ("tpu", "cuda")}
    assert counts["tpu"] == {"convolution": 2, "dot_general": 3 + 5, "custom_call": 0}
    assert counts["cuda"]["convolution"] == 0
    assert (own(step, "tpu"), own(step, "cuda")) == ({}, {"toeplitz": 2})
    assert own(in_float32, "cuda") == {}  # none was measured
    with implementations.use("reference"):
        assert own(traced(precision="bfloat16"), "cuda") == {}


def test_the_step_maps_states_to_states_of_the_same_shapes() -> None:
    step = traced(seeds=2, precision="bfloat16", augment=("shift",))
    shapes = [(a.shape, a.dtype) for a in jax.tree.leaves(step.state)]
    outputs = [state for state, _ in step.traced.out_info]
    assert [(a.shape, a.dtype) for a in jax.tree.leaves(outputs)] == shapes


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_it_is_the_program_that_training_compiles(platform: str) -> None:
    """Mapped over real devices, the same operations are lowered in the same order."""
    recipe, count = Recipe(precision="bfloat16", ema=0.9, augment=("shift",)), 4
    step = trace_step(model(norm=True), recipe, (12, 1), count, 16)
    devices = DeviceMap(jax.devices()[:count], 1)
    program = training_program(model(norm=True), recipe, "tpu", devices.mesh)
    run: Any = devices.compile(program, BY_EXAMPLE_AND_SEED, True)
    real = run.trace(step.state, (), step.batch)
    assert _body(real, platform) == _body(step.traced, platform)


def _body(program: Any, platform: str) -> list[str]:
    """Return the operations of the lowered module with their types, without names of values."""
    lines = program.lower(lowering_platforms=(platform,)).as_text().splitlines()
    return [re.sub(r"%[\w#:]+", "%", line) for line in lines if "stablehlo." in line]
