"""The command: its table, its files, and what it says of branches that are not aligned."""

import json
from pathlib import Path

import pytest

from cnn import geometry
from cnn.errors import InputError
from experiments import describe
from experiments.harness import cli
from tests.ablations.foreign import ResNet


def test_prints_a_table_that_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    describe.main(cli.parse(describe.Flags, ["--model", "vgg16", "--input", "224", "224", "3"]))
    said = capsys.readouterr()
    assert "vgg16 on 224×224×3" in said.out
    assert all(n in said.out for n in ("138,357,544", "15,470,264,320", "212", "layers_31"))
    assert "…" not in said.out
    assert said.err == ""


def test_writes_tables_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    flags = {"model": "lecture_cnn", "input": (28, 28, 1), "compare": "lenet5", "out": out}
    describe.main(describe.Flags(**flags))
    assert "281,034 → 61,706" in capsys.readouterr().out
    pictures = {f"{name}.{kind}" for name in ("growth", "map", "costs") for kind in ("png", "svg")}
    tables = {"lecture_cnn.json", "lecture_cnn.md", "lenet5.json", "lenet5.md", "comparison.md"}
    assert {p.name for p in out.iterdir()} == pictures | tables
    assert json.loads((out / "lenet5.json").read_text())["params"] == 61_706
    assert all((out / p).stat().st_size > 5000 for p in pictures)


@pytest.mark.parametrize(("model", "shape"), [("cnn1d", (40, 1)), ("mlp", (28, 28, 1))])
def test_pictures_of_one_axis_and_of_no_local_layer(
    model: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    describe.main(describe.Flags(model=model, input=shape, out=tmp_path))
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_branches_that_are_not_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    describe.main(describe.Flags(model="xception", input=(128, 128, 3)))
    said = capsys.readouterr()
    assert said.err.startswith("warning: xception, layer layers_8: its branches are not aligned")
    assert said.err.count("\n") == 1
    assert "22,855,952" in said.out


def test_a_network_of_the_users_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets.py").write_text(
        "from flax import linen as nn\n"
        "def wide(): return nn.Sequential([nn.Conv(4, (5, 5)), nn.relu, nn.Conv(8, (3, 3), 2)])\n"
        "def text(): return 'wide'\n"
        "def sized(width): return nn.Dense(width)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    describe.main(describe.Flags(model="own_nets:wide", input=(12, 12, 1), out=out))
    said = capsys.readouterr().out
    assert "layers_2" in said
    found = json.loads((out / "own_nets.wide.json").read_text())
    assert (found["params"], found["receptive_field"]) == (104 + 296, [7, 7])
    for name, line in (
        ("own_nets:text", "must return a Linen module, got str"),
        ("own_nets:sized", r"missing a required argument: .width.: give it as an argument"),
        (":wide", "cannot be imported: Empty module name"),
        ("own_nets:deep", "own_nets has no such function"),
        ("other_nets:wide", "cannot be imported: No module named 'other_nets'"),
    ):
        with pytest.raises(InputError, match=line):
            describe.main(describe.Flags(model=name, input=(12, 12, 1)))


def test_growth_leaves_out_branches_that_see_less() -> None:
    """The shortcut of a block sees less than its body, whatever the block is called."""
    found = {"resnet": geometry.describe(ResNet(), (16, 16, 1), aligned=False)}
    (panel,) = describe.growth(found).panels
    sizes = panel.series[0].values
    assert sizes == [1, 3, 5, 9, 13, 17, 25]


def test_wrong_input_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the smallest input that works is"):
        describe.main(describe.Flags(model="lecture_cnn", input=(8, 8, 1), out=tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
