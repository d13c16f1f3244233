"""The benchmarks' entry points, on the smallest of everything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import contenders, ops, page, profile, scaling, seeds, train_step
from cnn.errors import InputError
from experiments import cli


@pytest.mark.slow
def test_a_training_step_is_timed_and_its_row_kept(tmp_path: Path) -> None:
    flags = train_step.Flags(
        networks=("lenet5",),
        contenders=("ours",),
        seconds=0.0,
        rounds=1,
        one_core=True,
        out=tmp_path,
        page=tmp_path / "page.md",
    )
    train_step.main(flags)
    measured = json.loads((tmp_path / "train_step.json").read_text())
    assert set(measured["lenet5"]) == {"ours", "gemm"}
    assert "| lenet5, 128 |" in flags.page.read_text()
    assert (tmp_path / "train_step.png").stat().st_size > 1000


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
    ],
)
def test_what_no_contender_can_be(flags: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        contenders.main(cli.parse(contenders.Flags, flags))


def test_a_table_is_written_anew_between_its_markers() -> None:
    once = page.between("# Speed\n\nWords.\n", "ops", "first")
    both = page.between(once, "memory", "other")
    again = page.between(both, "ops", "second")
    assert again == both.replace("first", "second")
    assert again.startswith("# Speed\n\nWords.\n")
    assert page.spread([0.0012, 0.0021, 0.0015]) == "1.50 [1.20 – 2.10]"


def test_relative_speed_by_hand() -> None:
    median = {"ours": 2.0, "torch": 3.0, "torch_compiled": 5.0, "gemm": 1.0}
    assert train_step.beside_torch(median) == {"ours": 1.5, "torch": 1.0, "torch_compiled": 0.6}
    assert train_step.beside_torch({"ours": 2.0, "gemm": 1.0}) == {}
    assert train_step.beside_torch({"torch": 3.0, "torch_kept": 1.5})["torch_kept"] == 2.0


def test_the_exponent_of_a_power(tmp_path: Path) -> None:
    assert scaling.exponent({v: [99.0, 3 * v**1.5, 0.0] for v in (1, 2, 4)}) == pytest.approx(1.5)
    with pytest.raises(InputError, match="unknown quantity 'chanels'"):
        scaling.main(scaling.Flags(over=("chanels",), out=tmp_path, page=tmp_path / "page.md"))


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


@pytest.mark.slow
def test_a_profile_names_the_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile.main(profile.Flags(network="mlp", steps=1, rows=20, out=tmp_path))
    said = capsys.readouterr().out
    assert "f32[784,512]" in said
    assert "transpose(jvp(Chain))/layers_1" in said
    assert re.search(r"^temporaries: \d+\.\d MB$", said, re.MULTILINE)
    assert len(list((tmp_path / "mlp").rglob("*.xplane.pb"))) == 1
