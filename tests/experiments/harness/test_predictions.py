"""Which test examples are right, and how a line of results holds it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cnn.data import Split
from cnn.train import fit
from experiments.harness import predictions, results
from tests.small import config


def test_they_are_those_of_the_measured_accuracy() -> None:
    given = config(seeds=2, steps=3)
    result = fit(given)
    right = predictions.correct(given, result)
    assert right is not None
    assert right.shape == (2, len(given.data.test))
    np.testing.assert_allclose(right.mean(1), result.test_accuracy)
    for state, row in zip(result.states, right, strict=True):
        logits = given.model.apply(state.variables, given.data.test.x)
        np.testing.assert_array_equal(row, np.argmax(logits, -1) == given.data.test.y)


def test_logits_are_the_outputs_in_the_order_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "BATCH", 7)
    given = config(seeds=2, steps=3)
    result = fit(given)
    found = predictions.logits(given, result, given.data.test)
    for state, row in zip(result.states, found, strict=True):
        whole = given.model.apply(state.variables, given.data.test.x)
        np.testing.assert_allclose(row, whole, rtol=1e-5, atol=1e-6)


def test_with_a_validation_part_they_are_of_that() -> None:
    given = config(steps=3, validate=True)
    result = fit(given)
    right = predictions.correct(given, result)
    assert right is not None
    assert right.shape == (1, len(given.examples.test))
    assert right.mean() == pytest.approx(result.test_accuracy[0])


def test_other_metrics_have_no_right_examples() -> None:
    given = config(steps=2, metrics=("top-2",))
    assert predictions.correct(given, fit(given)) is None


def test_a_sample_is_evenly_spaced() -> None:
    split = Split(np.arange(50, dtype=np.float32).reshape(50, 1, 1), np.arange(50, dtype=np.int32))
    assert predictions.sample(split, 10).y.tolist() == list(range(0, 50, 5))
    assert predictions.sample(split, 60).y.tolist() == list(range(50))
    assert len(predictions.sample(split, 49)) == 49


def test_lines_keep_which_examples_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "SAMPLED", 10)
    given = config(seeds=2, steps=3)
    result = fit(given)
    own = [np.array([True, False, True]), np.array([False, False, True])]
    rows = results.lines({"point": "a"}, given, result, {"on its side": own})
    found = results.of_lines([json.loads(json.dumps(row)) for row in rows], ["point"])["a",]
    assert found["on its side"] == pytest.approx([2 / 3, 1 / 3])
    np.testing.assert_array_equal(found.examples["on its side"].correct, own)
    assert found.examples["on its side"].of == 3
    assert found.examples["test_accuracy"].of == len(given.data.test)
    whole = predictions.correct(replace(given), result)
    np.testing.assert_array_equal(found.examples["test_accuracy"].correct, whole)
