"""The page of a study: what its lines say, and nothing without a line."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.errors import InputError
from experiments.harness import claims, pages, plots
from experiments.harness.study import Claim, Outcome, Summary, Table
from tests.experiments.harness import tiny


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with the lines of one study."""
    monkeypatch.setitem(sys.modules, "experiments.ladder", tiny.module())
    tiny.write(tmp_path / "docs/studies/ladder/results.jsonl", tiny.lines())
    return tmp_path


ANSWER = "Sharing helps: +10.0 points (+10.0 to +10.0)."


def body(root: Path) -> str:
    return pages.make(root, "ladder").body


def with_lines(root: Path, lines: list[dict[str, Any]]) -> str:
    tiny.write(root / "docs/studies/ladder/results.jsonl", lines)
    return body(root)


def test_a_page_says_what_the_lines_say(root: Path) -> None:
    """By hand: conv 90 and 92, local 80 and 82; the standard deviation of both is √2."""
    text = body(root)
    answer, measured = text.partition("\n\n## How it was measured\n\n")[::2]
    parts = answer.split("\n\n")
    assert parts[:4] == [
        "# Is sharing worth anything?",
        "**Hypothesis.** It is.",
        "## Answer",
        f"**1 of 1 claims holds.** {ANSWER}",
    ]
    assert parts[4] == f"![1 of 1 claims holds. {ANSWER}](claims.png)"
    assert parts[5].startswith("Intervals cover the seeds")
    assert "| sharing helps | conv/ordered − local/ordered |" in parts[6]
    assert parts[6].endswith("| holds |")
    assert parts[7:] == [
        "- Sharing is worth 10.0 points. It is\nso in 95 % of cases.\n- More.",
        "![Sharing is worth 10.0 points.](ladder.png)",
        "Test accuracy in percent",
        "| rung | ordered, % |\n| :-- | --: |\n| conv | 91.00 ± 1.41 |\n| local | 81.00 ± 1.41 |",
    ]
    assert measured == (
        "`.venv/bin/python -m experiments.ladder` left [4 lines of results](results.jsonl), from "
        "which this page is made. They took 6 minutes of training in all.\n\n"
        "- 4 of jax 0.10.2, platform cpu, implementations fastest, machine two cores, "
        "commit abc\n\n"
        "## Setting\n\n    .venv/bin/python -m experiments.ladder\n\nTwo rungs of a ladder."
    )


def test_the_answer_is_the_first_two_claims_or_else_the_first_finding() -> None:
    values = {("a",): [0.5, 0.6], ("b",): [0.4, 0.5]}
    results = {n: Outcome(1, {"test_accuracy": np.array(v)}) for n, v in values.items()}
    made = [Claim(f"claim {i}", ("a",), ("b",), above=0.05 * i) for i in range(4)]
    verdicts = claims.judge(made, results)
    told = "claim 1: +10.0 points (+10.0 to +10.0)"
    found = Summary(["Found."], [], {}, verdicts=verdicts[1:])
    second = "claim 2: +10.0 points (+10.0 to +10.0)"
    assert pages.answer(found).startswith(f"C{told[1:]}; {second}")
    found = Summary(["Found."], [], {}, verdicts=verdicts[3:])
    assert pages.answer(found) == ("Claim 3: +10.0 points (+10.0 to +10.0) (does not hold).")
    assert pages.answer(Summary(["Found."], [], {})) == "Found."
    assert pages.answer(Summary([], [], {})) == "No findings."


def test_the_order_of_the_lines_changes_nothing(root: Path) -> None:
    assert with_lines(root, tiny.lines()[::-1]) == body(root)


