"""Rates of dilation, as a study."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers import AvgPool, Chain
from cnn.train.files import read_jsonl
from experiments import dilation
from experiments.dilation import IMAGES, NARROW, SHAPE, SPREAD, STACKS, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dilation.STUDY.run(Settings(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {f"{figure}.{kind}" for figure in ("dilation", "claims") for kind in ("png", "svg")}
    names |= {"results.jsonl", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert dilation.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("shape", [SHAPE, IMAGES], ids=str)
@pytest.mark.parametrize("stack", STACKS)
def test_the_span_is_that_of_the_geometry_and_all_maps_are_of_one_size(
    stack: str, shape: tuple[int, ...]
) -> None:
    *sizes, _ = shape
    layers = describe(dilation.network(stack, len(sizes)), shape).layers
    span, seen, _ = dilation.field(stack)
    assert [layer.field.size for layer in layers if layer.field][-1] == (span,) * len(sizes)
    assert {layer.shape[:-1] for layer in layers if layer.field} == {tuple(sizes)}
    assert seen <= span


def test_the_narrow_network_has_about_as_many_weights_by_hand() -> None:
    """Windows of 3, 5, 9 and 17 with 9 channels, of their squares with 4, and a head for each."""
    line = (3 * 9 + 9) + (31 * 81 + 3 * 9) + (9 * 10 + 10)
    square = (9 * 4 + 4) + ((25 + 81 + 289) * 16 + 3 * 4) + (4 * 10 + 10)
    for shape, weights in ((SHAPE, line), (IMAGES, square)):
        narrow, plain = (
            describe(dilation.network(stack, len(shape) - 1), shape).params
            for stack in (NARROW, "1, 1, 1, 1")
        )
        assert narrow == weights == pytest.approx(plain, rel=0.15)


def test_inputs_seen_by_hand() -> None:
    """Four offsets of −4, 0 or 4 add up to −16, −12, …, 16; variance 4 · 16 · 2 / 3.

    In any order, offsets of ±1, ±2, ±4 and ±8 or 0 add up to −15, −14, …, 15.
    """
    assert dilation.field("4, 4, 4, 4") == (33, 9, pytest.approx((4 * 16 * 2 / 3) ** 0.5))
    orders = [stack for stack, (_, rates) in STACKS.items() if sorted(rates) == [1, 2, 4, 8]]
    assert len(orders) == 4
    assert {dilation.field(stack)[:2] for stack in orders} == {(31, 31)}


def test_the_field_of_an_untrained_network_spreads_with_the_rates() -> None:
    points = dilation.points(Settings(stacks=("1, 1, 1, 1", "4, 4, 4, 4")))
    narrow, spread = (
        dilation.measure(config, untrained(config))[SPREAD][0] for config in points.values()
    )
    assert 1 < narrow < 4  # the field has 4 samples on either side
    assert spread == pytest.approx(4 * narrow, rel=0.1)  # same weights, rates four times as large


def test_the_spread_of_a_square_mean_by_hand() -> None:
    """Three equal weights per axis, at −1, 0 and 1: variance 2 / 3 along each."""
    config = next(iter(dilation.points(Settings(stacks=("1, 1, 1, 1",))).values()))
    images = Split(np.ones((2, 5, 5, 1), np.float32), np.zeros(2, np.int32))
    data = Dataset("ones", images, images, ("a",), (0.0,), (1.0,))
    result: Any = SimpleNamespace(states=[SimpleNamespace(variables={})])
    blur = Chain((*[AvgPool((1, 1))] * 7, AvgPool((3, 3), 1, padding=1)))
    found = dilation.measure(replace(config, model=blur, data=data), result)
    assert found[SPREAD] == pytest.approx([(2 / 3) ** 0.5])


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    stacks = ("1, 1, 1, 1", "1, 2, 4, 8")
    folder = prepared("fashion_mnist")
    dilation.STUDY.run(
        Settings(full=True, smoke=True, stacks=stacks, data_dir=folder, out=tmp_path)
    )
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    narrow, doubling = ([r[SPREAD] for r in rows if r["stack"] == stack] for stack in stacks)
    assert 0 < max(narrow) < 4 < min(doubling)


def test_summary() -> None:
    """Spreads of 0.01 and 0.02; with equal weights √(8 / 3) and √(85 · 2 / 3)."""
    settings = Settings(stacks=("1, 1, 1, 1", "1, 2, 4, 8"))
    summary = dilation.summarize(settings, outcomes(dilation.points(settings), SPREAD))
    assert summary.findings == [
        "Trained fields are 0.00 to 0.01 times as wide as fields of equal weights."
    ]
    row = summary.tables[0].rows[1]
    assert (row[3], row[5], row[6]) == ("31 of 31", "7.5", "2.00 ± 1.41")
    check_figures(summary)


def test_claims_compare_stacks_that_differ_in_one_thing() -> None:
    """The skipping stack is compared at its first rate, orders at the same inputs seen."""
    claimed = {claim.text: (*claim.a, *claim.b) for claim in dilation.STUDY.claims}
    assert {stack for pair in claimed.values() for stack in pair} == set(STACKS)
    skipped, other = claimed["inputs that are skipped cost, at the same first rate"]
    assert STACKS[skipped][1][0] == STACKS[other][1][0] == 4
    assert dilation.field(skipped)[1] > dilation.field(other)[1]
    for text, pair in claimed.items():
        if "order" in text:
            assert len({dilation.field(stack) for stack in pair}) == 1


def test_an_unknown_stack() -> None:
    with pytest.raises(InputError, match="unknown stack"):
        dilation.points(Settings(stacks=("3, 3",)))
