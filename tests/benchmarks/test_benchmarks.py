"""The programs of `benchmarks`, on the smallest networks and the shortest measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pytest
from flax import linen as nn

from benchmarks import (
    compile,
    contenders,
    memory,
    ops,
    page,
    profile,
    scaling,
    seeds,
    steps,
    train_step,
)
from benchmarks.networks import Network
from benchmarks.torch_twin import in_torch
from benchmarks.workers import Backend
from cnn import models
from cnn.errors import InputError
from cnn.train import ensemble
from cnn.train.step import Batch
from experiments.harness import cli


@pytest.mark.slow
def test_a_training_step_is_timed_and_its_row_kept(tmp_path: Path) -> None:
    flags = train_step.Flags(
        networks=("lenet5",),
        contenders=("ours",),
        batch=16,
        seconds=0.0,
        rounds=1,
        one_core=True,
        out=tmp_path,
        page=tmp_path / "page.md",
    )
    train_step.main(flags)
    measured = json.loads((tmp_path / "train_step_batch_16.json").read_text())
    assert set(measured["lenet5"]) == {"ours", "gemm"}
    assert "| lenet5, 16 |" in flags.page.read_text()
    assert (tmp_path / "train_step_batch_16.png").stat().st_size > 1000


@pytest.mark.slow
def test_an_operation_is_timed_both_ways(tmp_path: Path) -> None:
    only = ("max_pool",)
    flags = ops.Flags(only=only, seconds=0.0, rounds=1, out=tmp_path, page=tmp_path / "page.md")
    ops.main(flags)
    measured = json.loads((tmp_path / "ops.json").read_text())
    assert set(measured["max_pool gradients"]) == {"reference", "fastest"}


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--network", "lenet", "--contender", "ours"], "unknown network 'lenet': did you mean"),
        (["--network", "mlp", "--contender", "our"], "unknown contender 'our': did you mean"),
        (["--network", "mlp", "--contender", "ours", "--batch", "0"], "batch must be positive"),
        (["--network", "mlp", "--contender", "torch_graph"], "'torch_graph' is for a GPU"),
    ],
)
def test_unknown_contenders_and_networks_are_refused(flags: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        contenders.main(cli.parse(contenders.Flags, flags))


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--contenders", "ours"], "platform 'gpu' is not available to JAX"),
        (["--contenders", "torch_kept"], "contender 'torch_kept' is for the CPU: a GPU's memory"),
        (["--one-core"], "one_core is for the CPU"),
    ],
)
def test_contenders_for_a_cpu_are_refused_on_a_gpu(flags: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        train_step.main(cli.parse(train_step.Flags, ["--platform", "gpu", *flags]))


def test_default_contenders() -> None:
    not_named = {"ours_returned"}
    on_cpu = set(contenders.default_names(Backend()))
    assert on_cpu == set(contenders.CONTENDERS) - {"torch_graph"} - not_named
    on_gpu = set(contenders.default_names(Backend(platform="gpu")))
    assert on_gpu == set(contenders.CONTENDERS) - {"torch_kept"} - not_named


def test_the_name_of_a_result_has_platform_and_precision() -> None:
    assert Backend().result_name("memory") == "memory"
    assert Backend(precision="bfloat16").result_name("memory") == "memory_cpu_bfloat16"


TINY = Network(lambda: models.mlp(features=(8,)), (4, 4, 1), 16, 1.0)


def weights(state: tuple) -> list[np.ndarray]:
    """Return the trained arrays of a contender's state."""
    return [np.asarray(w) for w in jax.tree.leaves(state[0]["params"])]