def test_a_missing_seed_is_named_with_the_command_that_trains_it(root: Path) -> None:
    with pytest.raises(InputError) as raised:
        with_lines(root, tiny.lines()[:-1])
    assert str(raised.value) == (
        f"{root}/docs/studies/ladder/results.jsonl has no line of point local/ordered, seed 1: "
        "`python -m experiments.ladder --only local/ordered --seed 1 --seeds 1` trains it, then "
        "add --take results"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (tiny.line("conv", 1), "has two lines of point conv/ordered, seed 1: remove one"),
        (tiny.line("conv", 1) | {"seed": 7}, "a line of point conv/ordered, seed 7, which the"),
        (tiny.line("conv", 1) | {"rung": "x"}, "a line of point x/ordered, seed 1, which the"),
        (tiny.line("conv", 1, "validation"), "seed 1, with a part held out, which the study lacks"),
    ],
    ids=range(4),
)
def test_a_line_too_many_is_named(root: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_lines(root, [*tiny.lines(), more])


def test_a_line_of_another_recipe_is_refused(root: Path) -> None:
    first, *rest = tiny.lines()
    alike = {"lr": 0.02, "steps": 5, "seed": 9}
    with_lines(root, [first | {"config": {"recipe": alike}}, *rest])
    with pytest.raises(InputError, match=r"conv/ordered, seed 0 has lr 0\.1, .* now has 0\.02"):
        with_lines(root, [first | {"config": {"recipe": {"lr": 0.1, "steps": 5}}}, *rest])
    bits = {"correct": base64.b64encode(b"\xf0").decode(), "count": 4, "of": 1000}
    with pytest.raises(InputError, match=r"conv/ordered, seed 0 has test examples 1000, .* has 40"):
        with_lines(root, [first | {"examples": {"test_accuracy": bits}}, *rest])


def test_different_environments_are_named(root: Path) -> None:
    first, *rest = tiny.lines()
    other = {**tiny.ENVIRONMENT, "jax": "0.12.0"}
    text = with_lines(root, [first | {"environment": other, "machine": "a GPU"}, *rest])
    assert "**These are results of different environments, equal only up to rounding: 3 of" in text
    assert "\n- 1 of jax 0.12.0, platform cpu, implementations fastest, machine a GPU" in text
    assert "\n- 3 of jax 0.10.2" in text


def test_the_best_point_is_chosen_by_held_out_lines(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the validation part, local is better: 80 and 82 against 70 and 70."""
    best = ("best", "ordered")
    made = tiny.module(
        best_of=lambda settings, names: {best: [tiny.CONV, tiny.LOCAL]},
        claims=[tiny.Claim("best is worse", best, tiny.CONV, below=0.0)],
    )
    monkeypatch.setitem(sys.modules, "experiments.ladder", made)
    with pytest.raises(InputError, match=r"held out: `python -m experiments\.ladder` trains"):
        body(root)
    held_out = [tiny.line("conv", seed, "validation", validation_accuracy=0.7) for seed in (0, 1)]
    held_out += [tiny.line("local", seed, "validation") for seed in (0, 1)]
    text = with_lines(root, [*tiny.lines(), *held_out])
    assert "| best is worse | best/ordered − conv/ordered |" in text
    assert "**1 of 1 claims holds.**" in text
    assert "best/ordered is local/ordered" in text


def test_a_study_without_lines_says_so(root: Path) -> None:
    folder = root / "docs/studies/ladder"
    (folder / "results.jsonl").unlink()
    assert (
        "## Answer\n\n**Not measured yet.** `.venv/bin/python -m experiments.ladder` trains it.\n\n"
        "What is claimed\n\n| claim | difference | claimed |\n| :-- | :-- | :-- |\n"
        "| sharing helps | conv/ordered − local/ordered | above +1 points |\n\n## Setting"
    ) in body(root)


def test_the_tuned_recipe_is_on_the_page(root: Path) -> None:
    """Of two weight decays at a learning rate, the one with the higher mean is shown."""
    groups = {
        "conv": {
            "best": {"lr": 0.02, "weight_decay": 0.1},
            "unfinished": False,
            "tried": [
                [{"lr": 0.02, "weight_decay": 0.0}, [0.5, 0.6]],
                [{"lr": 0.02, "weight_decay": 0.1}, [0.7, 0.8]],
                [{"lr": 0.01, "weight_decay": 0.0}, [0.6, 0.6]],
                [{"lr": 0.01, "weight_decay": 0.1}, [0.3, 0.3]],
            ],
        }
    }
    (root / "experiments/tuned").mkdir(parents=True)
    facts = {"command": "python -m x --tune", "steps": 5, "seeds": [1000, 1001]}
    content = json.dumps({**facts, "groups": groups})
    (root / "experiments/tuned/ladder.json").write_text(content)
    page = pages.make(root, "ladder")
    assert (
        "`python -m x --tune` chose the recipe of each point on the validation part " in page.body
    )
    assert "(steps 5, seeds [1000, 1001])" in page.body
    assert "| conv | lr 0.02, weight_decay 0.1 | 75.00 ± 7.07 | 4 |" in page.body
    assert "](tuning-1.png)" in page.body
    assert list(page.figures) == ["claims", "ladder", "tuning-1"]
    (panel,) = page.figures["tuning-1"].panels
    assert isinstance(panel, plots.Curves)
    curve, chosen = panel.series
    assert (curve.label, list(curve.x), list(chosen.x)) == ("conv", [0.01, 0.02], [0.02])
    np.testing.assert_allclose(curve.values, [[60, 60], [70, 80]])
    np.testing.assert_allclose(chosen.values, [[70, 80]])


def test_groups_with_the_same_rest_of_their_names_share_a_panel() -> None:
    one = {"best": {"lr": 0.1}, "tried": [[{"lr": 0.1}, [0.5]]]}
    names = ["conv/a/x", "local/a/x", "local/b", "conv/c", "conv/d", *(f"{i}/d" for i in range(50))]
    figures = pages.tuning_figures(dict.fromkeys(names, one))
    panels = [[panel.title for panel in figure.panels] for figure in figures.values()]
    assert panels == [["a, x", "b", "c"], ["d"]] and list(figures) == ["tuning-1", "tuning-2"]
    first, second, _, last = (panel for figure in figures.values() for panel in figure.panels)
    assert isinstance(first, plots.Curves) and isinstance(last, plots.Curves)
    assert isinstance(second, plots.Curves)
    (*_, local, chosen) = first.series
    assert [series.label for series in first.series] == ["conv", "conv", "local", "local"]
    assert len(last.series) == 2 * 51
    assert [series.color for series in second.series] == [
        series.color for series in (local, chosen)
    ]


def test_rungs_have_their_colours_and_each_line_a_look_of_its_own() -> None:
    one = {"best": {"lr": 0.1}, "tried": [[{"lr": 0.1}, [0.5]]]}
    groups = dict.fromkeys(["conv/a", "tiled-2/a", "tiled-4/a", "other/a"], one)
    (panel,) = pages.tuning_figures(groups)["tuning-1"].panels
    assert isinstance(panel, plots.Curves)
    looks = {series.label: (series.color, series.marker) for series in panel.series}
    assert looks["conv"] == plots.RUNGS["conv"] and looks["tiled-2"] == plots.RUNGS["tiled"]
    assert looks["tiled-4"][0] == plots.RUNGS["tiled"][0] and len(set(looks.values())) == 4


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It is 0.5 points (95 %). More.", "It is 0.5 points (95 %)."),
        ("With e.g. 3\nwindows, yes", "With e.g. 3 windows, yes"),
        ("Why? Because.", "Why?"),
        ("Yes. `conv` is better.", "Yes."),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert pages.sentence(text) == first


def test_columns_of_numbers_are_on_the_right() -> None:
    table = Table("C", ["a|b", "n", "text"], [["1", "+1.0", "x"], ["2", "", "0"]])
    assert pages.markdown(table) == (
        "C\n\n| a\\|b | n | text |\n| :-- | --: | :-- |\n| 1 | +1.0 | x |\n| 2 |  | 0 |"
    )
