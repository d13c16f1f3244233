"""Factorized convolutions on a budget, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers.tree import leaf_layers
from cnn.models import cnn1d
from cnn.train.files import read_jsonl
from experiments import separable
from experiments.separable import IMAGES, KINDS, SHAPE, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separable.STUDY.run(Settings(smoke=True, kinds=("grouped",), out=tmp_path))
    out = tmp_path / "smoke"
    assert (out / "separable.png").exists()
    assert separable.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_the_standard_network_is_that_of_the_ladder() -> None:
    assert separable.standard(25) == cnn1d()


def test_parameters_by_hand() -> None:
    """32 channels: a window of 5 on 1 channel, two places, a head on 5 positions."""
    around = (5 * 32 + 32) + (5 * 32 * 10 + 10)
    places = {
        "grouped": 3 * 8 * 32 + 32,
        "separable": 3 * 32 + 32 * 32 + 32,
        "bottleneck": 32 * 8 + 3 * 8 * 32 + 32,
    }
    assert describe(separable.standard(32), SHAPE).params == around + 2 * (3 * 32 * 32 + 32)
    for kind, place in places.items():
        assert describe(separable.factorized(kind, 32), SHAPE).params == around + 2 * place


def test_all_kinds_have_the_windows_and_the_relus_of_the_standard_network() -> None:
    """The field of the last map is 5 + 2 · 2 + 2 · 4 samples."""
    models = [separable.standard(32), *(separable.factorized(kind, 32) for kind in KINDS)]
    for model in models:
        layers = describe(model, SHAPE).layers
        assert [layer.field.size for layer in layers if layer.field][-1] == (17,)
        kinds = [type(layer).__name__ for layer in leaf_layers(model).values()]
        assert kinds.count("ReLU") == 3


@pytest.mark.slow
def test_parameters_are_equal() -> None:
    """To a tenth, in steps of the groups."""
    costs = separable.costs(Settings())
    parameters, _ = costs[separable.WHOLE]
    for kind in KINDS:
        assert costs[kind, separable.EQUAL][0] == pytest.approx(parameters, rel=0.1)


@pytest.mark.slow
def test_parameters_on_images_by_hand() -> None:
    """Maps of 13, 7 and 4: windows of 5×5 on 1 channel and of 3×3, a head on 4×4 positions."""
    around = (25 * 32 + 32) + (16 * 32 * 10 + 10)
    networks = separable.networks(Settings(full=True, kinds=("separable",)))
    places = {"standard": 9 * 32 * 32 + 32, "separable": 9 * 32 + 32 * 32 + 32}
    for kind, place in places.items():
        model = networks[kind, separable.SAME_WIDTH]
        assert describe(model, IMAGES, aligned=False).params == around + 2 * place


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    separable.STUDY.run(
        Settings(full=True, smoke=True, data_dir=prepared("fashion_mnist"), out=tmp_path)
    )
    assert len(read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")) == 2 * 7


def test_summary() -> None:
    """The i-th network has i and i + 2 %; 3,402 of 8,010 parameters are 42 %."""
    settings = Settings(kinds=("grouped",))
    summary = separable.summarize(settings, outcomes(separable.networks(settings)))
    assert summary.findings == [
        "Share of the standard network's parameters at its width: grouped 42%."
    ]
    assert (
        summary.tables[0].rows[0]
        == ["standard, same width", "8,010", "50,720"] + ["1.00 ± 1.41"] * 2
    )
    check_figures(summary)


def test_an_unknown_kind_or_an_invalid_width() -> None:
    with pytest.raises(InputError, match="unknown kind 'groupd'"):
        separable.points(Settings(kinds=("groupd",)))
    for channels in (0, 18):
        with pytest.raises(InputError, match=f"positive multiple of 4, got {channels}"):
            separable.points(Settings(channels=channels))
