"""The command: what it prints, what it refuses, and that it allocates nothing."""

import importlib.util
from typing import Any

import jax
import pytest

from cnn.errors import InputError
from cnn.train.recipe import PROGRAM_FIELDS, Recipe
from experiments import plan
from experiments.harness import cli, compilation, fitting, hlo
from experiments.harness.chips import parse_slice
from experiments.harness.compilation import Compiled, TooLarge
from experiments.harness.fitting import Setting


def run(*args: str) -> None:
    """Run the command as a shell would."""
    plan.main(cli.parse(plan.Flags, ["--level", "lower", *args]))


LENET = ("--model", "lenet5", "--input", "28", "28", "1", "--classes", "10")


def test_prints_costs_that_grow_with_the_slice(capsys: pytest.CaptureFixture[str]) -> None:
    """LeNet-5 has 61,706 parameters: 246,824 bytes, and loss and accuracy are reduced with them.

    Its 416,520 multiply-accumulates × 6 × 64 examples are 0.1599 GFLOP. Each of 16 chips sends
    15/8 of 246,832 bytes at 200 GB/s in 2.314 µs.
    """
    run(*LENET, "--topology", "v5e:1x1", "v5e:4x4", "--precision", "bfloat16")
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    assert ["parameters", "61,706"] in rows
    assert ["optimizer state, MB", "0.4937"] in rows
    assert ["batch per chip, MB", "0.201"] in rows
    assert ["tpu", "5", "19", "0", "definitions"] in rows
    one, sixteen = (row for row in rows if row and row[0].startswith("v5e"))
    assert one[1:3] + one[7:9] == ["1", "64", "0", "memory"]
    assert sixteen[1:3] + sixteen[7:9] == ["16", "1,024", "0.002314", "all-reduce"]
    assert "0.1599" in said
    assert "Not calibrated" in said


