"""Records of results: whatever a file holds, what is read of it are numbers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from cnn.errors import InputError
from experiments.harness import results
from tests.mutations import mutated

ROW = {"key": "a", "measured": ["test_loss", "both"], "parameters": 3, "seed": 0}
ROWS: list[dict[str, Any]] = [
    ROW | {"test_loss": 0.5, "both": [1.0, 2.0]},
    ROW | {"key": "b", "seed": 1, "test_loss": 0.25, "both": [3.0, float("nan")]},
]


def read(records: list[Any], **needed: list[str]) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return results.read(path, needed)


def test_rows_are_read_by_key() -> None:
    found = read(ROWS)
    assert list(found) == ["a", "b"]
    outcome = results.outcome(list(found.values()))
    assert outcome.parameters == 3
    np.testing.assert_array_equal(outcome["test_loss"], [0.5, 0.25])
    np.testing.assert_array_equal(outcome["both"], [[1.0, 2.0], [3.0, np.nan]])


@pytest.mark.parametrize(
    "change",
    [
        {"key": 3},
        {"parameters": True},
        {"measured": "key"},
        {"measured": []},
        {"measured": [["test_loss"]]},
        {"measured": ["test_loss", "other"]},
        {"test_loss": "0.5"},
        {"test_loss": None},
        {"test_loss": True},
        {"test_loss": 10**400},
        {"both": [1.0, [2.0]]},
    ],
    ids=range(11),
)
def test_a_row_without_numbers_is_skipped(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(read([ROWS[0] | change, ROWS[1]])) == ["b"]
    assert caplog.messages[0].endswith("damaged or of another version (1)")


@pytest.mark.parametrize(
    "change",
    [{"measured": ["both"]}, {"test_loss": "0.5"}],
    ids=range(2),
)
def test_a_row_without_what_is_needed_is_skipped(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(read([ROWS[0] | change, *ROWS[1:]], a=["test_loss"])) == ["b"]
    assert caplog.messages[0].endswith("damaged or of another version (1)")
    assert list(read([ROWS[0] | change, *ROWS[1:]], b=["test_loss"]))[-1] == "b"


def test_a_measure_that_is_not_there_is_named() -> None:
    outcome = results.outcome(list(read(ROWS).values()))
    with pytest.raises(InputError, match=r"^results have no 'variance', only test_loss, both: "):
        outcome["variance"]


@given(mutated(ROWS))
def test_mutated_rows_are_numbers_or_refused(records: list[Any]) -> None:
    rows = list(read(records).values())
    try:
        outcome = results.outcome(rows) if rows else None
    except InputError as error:
        assert "must have the same measures and shapes" in str(error)
        assert "\n" not in str(error)
    else:
        for value in outcome.values.values() if outcome else ():
            assert value.dtype == float
            assert len(value) == len(rows)


def test_rows_of_other_shapes_are_named() -> None:
    with pytest.raises(
        InputError, match=r"results of keys 'a' and 'b' must have the same measures"
    ):
        results.outcome(list(read([ROWS[0], ROWS[1] | {"both": [1.0]}]).values()))
