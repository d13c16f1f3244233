"""Shifted digits, as a study."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import load
from cnn.errors import InputError
from experiments import translation
from experiments.translation import CENTRED, MOVED, REACH, Study
from tests.experiments.made import check_pictures, outcomes, untrained


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translation.main(
        Study(smoke=True, networks=("mlp", "global circular"), moved=("mlp",), out=tmp_path)
    )
    out = tmp_path / "smoke"
    names = {"results.jsonl", "translation.png", "translation.svg", "report.html", "story.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "global circular, trained centred" in printed
    assert translation.HYPOTHESIS in " ".join(printed.split())
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["shift 0"] == pytest.approx(row["test_accuracy"])


def test_a_circular_border_and_a_pooled_head_undo_a_shift_by_the_effective_stride() -> None:
    """Twice max-pooling by 2, all around: a shift by 4 moves the last map by one position."""
    (config,) = translation.points(Study(networks=("global circular",), moved=())).values()
    test = config.data.test.take(np.arange(60))
    result = untrained(config)
    (state,) = result.states
    logits = config.model.apply(state.variables, test.x)
    state.variables["params"]["layers_7"]["bias"] -= logits.mean(0)  # or all are of one class
    given = np.asarray((logits - logits.mean(0, keepdims=True)).argmax(-1), np.int32)
    data = replace(config.data, test=replace(test, y=given))
    found = translation.measure(replace(config, data=data), result)
    assert found["shift 0"] == found["shift 4"] == [pytest.approx(1, abs=0.02)]
    assert found["shift 1"][0] < 0.9
    assert found["consistency"][0] < 0.9


def test_the_story() -> None:
    names = [("conv", CENTRED), ("global", CENTRED), ("conv", MOVED)]
    shifts = [f"shift {by}" for by in range(REACH + 1)]
    story = translation.tell(Study(), outcomes(names, *shifts, "consistency"))
    assert story.findings[1].startswith("global, trained centred: 2.0 % where the digits were")
    assert story.tables[1].rows == [["global/centred − conv/centred", "+1.00", "+1.00 to +1.00"]]
    check_pictures(story)


def test_what_stands_in_the_middle_of_the_canvas() -> None:
    """Digits are 8×8: rows and columns 4 to 11 of 16. Moved, all of every digit is still there."""
    digits = load("digits")
    centred, moved = translation.canvas(digits), translation.canvas(digits, copies=3)
    assert centred.input_shape == (16, 16, 1)
    np.testing.assert_array_equal(centred.train.x[:, 4:12, 4:12], digits.train.x)
    np.testing.assert_array_equal(centred.test.x, moved.test.x)
    background = digits.train.x.min()
    assert (centred.train.x[:, [3, 12]] == background).all()
    assert len(moved.train) == 3 * len(digits.train)
    ink = (digits.train.x - background).sum((1, 2, 3))
    np.testing.assert_allclose(
        (moved.train.x - background).sum((1, 2, 3)), ink.repeat(3), rtol=1e-4
    )
    np.testing.assert_array_equal(moved.train.y, digits.train.y.repeat(3))


def test_an_unknown_network() -> None:
    with pytest.raises(InputError, match="unknown network 'globl'"):
        translation.points(Study(networks=("globl",)))
