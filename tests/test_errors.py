"""`cnn.errors`: one line, which names the kind, the value and the nearest remedies."""

from __future__ import annotations

import pytest

from cnn.errors import InputError, unknown_name


def test_input_error_is_a_value_error() -> None:
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet", "unknown model 'lenet': did you mean 'lenet5'?"),
        ("cnn1", "unknown model 'cnn1': did you mean 'cnn1d' or 'cnn2d'?"),
        ("zzz", "unknown model 'zzz': choose one of cnn1d, cnn2d, lenet5, mlp"),
        ("", "unknown model '': choose one of cnn1d, cnn2d, lenet5, mlp"),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    error = unknown_name("model", name, ["mlp", "lenet5", "cnn1d", "cnn2d"])
    assert isinstance(error, InputError)
    assert str(error) == message


def test_unknown_name_lists_at_most_three_of_the_near_ones() -> None:
    error = unknown_name("data set", "mnistt", {"mnist", "mnist1", "mnist2", "mnist3", "digits"})
    assert str(error).count("'mnist") - str(error).count("'mnistt'") == 3


def test_unknown_name_is_one_line_whatever_the_name() -> None:
    assert "\n" not in str(unknown_name("model", "len\net", ["lenet5"]))


def test_unknown_name_accepts_an_iterator() -> None:
    assert (
        str(unknown_name("model", "x", iter(["b", "a"]))) == "unknown model 'x': choose one of a, b"
    )


def test_names_that_hold_commas_stay_apart() -> None:
    assert str(unknown_name("stack", "x", ["1, 2", "wide"])).endswith("choose one of 1, 2; wide")
