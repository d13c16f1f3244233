"""Numbers of examples that are needed, and how they grow."""

from typing import Any

import numpy as np
import pytest

from cnn.errors import InputError
from experiments import invariance_in_label, waldo, width
from experiments.harness.counting import finding, needed, number, powers, slopes


def test_needed_examples_by_hand() -> None:
    """Halfway from 35 to 15 % is 25 %: the geometric middle of 100 and 10,000."""
    sizes = (100, 10_000, 20_000)
    assert needed(sizes, np.array([0.35, 0.15, 0.1])) == pytest.approx(1000)
    assert needed(sizes, np.array([0.2, 0.3, 0.2])) == pytest.approx(20_000 / 2**0.5)
    assert needed(sizes, np.array([0.2, 0.1, 0.1])) == 100
    assert needed(sizes, np.array([0.2, 0.1, 0.3])) == np.inf


def test_a_mean_of_bounds_is_a_bound() -> None:
    sizes = (8, 32, 128)
    assert number(np.array([16.0, 64]), sizes) == "32"
    assert number(np.array([8.0, 32]), sizes) == "at most 16"
    assert number(np.array([32, np.inf]), sizes) == "more than 64"
    assert number(np.array([8, np.inf]), sizes) == "unknown"


def test_slopes_by_hand() -> None:
    """1, 2, 16 at 1, 2, 4 have the slopes 1 and 3."""
    np.testing.assert_allclose(slopes([1, 2, 4], np.array([[1.0, 2, 16], [1.0, 2, 16]])), [1, 3])


def test_powers_by_hand() -> None:
    """3 / x and 1, 2, 16 at 1, 2, 4, whose slopes 1 and 3 make a line of 2."""
    found = powers([1, 2, 4], np.array([[3, 1.5, 0.75], [1, 2, 16]]))
    np.testing.assert_allclose(found, [-1, 2])


def test_a_power_by_hand() -> None:
    """Squares have 2 throughout; 10, 20, 160 at 1, 2, 4 have the slopes 1 and 3, a line of 2."""
    d = np.array([8, 16, 32])
    squares = finding("dense", "d", d.tolist(), np.array([3.0 * d**2, 5.0 * d**2]), (100, 10_000))
    assert squares == (
        "dense needs 248, 991, 3,966 examples at d = 8, 16, 32. That grows like d to the power "
        "2.00 (95 % interval over the draws 2.00 to 2.00; from one d to the next 2.00, 2.00)."
    )
    bent = finding("conv", "k", [1, 2, 4], np.array([[10.0, 20, 160]] * 2), (1, 1000))
    assert bent.endswith("2.00 to 2.00; from one k to the next 1.00, 3.00).")


def test_bounds_have_no_part_in_the_power() -> None:
    """The largest size, 100, is not enough at k = 4 for one seed."""
    counts = np.array([[3.0, 12, 48], [3.0, 12, np.inf]])
    assert finding("conv", "k", [1, 2, 4], counts, (1, 100)) == (
        "conv needs 3, 12, more than 69 examples at k = 1, 2, 4. That grows, for k = 1, 2, like k "
        "to the power 2.00 (95 % interval over the draws 2.00 to 2.00; from one k to the next "
        "2.00)."
    )
    text = finding("conv", "k", [1, 2], counts[:, 1:], (1, 100))
    assert text.endswith("With fewer than two numbers that are not bounds, it has no exponent.")


@pytest.mark.parametrize(
    ("study", "wrong"),
    [
        (waldo, {"sides": (0,)}),
        (waldo, {"sizes": ()}),
        (invariance_in_label, {"lengths": (4, 0)}),
        (invariance_in_label, {"sizes": (-1,)}),
        (width, {"widths": (0,)}),
    ],
)
def test_settings_below_one_are_one_line(study: Any, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name} must be whole numbers from 1 on, got"):
        study.points(study.Settings(**wrong))
