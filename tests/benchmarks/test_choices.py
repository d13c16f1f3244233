"""The ways to convolve: which are possible, how far the choice is from the fastest, constants."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks import calibrate, choices
from benchmarks.choices import Convolution
from cnn import ops
from cnn.errors import InputError
from cnn.ops.cpu import cost, one_group


def convolution(x: tuple[int, ...], kernel: tuple[int, ...], strides: int = 1) -> Convolution:
    return Convolution("random-0-0", x, kernel, ops.window_spec(x[1:-1], kernel[:-2], strides))


def test_ways_that_can_compute_a_convolution() -> None:
    assert list(choices.ways(convolution((1, 9, 9, 24), (3, 3, 24, 24)))) == [
        "im2col",
        "kn2row",
        "whole_map",
        "toeplitz",
        "winograd",
        "kernel_gradient",
        "definition",
    ]
    assert list(choices.ways(convolution((1, 9, 4), (3, 1, 4)))) == [
        "grouped",
        "depthwise",
        "definition",
    ]
    assert list(choices.ways(convolution((1, 9, 4), (3, 2, 4)))) == ["grouped", "definition"]


def test_the_way_that_is_chosen() -> None:
    assert choices.chosen(convolution((1, 9, 4), (3, 1, 4))) == "depthwise"
    assert choices.chosen(convolution((1, 9, 4), (3, 2, 4))) == "grouped"
    assert choices.chosen(convolution((1, 2000, 4), (1999, 2, 4))) == "definition"
    at = convolution((64, 16, 16, 64), (1, 1, 64, 64))
    assert choices.chosen(at) == one_group.choice(*at.shapes) == "im2col"


def test_a_convolution_of_a_drawn_network() -> None:
    found = [choices.draw(11, i) for i in range(3)]
    assert found == [choices.draw(11, i) for i in range(3)]
    for at in found:
        assert at.x[1:-1] == at.spec.size and at.kernel[:-2] == at.spec.window
        assert at.x[-1] % at.kernel[-2] == 0


def test_convolutions_of_a_calibration_are_within_bounds() -> None:
    for at in (calibrate.draw(0, i) for i in range(20)):
        outputs = at.x[0] * math.prod(at.spec.out)
        assert calibrate.MACS[0] / 2 <= outputs * math.prod(at.kernel) <= calibrate.MACS[1]
        assert max(math.prod(at.x), outputs * at.kernel[-1]) <= calibrate.NUMBERS


def record(index: int, **medians: float) -> dict[str, Any]:
    """Return a line of a convolution of which im2col copies 4,608 windows of 288 numbers."""
    at = convolution((8, 26, 26, 32), (3, 3, 32, 8))
    named = {"network": f"0-{index}", "x": at.x, "kernel": at.kernel, "spec": at.spec._asdict()}
    line = {**named, "is": str(at), "chosen": "im2col", "medians": medians}
    times = {"seconds": {name: [t] for name, t in medians.items()}}
    found: dict[str, Any] = json.loads(json.dumps(line | times))
    return found


def test_regret_by_hand() -> None:
    found = [record(0, im2col=3.0, toeplitz=2.0), record(1, im2col=1.0, toeplitz=2.0)]
    assert [choices.regret(r) for r in found] == [1.5, 1.0]
    table = choices.by_way(found)
    assert "| im2col | 2 | 2 | 1 | 1.25 | 1.45 | 1.50 |" in table
    assert "| toeplitz | 2 | 0 | 1 | – | – | – |" in table
    assert choices.worst(found).count("\n") == 2


@pytest.mark.parametrize(
    ("fastest", "other"), [("im2col", "kernel_gradient"), ("kernel_gradient", "im2col")]
)
def test_fitted_constants_choose_what_was_fastest(fastest: str, other: str) -> None:
    lines = [record(i, **{fastest: 1.0, other: 9.0}) for i in range(2)]
    ns = calibrate.fit(lines)
    assert calibrate.choose(lines[0], ns)["chosen"] == fastest
    assert all(0 < value < math.inf for value in ns)


def test_shipped_constants_choose_well_on_their_lines() -> None:
    """Measured: a geometric mean of 1.04, and 2.92 at most. By the first way that fits: 1.5.

    The most is of one tap and few channels, a line that was measured after the constants.
    """
    lines = Path(calibrate.__file__).with_name("costs") / "calibrate.jsonl"
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    regrets = [choices.regret(calibrate.choose(r, cost.SHIPPED)) for r in records]
    assert len(regrets) > 400
    assert math.exp(sum(map(math.log, regrets)) / len(regrets)) < 1.06
    assert max(regrets) < 3


def test_lines_of_the_shipped_constants_have_rows() -> None:
    """They have medians alone, without turns."""
    line = {"network": "0-0", "is": "2×9×3", "chosen": "im2col"}
    record = {**line, "medians": {"im2col": 0.003, "kn2row": 0.001}}
    assert "| 3.00 [3.00 – 3.00] | 1.00 [1.00 – 1.00] |" in choices.worst([record])


@pytest.mark.parametrize("flags", [{"count": 4}, {"rounds": 0}, {"seed": -1}])
def test_flags_out_of_range(flags: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must be at least"):
        calibrate.Flags(**flags)


@pytest.mark.slow
def test_a_calibration_goes_on_and_writes_constants(tmp_path: Path) -> None:
    for count in (5, 6):
        calibrate.main(calibrate.Flags(count=count, seconds=0.0, rounds=1, out=tmp_path))
    assert len((tmp_path / "calibrate.jsonl").read_text().splitlines()) == 6
    assert cost.read(tmp_path / "costs.json") != cost.SHIPPED


@pytest.mark.slow
def test_choices_are_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    choices.main(choices.Flags(seed=11, count=2, seconds=0.0, rounds=1, out=tmp_path, page=page))
    assert len((tmp_path / "choices.jsonl").read_text().splitlines()) == 2
    assert "| way | possible | chosen |" in page.read_text()
