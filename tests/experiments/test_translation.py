"""Shifted digits, as a study."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flax import linen as nn

from cnn.data import Dataset, Split, load
from cnn.errors import InputError
from experiments import translation
from experiments.harness.study import Name, Outcome
from experiments.translation import CENTRED, MOVED, REACH, Settings
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    networks = ("conv", "global circular")
    translation.STUDY.run(Settings(smoke=True, networks=networks, moved=("conv",), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "translation.png", "translation.svg", "report.html", "summary.json"}
    assert names <= {p.name for p in out.glob("[!.]*")}
    printed = capsys.readouterr().out
    assert translation.CLAIMS[1].text in printed
    assert translation.CLAIMS[2].text not in printed  # one of its networks did not run
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["shift 0 accuracy"] == pytest.approx(row["test_accuracy"])


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
    correct = {name: np.mean(values) for name, values in found.items()}
    assert correct["shift 0 accuracy"] == correct["shift 4 accuracy"] == pytest.approx(1, abs=0.02)
    assert correct["shift 1 accuracy"] < 0.9


def test_each_image_moves_in_its_own_direction_by_the_shift() -> None:
    """Of one bright pixel, the network tells the row and column: all eight directions occur."""
    size, count = 16, 200
    x = np.zeros((count, size, size, 1), np.float32)
    x[:, 8, 8] = 1
    places = np.zeros(count, np.int32)
    model = nn.Sequential([lambda x: x.reshape(len(x), -1)])
    test = Split(x, places)
    data = Dataset("dot", test, test, tuple(map(str, range(size**2))), (0.0,), (1.0,))
    result = SimpleNamespace(states=[SimpleNamespace(variables={})])
    moves = {}
    for dy, dx in itertools.product(range(-3, 4), repeat=2):
        y = np.full(count, (8 + dy) * size + 8 + dx, np.int32)
        moved = replace(data, test=Split(x, y))
        config: Any = SimpleNamespace(examples=moved, model=model)
        (right,) = translation.measure(config, result)["shift 3 accuracy"]  # type: ignore[arg-type]
        moves[dy, dx] = right.sum()
    assert sum(moves.values()) == count
    assert {way for way, n in moves.items() if n} == {
        way for way in itertools.product((-3, 0, 3), repeat=2) if any(way)
    }


def test_summary() -> None:
    """Of the i-th point, accuracies are i and i + 2 %: with 95.5 % in training, one is fitted."""
    names: list[Name] = [("conv", CENTRED), ("local", CENTRED), ("conv", MOVED)]
    shifts = [translation.shifted(by) for by in range(REACH + 1)]
    results = outcomes(names, *shifts)
    results[names[0]] = Outcome(
        1, {**results[names[0]].values, "train_accuracy": np.array([0.95, 0.96])}
    )
    summary = translation.summarize(Settings(), results)
    assert summary.findings == [
        "At a shift by 4 pixels, accuracy is 1.0 % (conv/centred), 2.0 % (local/centred), "
        "3.0 % (conv/moved).",
        "These networks do not get 95 % of their training digits right, and might do better with "
        "more steps: local/centred (2.0 %), conv/moved (3.0 %).",
    ]
    (table,) = summary.tables
    assert table.rows[0][:3] == ["conv/centred", "95.50 ± 0.71", "1.00 ± 1.41"]
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


def test_no_digit_is_in_both_parts_where_one_is_held_out() -> None:
    found = translation.points(Settings(validate=True, copies=3))
    centred, moved = (found["conv", places].data for places in ("centred", "moved"))
    digits = load("digits")
    held = digits.held_out()
    assert len(moved.train) == 3 * len(centred.train) == 3 * len(held.train) < 3 * len(digits.train)
    for data in (centred, moved):
        assert len(data.test) == len(held.test)
        ink = {part.x.sum((1, 2, 3)).round(2).tobytes() for part in (centred.test, data.test)}
        assert len(ink) == 1  # the same digits, in the middle
    assert not any(config.validate for config in found.values())


def test_the_images_of_a_larger_data_set() -> None:
    assert Settings().data_name == "digits"
    assert Settings(full=True).data_name == "mnist"
    assert Settings(full=True, images="cifar10").data_name == "cifar10"
    with pytest.raises(InputError, match="images is the data set of --full, got 'cifar10'"):
        Settings(images="cifar10")