def test_steps_in_one_program_equal_steps_in_turn() -> None:
    x, y = steps.random_batch(TINY)
    one, state = steps.jax_step(TINY, x, y, False, Backend())
    for _ in range(3):
        state = one(state, x, y)
    three, first = steps.jax_step(TINY, x, y, False, Backend(), chunk=3)
    for a, b in zip(weights(state), weights(three(first, x, y)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_program_for_a_gpu_runs_many_steps() -> None:
    """A program has fifty steps, as in `cnn.train`; here a CPU runs it."""
    gpu = Backend(platform="gpu")
    assert [steps.build(TINY, "ours", gpu)(n) for n in (3, 51)] == [50, 100]
    assert steps.build(TINY, "flax", gpu)(3) == 3


def test_bfloat16_rounds_the_step_and_not_the_weights() -> None:
    def momentum(where: Backend) -> np.ndarray:
        x, y = steps.random_batch(TINY)
        one, state = steps.jax_step(TINY, x, y, False, where)
        _, after = one(state, x, y)
        return np.concatenate([np.ravel(m) for m in jax.tree.leaves(after)])

    exact, rounded = momentum(Backend()), momentum(Backend(precision="bfloat16"))
    assert rounded.dtype == np.float32
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 2e-2  # bfloat16 has 8 bits: 2^-9 per rounding


def test_a_table_is_replaced_between_its_markers() -> None:
    once = page.replace_section("# Speed\n\nWords.\n", "ops", "first")
    both = page.replace_section(once, "memory", "other")
    again = page.replace_section(both, "ops", "second")
    assert again == both.replace("first", "second")
    assert again.startswith("# Speed\n\nWords.\n")
    assert page.spread([0.0012, 0.0021, 0.0015]) == "1.50 [1.20 – 2.10]"
    assert page.spread([0.000036, 0.000035, 0.25]) == "0.036 [0.035 – 250.000]"


def test_relative_speed_by_hand() -> None:
    median = {"ours": 2.0, "torch": 3.0, "torch_compiled": 5.0, "gemm": 1.0}
    assert train_step.relative_to_torch(median) == {
        "ours": 1.5,
        "torch": 1.0,
        "torch_compiled": 0.6,
    }
    assert train_step.relative_to_torch({"ours": 2.0, "gemm": 1.0}) == {}
    assert train_step.relative_to_torch({"torch": 3.0, "torch_kept": 1.5})["torch_kept"] == 2.0


def test_a_table_without_the_matrix_product() -> None:
    """Its process may have ended early; then no share of the machine's limit is known."""
    made = train_step.table({"lenet5": {"ours": [0.002], "torch": [0.003]}}, Backend())
    cells = [cell.strip() for cell in made.splitlines()[-1].strip("| ").split("|")]
    assert cells[-2:] == ["–", "–"]
    assert "**1.50**" in cells


def test_the_exponent_of_a_power(tmp_path: Path) -> None:
    assert scaling.exponent({v: [99.0, 3 * v**1.5, 0.0] for v in (1, 2, 4)}) == pytest.approx(1.5)
    with pytest.raises(InputError, match="unknown quantity 'chanels'"):
        scaling.main(scaling.Flags(over=("chanels",), out=tmp_path, page=tmp_path / "page.md"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pytorch_computes_in_the_precision(
    precision: Literal["float32", "bfloat16"], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="the contender is PyTorch")
    seen, loss = [], torch.nn.functional.cross_entropy

    def spied(logits: Any, targets: Any) -> Any:
        seen.append(logits.dtype)
        return loss(logits, targets)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", spied)
    assert steps.build(TINY, "torch", Backend(precision=precision))(2) == 2
    assert seen == [getattr(torch, precision)] * 2


def test_pytorch_has_the_same_weights_in_a_residual_network() -> None:
    torch = pytest.importorskip("torch", reason="the contender is PyTorch")
    network = in_torch(models.resnet18(width=0.125), (32, 32), 3)
    ours = models.resnet18(width=0.125).init(jax.random.key(0), np.zeros((1, 32, 32, 3)))
    count = sum(w.size for w in jax.tree.leaves(ours["params"]))
    assert sum(w.numel() for w in network.parameters()) == count
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


@pytest.mark.slow
def test_memory_in_another_precision_has_a_table_of_its_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    flags = memory.Flags(
        networks=("mlp",), contenders=("ours",), precision="bfloat16", out=tmp_path, page=page
    )
    memory.main(flags)
    assert json.loads((tmp_path / "memory_cpu_bfloat16.json").read_text())["mlp"]["ours"] > 50
    assert "<!-- memory_cpu_bfloat16: begin -->" in page.read_text()
    assert "MB, bfloat16, " in page.read_text()


@pytest.mark.slow
def test_starts_are_timed_cold_and_warm(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    compile.main(compile.Flags(networks=("mlp",), contenders=("ours",), out=tmp_path, page=page))
    cold, warm = json.loads((tmp_path / "compile.json").read_text())["mlp"]["ours"]
    assert 0 < warm < cold


@pytest.mark.slow
def test_the_cost_of_a_step_is_timed_as_it_grows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    flags = scaling.Flags(
        over=("kernel",), processes=(1,), steps=4, seconds=0.0, rounds=1, out=tmp_path, page=page
    )
    scaling.main(flags)
    assert "| kernel | 1: " in page.read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 1000


@pytest.mark.slow
def test_seeds_are_timed_in_every_way(tmp_path: Path) -> None:
    flags = seeds.Flags(
        network="cnn1d", counts=(2,), seconds=0.0, rounds=1, out=tmp_path, page=tmp_path / "page.md"
    )
    seeds.main(flags)
    measured = json.loads((tmp_path / "seeds.json").read_text())
    assert set(measured["2"]) == {"in turn", "side by side", "stacked"}


def test_mapped_seeds_train_as_stacked_ones() -> None:
    """States are numbers, a batch is row numbers, and a step adds their sum."""

    def step(state: jax.Array, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        return state + batch.sum(), state

    rows = jax.numpy.arange(12).reshape(2, 3, 2)  # examples, steps, seeds
    states = (jax.numpy.int32(0), jax.numpy.int32(100))
    data = Batch(jax.numpy.arange(12), jax.numpy.arange(12))
    found = seeds.mapped(lambda s, b: step(s, b.x))(states, data, rows)
    expected = ensemble.compose(lambda s, b: step(s, b.x), "gpu")(states, data, rows)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_a_profile_names_the_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with nn.override_named_call(True):  # conftest.py turns these names off
        profile.main(profile.Flags(network="mlp", steps=1, rows=20, out=tmp_path))
    text = capsys.readouterr().out
    assert "f32[784,512]" in text
    assert "transpose(jvp(Chain))/layers_1" in text
    assert re.search(r"^temporaries: \d+\.\d MB$", text, re.MULTILINE)
    assert len(list((tmp_path / "mlp").rglob("*.xplane.pb"))) == 1
