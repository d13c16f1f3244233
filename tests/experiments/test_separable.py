"""Factorized convolutions on a budget, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.models import cnn1d
from cnn.train.files import read_jsonl
from experiments import separable
from experiments.separable import IMAGES, SHAPE, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separable.STUDY.run(Settings(smoke=True, kinds=("grouped",), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "separable.png", "separable.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert separable.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_the_standard_network_is_that_of_the_ladder() -> None:
    assert separable.standard(25) == cnn1d()


def test_parameters_by_hand() -> None:
    """32 channels: a window of 5 on 1 channel, two places, a head on 5 positions."""
    around = (5 * 32 + 32) + (5 * 32 * 10 + 10)
    # Concat of 8, 12 then 16, 2 then 4, and 4 channels; windows of 1, 3, 5 and 1.
    branches = (32 * 8 + 8) + (32 * 12 + 12) + (3 * 12 * 16 + 16) + (32 * 2 + 2) + (5 * 2 * 4 + 4)
    places = {
        "grouped": 3 * 8 * 32 + 32,
        "separable": 3 * 32 + 32 * 32 + 32,
        "inception": branches + 32 * 4 + 4,
    }
    assert describe(separable.standard(32), SHAPE).params == around + 2 * (3 * 32 * 32 + 32)
    for kind, place in places.items():
        model = separable.factorized(kind, 32)
        assert describe(model, SHAPE, aligned=False).params == around + 2 * place


def test_budgets_are_met() -> None:
    """To a tenth, in steps of the groups."""
    costs = separable.costs(Settings(kinds=("separable",)))
    parameters, macs = costs["standard", separable.SAME_WIDTH]
    assert costs["separable", "equal parameters"][0] == pytest.approx(parameters, rel=0.1)
    assert costs["separable", "equal MACs"][1] == pytest.approx(macs, rel=0.1)


def test_inception_halves_the_map_as_the_convolution_does() -> None:
    assert describe(separable.inception(16), (20, 16)).layers[-1].shape[0] == 10
    model = separable.factorized("inception", 16)
    assert describe(model, SHAPE, aligned=False).layers[-1].shape == (10,)


def test_parameters_on_images_by_hand() -> None:
    """Maps of 13, 7 and 4: windows of 5×5 on 1 channel and of 3×3, a head on 4×4 positions."""
    around = (25 * 32 + 32) + (16 * 32 * 10 + 10)
    networks = separable.networks(Settings(full=True, kinds=("separable",)))
    places = {"standard": 9 * 32 * 32 + 32, "separable": 9 * 32 + 32 * 32 + 32}
    for kind, place in places.items():
        model = networks[kind, separable.SAME_WIDTH]
        assert describe(model, IMAGES, aligned=False).params == around + 2 * place
    assert describe(separable.inception(16, rank=2), (7, 7, 16)).layers[-1].shape == (4, 4, 16)


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    separable.STUDY.run(
        Settings(full=True, smoke=True, data_dir=prepared("fashion_mnist"), out=tmp_path)
    )
    assert len(read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")) == 2 * 10


def test_summary() -> None:
    """The i-th network has i and i + 2 %: standard, then grouped with three budgets."""
    settings = Settings(kinds=("grouped",))
    summary = separable.summarize(settings, outcomes(separable.networks(settings)))
    assert summary.findings[0] == (
        "Equal parameters: grouped is the most accurate (3.0 %); differences to standard in "
        "points, with 95 % intervals: grouped +2.0 (+2.0 to +2.0)."
    )
    assert (
        summary.tables[0].rows[0]
        == ["standard, same width", "8,010", "50,720"] + ["1.00 ± 1.41"] * 2
    )
    check_figures(summary)


def test_an_unknown_kind_or_an_invalid_width() -> None:
    with pytest.raises(InputError, match="unknown kind 'groupd'"):
        separable.points(Settings(kinds=("groupd",)))
    for channels in (0, 17):
        with pytest.raises(InputError, match=f"positive multiple of 16, got {channels}"):
            separable.points(Settings(channels=channels))
