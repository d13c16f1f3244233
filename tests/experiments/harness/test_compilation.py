"""What is read from a compiled step, its messages, and a real compilation for TPUs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from cnn.train.recipe import Recipe
from experiments.harness import compilation
from experiments.harness.compilation import Compiled, TooLarge, compile_step, too_large
from experiments.harness.lowering import GRADIENTS, LAYERS, Step, trace_step
from tests.small import model

PARAMETERS = 3 * 4 + 2 * 4 + 4 * 2 + 2
"""Of a convolution without bias, batch normalization and a dense layer."""
STATE = 4 * (3 * PARAMETERS + 8) + 4 * 4 + 8
"""Bytes: weights and two moments of Adam, running mean and variance, five scalars, one a key."""


def test_a_compiled_step(capfd: pytest.CaptureFixture[str]) -> None:
    """Compiled for four CPUs, which are there: 4 of 16 examples of 12 numbers and a label each."""
    step = trace_step(model(norm=True), Recipe(), (12, 1), jax.devices()[:4], 16)
    compiled = compile_step(step, "four CPUs")
    assert isinstance(compiled, Compiled)
    assert compiled.arguments == STATE + 4 * 4 * (12 + 1)
    assert compiled.peak >= compiled.arguments
    too_little = compile_step(step, "the same", room=800)
    assert too_little == TooLarge(compiled.peak, 800)
    assert compiled.flops and compiled.accessed
    sizes = dict.fromkeys((LAYERS, GRADIENTS), 0)
    for each in compiled.program.collectives:
        assert each.kind == "all-reduce"
        sizes[each.place] += each.nbytes
    assert sizes == {LAYERS: 4 * 4 * 5, GRADIENTS: 4 * (PARAMETERS + 8 + 2)}
    first, last, *_ = capfd.readouterr().err.splitlines()
    assert first == "four CPUs: compiling"
    assert last.startswith("four CPUs: ") and last.endswith(" s of CPU time")


@pytest.mark.parametrize(
    ("message", "gigabytes"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (31.00G) exceeds available HBM (15.75G).",
            (31 * 2**30, 15.75 * 2**30),
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 512.5M of 15.75G hbm. Exceeded hbm capacity by 1.25G.",
            (512.5 * 2**20, 15.75 * 2**30),
        ),
    ],
)
def test_sizes_in_messages(message: str, gigabytes: tuple[float, float]) -> None:
    assert too_large(message) == gigabytes


def test_a_message_without_sizes() -> None:
    assert math.isnan(too_large("RESOURCE_EXHAUSTED: CompileTimeHbmOom").needed)
    assert str(too_large("CompileTimeHbmOom")) == "needs more memory than a device has"
    assert str(TooLarge(3.1e10, 1.6e10)) == "needs 31 GB or more of 16 GB on a device"


def failing(message: str) -> Step:
    def fail() -> None:
        raise jax.errors.JaxRuntimeError(message)

    traced: Any = SimpleNamespace(lower=lambda: SimpleNamespace(compile=fail))
    return Step(traced, (), None)  # type: ignore[arg-type]


def test_only_a_lack_of_memory_is_caught() -> None:
    said = "RESOURCE_EXHAUSTED: Used 2.00G of 1.00G hbm"
    assert compile_step(failing(said), "a step") == TooLarge(2.0**31, 2.0**30)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compile_step(failing("INTERNAL: other"), "a step")


def test_lines_while_it_compiles(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compilation, "EVERY", 0.01)
    with compilation._progress("a step"):
        while "compiling for" not in (said := capfd.readouterr().err):
            pass
    assert said.startswith(("a step: compiling", "a step: compiling for 0 s"))


def in_plan(program: str) -> Any:
    """Return what a program prints that compiles in the environment of `experiments.plan`."""
    start = (
        "import json, os\n"
        "from experiments import plan\n"
        "os.environ.update(plan.ENVIRONMENT)\n"
        "from cnn.train.recipe import Recipe\n"
        "from experiments.harness import chips, compilation, lowering\n"
        "from tests.small import model\n"
        "def devices(name): return compilation.devices(chips.parse_slice(name))\n"
    )
    command = [sys.executable, "-c", f"{start}print(json.dumps({program}))"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_devices_of_slices() -> None:
    """JAX sees two devices in a chip of tpu7x, and one in the others."""
    pytest.importorskip("libtpu", reason="make install EXTRA=tpu")
    names = ["v5e:1x1", "v5e:2x4", "v6e:1x1", "v4:2x2x1", "v5p:2x2x1", "tpu7x:2x2x1"]
    counts = in_plan(f"[len(devices(name)) for name in {names}]")
    assert counts == [1, 8, 1, 4, 4, 8]


@pytest.mark.slow
def test_compiled_for_tpus_that_are_not_there() -> None:
    """XLA combines batch norm's mean and mean square, forward and backward, and all the others."""
    pytest.importorskip("libtpu", reason="make install EXTRA=tpu")
    traced = "lowering.trace_step(model(norm=True), Recipe(), (12, 1), devices('v5e:2x2'), 16)"
    found = in_plan(f"compilation.compile_step({traced}, 'a step').program.collectives")
    assert found == [
        ["all-reduce", LAYERS, 3, 4 * 4 * 5],
        ["all-reduce", GRADIENTS, 1, 4 * (PARAMETERS + 8 + 2)],
    ]


@pytest.mark.slow
def test_compiled_for_gpus_that_are_not_there() -> None:
    """XLA counts no FLOPs for GPUs, and does not say what it combined."""
    pytest.importorskip("jax_cuda13_plugin", reason="make install EXTRA=cuda")
    traced = "lowering.trace_step(model(norm=True), Recipe(), (12, 1), devices('h100:1x8'), 32)"
    found = in_plan(f"compilation.compile_step({traced}, 'a step')")
    arguments, _, peak, flops, accessed, (collectives, *_) = found
    assert (arguments, flops, accessed) == (STATE + 4 * 4 * (12 + 1), None, None)
    assert peak >= arguments
    assert {kind for kind, *_ in collectives} == {"all-reduce"}
    assert collectives[0][1:] == [LAYERS, 1, 4 * 4]
    assert sum(size for *_, size in collectives) == 4 * 4 * 5 + 4 * (PARAMETERS + 8 + 2)