def test_collectives_are_those_of_the_largest_slice(capsys: pytest.CaptureFixture[str]) -> None:
    """On one device batch normalization reduces nothing; on several, 4 channels five times."""
    network = ("--model", "tests.small:model", "--model-args", "norm=true", "--input", "12", "1")
    run(*network, "--classes", "2", "--topology", "v5e:1x1", "v5e:2x2")
    said = capsys.readouterr().out
    assert "One step on v5e:2x2, lowered" in said
    (row,) = (line for line in said.splitlines() if "batch norm layers" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["5", "8e-05"]


def test_a_network_larger_than_this_machine_is_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A matrix of 400,000 × 400,000 takes 640 GB, and Adam triples it: nothing is allocated.

    It is not compiled either, which could only fail.
    """
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compilation, "compile_step", None)
    network = ("--model", "mlp", "--model-args", "features=[400000, 400000]")
    run(*network, "--input", "28", "28", "1", "--topology", "v5e:4x4", "--level", "compile")
    last = capsys.readouterr().out.splitlines()[-1]
    assert "need 1.93e+03 GB on each chip, which has 16 GB" in last
    assert "--shard-params spreads it, over at least 121 chips" in last
    assert "it fits" not in last


def test_parameters_that_are_spread(capsys: pytest.CaptureFixture[str]) -> None:
    """Of LeNet-5's 61,706 weights, two dense kernels are split: 400 × 120 and 120 × 84.

    The others, 3,626 weights, are whole, and so are 24 bytes of counters. Every pass gathers both
    kernels. A chip sends 3/4 of each gathered and scattered array, and 3/2 of the rest.
    """
    run(*LENET, "--topology", "v5e:2x2", "--shard-params")
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    whole, split = 4 * 3 * 3626 + 24, 4 * 3 * 58080 // 4
    assert ["state on each chip of v5e:2x2, MB", f"{(whole + split) / 1e6:.4g}"] in rows
    assert ["of it in arrays that are not split, MB", f"{whole / 1e6:.4g}"] in rows
    collectives, kernels = {row[0].partition(":")[0]: row[1:] for row in rows if row}, 4 * 58080
    assert collectives["all-gather"] == ["4", f"{2 * kernels / 1e6:.4g}"]
    assert collectives["reduce-scatter"] == ["2", f"{kernels / 1e6:.4g}"]
    (last,) = (row for row in rows if row and row[0] == "v5e:2x2")
    sent = 3 / 4 * 3 * kernels + 3 / 2 * 4 * (3626 + 2)
    assert last[7] == f"{sent / 200e9 * 1e3:.4g}"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--topology v5e4x4", "topology must be CHIP:SHAPE"),
        ("--topology v9:4x4", "unknown chip 'v9'"),
        ("--topology v5e:4x5", "topology of v5e must be one of"),
        ("--topology", "topology is missing"),
        ("--topology v5e:4x4 --batch-per-chip 0", "batch_per_chip must be 1 or more, got 0"),
        ("--topology v5e:4x4 --batch-per-chip 3 --accumulate 2", "must be a multiple of devices"),
        ("--topology tpu7x:2x2x1 --batch-per-chip 3", "= 2 × 1 on tpu7x:2x2x1, got 3"),
        ("--topology v5e:4x4 --batch-per-chip 3 --augment mixup", "must be even on each device"),
        ("--topology v5e:4x4 --classes 0", "classes must be 1 or more, got 0"),
        ("--topology v5e:4x4 --seeds 0", "seeds must be 1 or more, got 0"),
        ("--topology v5e:4x4 --optimizer nonsense", "unknown optimizer 'nonsense'"),
        ("--topology v5e:4x4 --optimizer-args foo=1", "unknown argument of optimizer adamw 'foo'"),
        ("--topology v5e:4x4 --metrics nonsense", "unknown metric 'nonsense'"),
        ("--topology v5e:4x4 --ablate nonsense", "unknown ablation 'nonsense'"),
        ("--topology v5e:4x4 --spec a.json", "give model or spec"),
        ("--topology v5e:4x4 --input 4 4 1", "the smallest input that works is"),
        ("--topology v5e:4x4 --input 28", "input must be 1 to 3 sizes and the channels"),
        ("--topology v5e:4x4 --input 28 0 1", "input must be 1 to 3 sizes and the channels"),
    ],
)
def test_bad_input_is_one_line(args: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        run(*LENET, *args.split())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        (["v5e:2x2"], "level compile needs libtpu: make install EXTRA=tpu, or give level lower"),
        (["v5e:2x2", "h100:1x8"], "needs jax_cuda13_plugin: make install EXTRA=cuda"),
    ],
)
def test_compiling_needs_a_compiler(
    topology: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"libtpu"} if len(topology) > 1 else set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    with pytest.raises(InputError, match=said):
        run(*LENET, "--level", "compile", "--topology", *topology)


def test_compiles_if_it_can(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --level. CPUs stand in for the devices of TPUs; one slice has too little memory.

    The state on each device is 5 weights and biases three times over, and counters.
    """
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compilation, "devices", lambda where: jax.devices()[: where.devices])
    fits = Compiled(10**9, 10**9, 2 * 10**9, 1e9, 1e9, hlo.Program([], 1234, True))
    large = TooLarge(30e9, 10e9)
    found = {"v5e:1x1": fits, "v5e:2x2": large, "v5e:2x2 --remat": fits}
    asked: list[Any] = []

    def what_fits(*args: Any) -> str:
        *asked[:], attempt = args
        setting = Setting("--remat", Recipe(remat=True), 8, 0.0)
        return "--remat fits" if attempt(setting) is fits else "nothing fits"

    monkeypatch.setattr(compilation, "compile_step", lambda step, what, room: found[what])
    monkeypatch.setattr(fitting, "what_fits", what_fits)
    network = ("--model", "tests.small:model", "--input", "12", "1", "--classes", "2")
    topology = ("--topology", "v5e:1x1", "v5e:2x2", "--batch-per-chip", "8")
    plan.main(cli.parse(plan.Flags, [*network, *topology]))
    said = capsys.readouterr().out
    state = 3 * 4 * (3 * 4 + 4 + 4 * 2 + 2) + 4 * 4 + 8
    assert asked == [Recipe(), 8, parse_slice("v5e:2x2"), state, large]
    assert "v5e:2x2: needs 30 GB or more of 10 GB on a device; --remat fits\n" in said
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines()]
    assert ["v5e:1x1", "1", "1", "2", "1", "1"] in rows
    assert said.count("1,234") == 1
    assert "the body of a loop once" in said


def test_takes_the_settings_that_change_the_program_and_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = [*LENET, "--topology", "v5e:1x1"]
    given = ["--optimizer", "sgd", "--optimizer-args", "momentum=0.9", "--remat"]
    recipe = cli.parse(plan.Flags, [*args, *given, "--augment", "crop", "flip"]).recipe
    wanted = Recipe(
        optimizer="sgd", optimizer_args=("momentum=0.9",), remat=True, augment=("crop", "flip")
    )
    assert recipe == wanted
    taken = {*plan.Flags.__dataclass_fields__} & {*Recipe.__dataclass_fields__}
    assert taken == {*PROGRAM_FIELDS, "steps", "seeds"} - plan.OTHERS
    for flag in ("--out", "--devices", "--loss"):
        with pytest.raises(SystemExit):
            cli.parse(plan.Flags, [*args, flag, "1"])
        assert f"unknown argument '{flag}'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.parse(plan.Flags, ["--help"])
    assert "Name of an optax optimizer" in capsys.readouterr().out
