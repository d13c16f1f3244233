"""When the validation loss no longer falls."""

import pytest

from cnn.train.early_stopping import EarlyStopping


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([3.0, 2.0, 2.5, 2.0], 4),  # an equal loss is not smaller
        ([3.0, 2.0, 2.5, 1.9, 2.0, 2.0], 6),
        ([float("nan"), float("nan")], 2),
        ([1.0, None, 0.5], None),
        ([[4.0, 2.0], [3.0, 2.9], [2.0, 3.9]], None),  # means 3, 2.95, 2.95
    ],
)
def test_two_evaluations_without_a_smaller_loss(losses: list, stops: int | None) -> None:
    early, stopped = EarlyStopping(2), None
    for i, loss in enumerate(losses, 1):
        early.add(loss)
        stopped = stopped or (i if early.stopping else None)
    assert stopped == stops


def test_without_patience_it_never_stops() -> None:
    early = EarlyStopping(None)
    for _ in range(10):
        early.add(1.0)
    assert not early.stopping


def test_what_was_logged_counts_as_when_it_was_measured() -> None:
    """Evaluations of checkpoints, at other steps, do not count."""
    lines = [{"step": n, "validation_loss": [1.0]} for n in (10, 13, 20, 30)]
    early = EarlyStopping(3)
    early.replay([*lines, {"step": 40, "train_loss": [0.5]}], 10)
    assert not early.stopping
    early.add([1.0])
    assert early.stopping
