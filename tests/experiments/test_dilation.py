"""Rates of dilation, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from experiments import dilation
from experiments.dilation import SPREAD, STACKS, Study
from tests.experiments.made import check_pictures, outcomes, untrained


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dilation.main(Study(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "dilation.png", "dilation.svg", "report.html", "story.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert dilation.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stack", STACKS)
def test_the_span_is_that_of_the_geometry_and_all_maps_are_of_one_size(stack: str) -> None:
    layers = describe(dilation.network(stack), (dilation.SIZE, 1)).layers
    span, seen, _ = dilation.field(stack)
    assert [layer.field.size for layer in layers if layer.field][-1] == (span,)
    assert {layer.shape[0] for layer in layers if layer.field} == {dilation.SIZE}
    assert seen <= span


def test_holes_by_hand() -> None:
    """Four taps of −4, 0 or 4 add up to −16, −12, …, 16; variance 4 · 16 · 2 / 3."""
    assert dilation.field("4, 4, 4, 4") == (33, 9, pytest.approx((4 * 16 * 2 / 3) ** 0.5))
    assert dilation.field("1, 2, 4, 8")[:2] == (31, 31)


def test_the_field_of_an_untrained_network_spreads_with_the_rates() -> None:
    points = dilation.points(Study(stacks=("1, 1, 1, 1", "4, 4, 4, 4")))
    narrow, spread = (
        dilation.measure(config, untrained(config))[SPREAD][0] for config in points.values()
    )
    assert 1 < narrow < 4  # the field has 4 samples on either side
    assert spread == pytest.approx(4 * narrow, rel=0.1)  # same weights, four times as far apart


def test_the_story() -> None:
    settings = Study(stacks=("1, 1, 1, 1", "1, 2, 4, 8"))
    story = dilation.tell(settings, outcomes(dilation.points(settings), SPREAD))
    assert story.findings[1].startswith("1, 2, 4, 8: 2.0 %, seeing 31 of 31 samples")
    check_pictures(story)


def test_an_unknown_stack() -> None:
    with pytest.raises(InputError, match="unknown stack"):
        dilation.points(Study(stacks=("3, 3",)))
