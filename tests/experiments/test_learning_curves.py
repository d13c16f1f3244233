"""Error against the number of examples on logarithmic axes, as a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Split
from cnn.errors import InputError
from experiments import learning_curves
from experiments.harness.study import Name, Outcome
from experiments.learning_curves import ALL, BETA, LOG_ERROR, RUNGS, Settings
from tests.experiments.made import check_figures

SIZES = (1500, 6000, 24_000)


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    learning_curves.STUDY.run(Settings(smoke=True, sizes=(1500, 6000), out=tmp_path))
    names = {"results.jsonl", "learning_curves.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_steps_grow_with_the_root_of_the_examples() -> None:
    assert [Settings().steps_for(n) for n in (1500, 6000, 96_000)] == [500, 1000, 4000]
    assert Settings(steps=2).steps_for(96_000) == 16
    assert Settings(steps=1).steps_for(15) == 1


def signals(split: Split) -> set[bytes]:
    return {one.tobytes() for one in np.asarray(split.x)}


def test_a_seed_has_signals_of_its_own_for_all_rungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller set is part of a larger one, and the points to tune have no signal in common."""
    monkeypatch.setattr(learning_curves, "TESTED", 200)
    given = Settings(sizes=(400, 40), seeds=2)
    points = learning_curves.points(given)
    assert list(points)[:3] == [("conv", "40", "0"), ("conv", "40", "1"), ("conv", "400", "0")]
    few, many, other = (points["conv", *of] for of in (("40", "0"), ("400", "0"), ("400", "1")))
    assert (few.batch_size, many.batch_size, many.seed, other.seed) == (40, 100, 0, 1)
    assert many.data is points["dense", "400", "0"].data
    assert np.bincount(few.data.train.y).tolist() == [4] * 10
    small, large, test = map(signals, (few.data.train, many.data.train, many.data.test))
    assert (len(small), len(large), len(test)) == (40, 400, 200)
    assert small < large and not large & test
    tuned = learning_curves.points_to_tune(Settings(sizes=(400, 40), seed=1000, validate=True))
    assert not tuned["conv", "400", "1000"].validate
    sets = [one.data for one in (other, tuned["conv", "400", "1000"])]
    for data in sets:
        assert not (large | test) & (signals(data.train) | signals(data.test))


def drawn(error: Mapping[str, float], power: Mapping[str, float]) -> dict[Name, Outcome]:
    """Return results of two seeds, whose errors are 1/2 and 2 times these at 6,000 examples."""
    return {
        (rung, str(n)): Outcome(
            7,
            {
                "test_accuracy": 1 - error[rung] * (n / 6000) ** -power[rung] * np.array([0.5, 2]),
                "train_accuracy": np.array([1.0, 1.0]),
            },
        )
        for rung in RUNGS
        for n in SIZES
    }


def test_claims_by_hand() -> None:
    """At 6,000 examples, the geometric means of the errors are 4, 8 and 16 %."""
    results = drawn(
        dict(zip(RUNGS, (0.04, 0.08, 0.16), strict=True)),
        dict(zip(RUNGS, (1.0, 1.0, 0.5), strict=True)),
    )
    given = Settings(sizes=SIZES, seeds=2)
    made = learning_curves.derive(given, results)
    for rung, power in zip(RUNGS, (1, 1, 0.5), strict=True):
        for line in (ALL, "1500 to 6000", "6000 to 24000"):
            np.testing.assert_allclose(made[rung, line][BETA], [power, power])
    np.testing.assert_allclose(made["conv", ALL][LOG_ERROR], np.log([0.02, 0.08]))
    np.testing.assert_allclose(
        made["conv", "1500 to 6000"][LOG_ERROR], np.log([0.02 * 2, 0.08 * 2])
    )
    pooled = {(*name, "0"): one for name, one in results.items()}
    summary = learning_curves.STUDY.conclude(given, pooled, {})
    assert [(one.mean, one.verdict) for one in summary.verdicts] == [
        (pytest.approx(0.5), "holds"),
        (pytest.approx(0, abs=1e-9), "holds"),
        (pytest.approx(np.log(2)), "holds"),
    ]
    assert summary.notes[0].startswith("2 claims have points that were not run: from 24,000 ")
    assert summary.findings == [
        "Exponents β (± half of the 95 % interval, each by itself): conv 1.00 ± 0.00, local 1.00 ± "
        "0.00, dense 0.50 ± 0.00.",
        "Ratios of the fitted errors at 6,000 examples, the middle of the sizes (95 % interval, "
        "each by itself): local over conv 2.00 (2.00 to 2.00), dense over local 2.00 (2.00 to "
        "2.00).",
    ]
    errors, exponents = summary.tables
    assert errors.caption.endswith("over 2 seeds, 500 to 2,000 steps")
    assert errors.rows[0] == ["conv, test", "20.00 ± 16.97", "5.00 ± 4.24", "1.25 ± 1.06"]
    assert errors.rows[1][0] == "conv, training"
    assert exponents.heads == ["rung", ALL, "1500 to 6000", "6000 to 24000"]
    assert exponents.rows[2] == ["dense", *["0.50 ± 0.00"] * 3]
    check_figures(summary)


def test_a_bent_curve_shows_between_the_sizes() -> None:
    """From 16 to 4 to 2 % in steps of 4 are exponents of 1 and 1/2, and a line of 3/4."""
    accuracy = {str(n): np.array([1 - e]) for n, e in zip(SIZES, (0.16, 0.04, 0.02), strict=True)}
    results = {
        (rung, n): Outcome(1, {"test_accuracy": one})
        for rung in RUNGS
        for n, one in accuracy.items()
    }
    made = learning_curves.derive(Settings(sizes=SIZES, seeds=1), results)
    found = [made["local", line][BETA] for line in (ALL, "1500 to 6000", "6000 to 24000")]
    np.testing.assert_allclose(found, [[0.75], [1], [0.5]])


def test_no_wrong_example_is_half_of_one() -> None:
    results = {("conv", str(n)): Outcome(1, {"test_accuracy": np.array([1.0])}) for n in SIZES}
    found = learning_curves.errors(Settings(sizes=SIZES), results, "conv")
    np.testing.assert_allclose(found, [[0.5 / 20_000] * 3])


def test_claims_are_about_lines_of_the_study() -> None:
    given = Settings()
    lines = {ALL, *learning_curves.pairs(given.ascending)}
    claimed = {name for claim in learning_curves.CLAIMS for name, _ in claim.terms}
    assert claimed <= {(rung, line) for rung in RUNGS for line in lines}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), "sizes must be whole numbers from 1 on, got "),
        ((100, 0), "sizes must be whole numbers from 1 on, got "),
        ((100, 100), "sizes must be two or more, for a slope, got "),
    ],
)
def test_sizes_without_a_slope(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        learning_curves.points(Settings(sizes=sizes))
