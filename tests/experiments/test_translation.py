"""Shifted digits, as a study."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import load
from cnn.errors import InputError
from experiments import translation
from experiments.translation import CENTRED, MOVED, REACH, Settings
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translation.STUDY.run(
        Settings(smoke=True, networks=("mlp", "global circular"), moved=("mlp",), out=tmp_path)
    )
    out = tmp_path / "smoke"
    names = {"results.jsonl", "translation.png", "translation.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "global circular/centred" in printed
    assert translation.HYPOTHESIS in " ".join(printed.split())
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["shift 0"] == pytest.approx(row["test_accuracy"])


def test_circular_padding_and_global_pooling_undo_a_shift_by_the_total_stride() -> None:
    """Twice max-pooling by 2, all around: a shift by 4 moves the last map by one position."""
    (config,) = translation.points(Settings(networks=("global circular",), moved=())).values()
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


def test_summary() -> None:
    """Of the i-th point, accuracies are i and i + 2 %."""
    names = [("conv", CENTRED), ("global", CENTRED), ("conv", MOVED), ("local", MOVED)]
    shifts = [f"shift {by}" for by in range(REACH + 1)]
    summary = translation.summarize(Settings(), outcomes(names, *shifts, "consistency"))
    assert summary.findings == [
        "At a shift of 4 pixels, accuracy is 1.0 to 1.0 % (a dense head, trained centred); "
        "2.0 to 2.0 % (global pooling, trained centred); "
        "3.0 to 4.0 % (any network trained with shifts).",
        "There, sharing (conv over local) is worth -1.0 points (95 % interval -1.0 to -1.0) if "
        "trained on shifted digits.",
    ]
    assert summary.tables[1].rows == [
        ["global/centred − conv/centred", "+1.00", "+1.00 to +1.00"],
        ["conv/moved − local/moved", "-1.00", "-1.00 to -1.00"],
    ]
    check_figures(summary)


def test_canvas() -> None:
    """Digits are 8×8: rows and columns 4 to 11 of 16. Shifted, no part of a digit is lost."""
    digits = load("digits")
    centred, moved = translation.on_canvas(digits), translation.on_canvas(digits, copies=3)
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
        translation.points(Settings(networks=("globl",)))
