"""Records of results: whatever a file holds, what is read of it are numbers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given

from cnn.errors import InputError
from cnn.ops import implementations
from cnn.train import run_identity
from cnn.train.losses import cross_entropy
from experiments.harness import results
from tests.mutations import mutated
from tests.small import config

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


class Edited(nn.Module):
    """A network whose code may be edited: the class has the same name and fields."""

    activation: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(2)(CODE[0](nn.Dense(4)(x.reshape(len(x), -1))))


CODE: list[Any] = [nn.relu]


def test_a_key_knows_the_code_of_the_network_and_of_its_loss() -> None:
    def one(**fields: Any) -> str:
        run_identity._program_hash.cache_clear()  # as in a new process
        return results.keys({("a",): config(**fields)}, None)[("a",), 0]

    first = one(model=Edited())
    assert one(model=Edited()) == first
    CODE[0] = nn.tanh
    try:
        assert one(model=Edited()) != first
    finally:
        CODE[0] = nn.relu
    losses = [lambda o, t, by=by: by * cross_entropy(o, t) for by in (1.0, 2.0)]
    assert len({one(loss=loss) for loss in losses}) == 2
    assert one(evaluate_every=3, validate=True) == one(validate=True)
    assert one(lr=1.0) != one(lr=2.0)


def test_results_of_different_environments_are_named() -> None:
    here = results.environment()
    assert here == {
        "jax": jax.__version__,
        "platform": "cpu",
        "implementations": implementations.described(),
    }
    lines = [{"environment": here}, {"environment": here | {"jax": "0.1"}}, {"environment": here}]
    assert results.describe_environments(lines[::2]) is None
    text = results.describe_environments([*lines, {}])
    assert text is not None
    assert f"different environments, equal only up to rounding: 2 of jax {jax.__version__}" in text
    assert "1 of jax 0.1, platform cpu" in text
    assert text.endswith("1 of an unknown one")


def test_an_outcome_shows_means_and_no_arrays() -> None:
    values = {"test_loss": np.array([1.0, 2.0]), "map": np.zeros((2, 5))}
    outcome = results.Outcome(1234, values)
    assert repr(outcome) == (
        "<Outcome: 1,234 parameters, test_loss 1.5000 ± 0.7071, map of shape (2, 5)>"
    )
    assert "<td>1.5000 ± 0.7071</td>" in outcome._repr_html_()


@pytest.mark.parametrize("label", [*results.FIELDS, "rung"])
def test_a_label_that_a_line_has_already_is_refused(label: str) -> None:
    """A point named by "examples" would lose that name to the test examples that are right."""
    line = of_seed(0, [True]) | {"config": {}, "seconds": 1.0} | results.provenance()
    assert set(results.FIELDS) <= {*line, "environment"}
    results.check_labels(("rung", "size"))
    with pytest.raises(InputError, match=rf"labels must differ .*, got '{label}'"):
        results.check_labels(("rung", label))


def of_seed(seed: int, correct: list[bool], **fields: Any) -> dict[str, Any]:
    """Return a line of the point a/b with the test examples that are right."""
    packed = results._pack(np.array(correct), fields.pop("of", 0))
    line = {"key": str(seed), "measured": ["test_accuracy"], "parameters": 3, "seed": seed}
    named = {"rung": "a", "order": "b", "test_accuracy": float(np.mean(correct))}
    return {**line, **named, "examples": {"test_accuracy": packed}, **fields}


def test_lines_become_points_with_their_seeds_in_order() -> None:
    rows = [
        of_seed(1, [True, True, False]),
        of_seed(0, [False] * 3),
        of_seed(0, [True] * 3, rung="c"),
    ]
    found = results.of_lines(rows, ["rung", "order"])
    assert list(found) == [("a", "b"), ("c", "b")]
    np.testing.assert_allclose(found["a", "b"]["test_accuracy"], [0, 2 / 3])
    right = found["a", "b"].examples["test_accuracy"]
    np.testing.assert_array_equal(right.correct, [[False] * 3, [True, True, False]])
    assert right.of == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([of_seed(0, [True]), of_seed(0, [True])], "seed 0 of point a/b has two lines: remove one"),
        ([{"key": "x", "seed": 0, "rung": "a"}], "line of key 'x' has no order"),
        ([of_seed(0, [True]), of_seed(1, [True, True])], "must have the same measures and shapes"),
        ([of_seed(0, [True], of=5), of_seed(1, [True], of=6)], "the same measures and shapes"),
    ],
    ids=range(4),
)
def test_lines_that_are_no_points_are_named(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        results.of_lines(rows, ["rung", "order"])


@pytest.mark.parametrize(
    "change",
    [
        {"correct": "AA==", "count": 9},
        {"correct": "AAA=", "count": 3},
        {"correct": "?"},
        {"correct": 3},
        {"count": -1},
        {"count": "3"},
        {"count": 3, "of": 2},
    ],
    ids=range(7),
)
def test_lines_with_damaged_examples_are_skipped(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = of_seed(0, [True] * 3), of_seed(1, [True] * 3)
    bad["examples"]["test_accuracy"] |= change
    assert list(read([good, bad])) == ["0"]
    assert caplog.messages[0].endswith("damaged or of another version (2)")


def test_points_that_differ_in_their_last_part_become_seeds() -> None:
    lines = [of_seed(i, right, order=str(i)) for i, right in enumerate([[True], [False]])]
    pooled = results.pool_seeds(results.of_lines(lines, ["rung", "order"]))
    np.testing.assert_array_equal(pooled["a",]["test_accuracy"], [1, 0])
    np.testing.assert_array_equal(pooled["a",].examples["test_accuracy"].correct, [[1], [0]])


def with_bytes(seed: int, **changes: Any) -> dict[str, Any]:
    """Return a line with a measure of two rows of bytes: 0, 1, 2 and 3, 4, 255."""
    kept = {"uint8": "AAECAwT/", "shape": [2, 3]} | changes
    return of_seed(seed, [True]) | {"measured": ["test_accuracy", "steps"], "steps": kept}


def test_bytes_are_kept_as_text() -> None:
    rows = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    assert results._plain(rows) == with_bytes(0)["steps"]
    lines = list(read([with_bytes(0), with_bytes(1)]).values())
    found = results.outcome(lines)["steps"]
    np.testing.assert_array_equal(found, [rows, rows])
    assert found.dtype == float


@pytest.mark.parametrize(
    "change",
    [
        {"uint8": "AAECAwT?"},
        {"uint8": 3},
        {"shape": [3, 3]},
        {"shape": [2, 3.0]},
        {"shape": [-2, -3]},
        {"shape": 5},
        {"uint8": "", "shape": [10**40, 0]},
    ],
    ids=range(7),
)
def test_lines_with_damaged_bytes_are_skipped(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(read([with_bytes(0), with_bytes(1, **change)])) == ["0"]
    assert caplog.messages[0].endswith("damaged or of another version (2)")


def test_bytes_of_other_shapes_are_named() -> None:
    with pytest.raises(InputError, match="must have the same measures and shapes"):
        results.outcome([with_bytes(0), with_bytes(1, shape=[3, 2])])


@given(mutated([with_bytes(0), with_bytes(1)]))
def test_mutated_bytes_are_numbers_or_refused(records: list[Any]) -> None:
    rows = list(read(records).values())
    try:
        outcome = results.outcome(rows) if rows else None
    except InputError as error:
        assert "must have the same measures and shapes" in str(error)
    else:
        for value in outcome.values.values() if outcome else ():
            assert value.dtype == float
