"""The section about lines of a larger data set: accuracies beside published ones."""

from types import SimpleNamespace
from typing import Any

import pytest

from cnn.errors import InputError
from experiments.harness import larger_data

STUDY: Any = SimpleNamespace(
    labels=("rung", "order", "draw"),
    pooled=True,
    claims=(),
    published={
        ("mnist", "conv", "ordered"): {"test_accuracy": "94.97"},
        ("cifar10", "conv"): {"test_accuracy": "60"},
    },
)


def line(rung: str, seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {
        "rung": rung,
        "order": "ordered",
        "draw": str(seed),
        "seed": seed,
        "test_accuracy": accuracy,
        "parameters": 25_210,
        "seconds": 90.0,
        "config": {"data": "mnist", "steps": 3000, "recipe": {"lr": 0.03}},
        "environment": {"jax": "0.11.2"},
        "machine": "one",
        "commit": "abc",
        **changes,
    }


def test_accuracies_stand_beside_published_ones() -> None:
    """By hand: 90 and 92 %; their sample deviation is √2."""
    lines = [line("conv", 0, 0.90), line("conv", 1, 0.92), line("local", 0, 0.5)]
    assert larger_data.table(STUDY, lines).rows == [
        ["conv/ordered", "mnist", "25,210", "3,000", "0.03", "2", "91.00 ± 1.41", "94.97"],
        ["local/ordered", "mnist", "25,210", "3,000", "0.03", "1", "50.00", ""],
    ]
    assert larger_data.provenance(lines) == (
        "From [3 lines](full.jsonl), 4 minutes of training:\n\n"
        "- 3 of jax 0.11.2, machine one, commit abc"
    )


def test_seeds_that_were_trained_together_share_a_config() -> None:
    """And of two lines of a seed, the later one counts, with the config of its own training."""
    later = {**line("conv", 1, 0.93), "config": {"data": "mnist", "steps": 9, "recipe": {"lr": 1}}}
    together = [line("conv", 0, 0.90, draw="0"), line("conv", 1, 0.92, draw="0")]
    del together[1]["config"]
    found = larger_data.tested(STUDY, [*together, line("local", 0, 0.5), {**later, "draw": "0"}])
    assert [(x["rung"], x["test_accuracy"], x["config"]["steps"]) for x in found] == [
        ("conv", 0.90, 3000),
        ("conv", 0.93, 9),
        ("local", 0.5, 3000),
    ]
    other = {**together[0], "config": {"data": "cifar10", "steps": 1, "recipe": {"lr": 1}}}
    assert len(larger_data.tested(STUDY, [*together, other])) == 3
    (_, shared) = larger_data.tested(STUDY, together)
    assert shared["config"] == together[0]["config"]
    with pytest.raises(InputError, match="line of conv/ordered/0 with a config is missing: run"):
        larger_data.tested(STUDY, together[1:])


def test_the_accuracy_on_training_examples_can_be_what_was_published() -> None:
    of_paper = {("mnist", "conv"): {"train_accuracy": "99.34"}}
    study: Any = SimpleNamespace(**{**vars(STUDY), "published": of_paper})
    made = larger_data.table(study, [line("conv", 0, 0.1, train_accuracy=1.0)])
    assert list(made.heads[-3:]) == ["test, %", "training, %", "published training, %"]
    assert made.rows[0][-3:] == ["10.00", "100.00", "99.34"]


def test_other_measures_have_a_column_beside_their_published_one() -> None:
    """A point of which nothing was published has its own value all the same."""
    of_paper = {("mnist", "conv"): {"test_accuracy": "99", "shift 4 accuracy": "36.7"}}
    two: Any = SimpleNamespace(**{**vars(STUDY), "published": of_paper})
    moved: Any = {"shift 4 accuracy": 0.25}
    made = larger_data.table(two, [line("conv", 0, 0.9, **moved), line("local", 0, 0.5, **moved)])
    heads = ["test, %", "published test, %", "shift 4, %", "published shift 4, %"]
    assert list(made.heads[-4:]) == heads
    assert [row[-4:] for row in made.rows] == [
        ["90.00", "99", "25.00", "36.7"],
        ["50.00", "", "25.00", ""],
    ]


def test_of_two_published_values_that_of_the_longer_name_counts() -> None:
    """And a seed without a measure leaves the cell empty: its mean would be of fewer seeds."""
    of_paper = {
        ("mnist",): {"test_accuracy": "98", "shift 4 accuracy": "36.7"},
        ("mnist", "conv"): {"test_accuracy": "99"},
    }
    two: Any = SimpleNamespace(**{**vars(STUDY), "published": of_paper})
    moved: Any = {"shift 4 accuracy": 0.25}
    (row,) = larger_data.table(two, [line("conv", 0, 0.9, **moved), line("conv", 1, 0.9)]).rows
    assert row[-4:] == ["90.00 ± 0.00", "99", "", "36.7"]


def test_measures_of_claims_have_a_column_where_all_lines_have_them() -> None:
    claims = [SimpleNamespace(measure=m) for m in ("consistency", "test_accuracy")]
    claiming: Any = SimpleNamespace(**{**vars(STUDY), "published": {}, "claims": claims})
    lines = [line("conv", 0, 0.9, consistency=0.75), line("local", 0, 0.5, consistency=0.5)]
    made = larger_data.table(claiming, lines)
    assert list(made.heads[-2:]) == ["test, %", "consistency, %"]
    assert [row[-2:] for row in made.rows] == [["90.00", "75.00"], ["50.00", "50.00"]]
    del lines[0]["consistency"]
    assert larger_data.table(claiming, lines).heads[-1] == "test, %"


def test_nothing_published_has_no_column() -> None:
    unpublished: Any = SimpleNamespace(**{**vars(STUDY), "published": {}})
    made = larger_data.table(unpublished, [line("conv", 0, 0.9)])
    assert made.heads[-1] == "test, %"


def test_seeds_of_another_recipe_are_not_averaged_with_the_others() -> None:
    other = {"data": "mnist", "steps": 500, "recipe": {"lr": 0.03}}
    rows = larger_data.table(STUDY, [line("conv", 0, 0.9), line("conv", 1, 0.5, config=other)]).rows
    assert [(row[3], row[6]) for row in rows] == [("3,000", "90.00"), ("500", "50.00")]


def test_a_line_of_another_study_is_named() -> None:
    with pytest.raises(InputError, match="a line must have 'rung': it is of another study"):
        larger_data.tested(STUDY, [{"test_accuracy": 0.5, "seed": 0}])


def test_the_later_line_of_a_seed_counts_and_validation_does_not() -> None:
    old, new, other = line("conv", 0, 0.1), line("conv", 0, 0.9), line("conv", 1, 0.5)
    held_out = {k: v for k, v in line("conv", 2, 0.7).items() if k != "test_accuracy"}
    assert larger_data.tested(STUDY, [old, other, held_out, new]) == [new, other]
