"""Metrics against NumPy and by hand, and what does not fit them."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from cnn.errors import InputError
from cnn.train.losses import cross_entropy, squared_error
from cnn.train.metrics import binary_accuracy, make_metrics, measure, weighted_sum
from cnn.train.recipe import Recipe

RNG = np.random.default_rng(1)
LOGITS, LABELS = RNG.normal(size=(40, 6)).astype(np.float32), RNG.integers(0, 6, 40)


def test_classes_against_scikit_learn() -> None:
    found = make_metrics(Recipe(metrics=("accuracy", "top-1", "top-3", "top-6", "confusion")))
    values = {name: np.asarray(f(LOGITS, LABELS)) for name, f in found.items()}
    for k in (1, 3):
        expected = top_k_accuracy_score(LABELS, LOGITS, k=k, labels=range(6))
        assert values[f"top-{k}"].mean() == pytest.approx(expected)
    np.testing.assert_array_equal(values["accuracy"], values["top-1"])
    assert values["top-6"].all()
    expected = confusion_matrix(LABELS, LOGITS.argmax(1), labels=range(6))
    np.testing.assert_array_equal(values["confusion"].sum(0), expected)


def test_equal_logits_are_no_hit() -> None:
    """A network that says nothing must not be right: the class competes with all equal ones."""
    top = make_metrics(Recipe(metrics=("top-2",)))["top-2"]
    assert top(jnp.zeros((1, 4)), jnp.array([3])).tolist() == [False]


def test_binary_accuracy_by_hand() -> None:
    outputs, targets = jnp.array([[1.0, -1, 2, -0.5]]), jnp.array([[1.0, 0, 0, 0]])
    assert binary_accuracy(outputs, targets).tolist() == [0.75]


def test_the_default_is_the_accuracy_with_cross_entropy_only() -> None:
    assert [*make_metrics(Recipe())] == ["accuracy"]
    assert [*make_metrics(Recipe(loss="huber"))] == []


def bias(outputs: Any, targets: Any) -> Any:
    return outputs - targets


def test_functions_are_named_and_may_return_arrays() -> None:
    named = make_metrics(Recipe(loss=squared_error, metrics=(bias, f"{__name__}:twice")))
    assert [*named] == ["bias", "twice"]
    outputs, targets = jnp.array([[3.0, 1], [1, 1]]), jnp.array([[1.0, 0], [2, 5]])
    values = measure(squared_error, named, outputs, targets)
    assert values["loss"].tolist() == [2.5, 8.5]
    weighted = {k: weighted_sum(jnp.array([1.0, 2]), v).tolist() for k, v in values.items()}
    assert weighted == {"loss": 19.5, "bias": [0, -7], "twice": 2 * 3 + 2 * 2}


def twice(outputs: Any, targets: Any) -> Any:
    return 2 * outputs[:, 0]


def everything(outputs: Any, targets: Any) -> Any:
    return outputs.sum()


def test_what_does_not_fit_is_one_line() -> None:
    named: list[Any] = [
        (("acuracy",), "unknown metric 'acuracy': did you mean 'accuracy'"),
        (("top-0",), "metric top-0 must be from top-1 to top-6"),
        (("top-7",), "metric top-7 must be from top-1 to top-6"),
        (("top-k",), "unknown metric 'top-k': did you mean 'top-5'?"),
        (("accuracy", "accuracy"), "metrics must have different names, and none may be loss"),
        ((partial(cross_entropy), "cross_entropy"), "unknown metric 'cross_entropy'"),
        ((everything,), "metric everything must return one value, or one array, for each of 40"),
        (("squared-error",), "loss squared-error needs float targets"),
        (("no_such_module:f",), "metric 'no_such_module:f' cannot be imported"),
    ]
    for metrics, message in named:
        with pytest.raises(InputError) as error:
            measure(cross_entropy, make_metrics(Recipe(metrics=metrics)), LOGITS, LABELS)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="loss must return one value for each of 40 examples"):
        measure(everything, {}, LOGITS, LABELS)
    with pytest.raises(InputError, match=r"metric accuracy needs outputs .*give other metrics"):
        make_metrics(Recipe(metrics=("accuracy",)))["accuracy"](LOGITS, LOGITS)
