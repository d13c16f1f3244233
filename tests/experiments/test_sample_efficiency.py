"""Accuracy against the number of examples, as a study."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Split, load
from cnn.errors import InputError
from experiments import sample_efficiency
from experiments.harness import claims
from experiments.sample_efficiency import Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_efficiency.STUDY.run(Settings(smoke=True, sizes=(125,), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "sample_efficiency.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    printed = " ".join(capsys.readouterr().out.split())
    assert sample_efficiency.CLAIMS[0].text in printed
    assert sample_efficiency.HYPOTHESIS in printed


def test_a_seed_has_one_subset_for_all_rungs_and_others_have_others() -> None:
    points = sample_efficiency.points(Settings(sizes=(100,), seeds=2))
    conv, dense = points["conv", "100", "1"], points["dense", "100", "1"]
    assert (conv.seed, conv.seeds) == (dense.seed, dense.seeds) == (1, 1)
    assert conv.data is dense.data
    assert len(conv.data.train) == 100
    assert conv.data.content_hash() != points["conv", "100", "0"].data.content_hash()


def signals(split: Split) -> set[bytes]:
    return {one.tobytes() for one in split.x[np.arange(len(split))]}


def test_it_tunes_on_training_examples_that_are_not_in_the_subset() -> None:
    """Of 4,000 training examples, 399, a tenth of each class, are held out: others per seed."""
    settings = Settings(sizes=(100, 4000), seed=1000, seeds=2, validate=True)
    points = sample_efficiency.tuning_points(settings)
    assert list(points) == list(sample_efficiency.points(settings))
    train = signals(load("mnist1d-50k").train)
    held = []
    for seed in ("1000", "1001"):
        small, large = (points["mlp", n, seed].examples for n in ("100", "4000"))
        assert (len(small.train), len(large.train), len(large.test)) == (100, 3601, 399)
        fitted, held_out = signals(large.train), signals(large.test)
        assert fitted | held_out == train
        assert signals(small.train) < fitted
        assert signals(small.test) == held_out
        held.append(held_out)
    assert held[0] != held[1]


@pytest.mark.parametrize(
    ("level", "size"), [(0.25, 256), (0.1, 1600), (0.05, 6400), (0.5, 0), (0.6, 0), (0.03, np.inf)]
)
def test_reach_is_linear_in_logarithms(level: float, size: float) -> None:
    """Errors are 0.5 · √(64 / n), so the level e is reached at n = 64 · (0.5 / e)²."""
    errors = np.array([0.5, 0.5 / 3, 0.5 / 15])
    assert sample_efficiency.reach([64, 576, 14_400], errors, level) == pytest.approx(size)


def test_reach_is_the_first_size() -> None:
    """From 0.8 to 0.2 at 100 to 400, the level 0.4 is at 200, whatever comes later."""
    errors = np.array([0.8, 0.2, 0.9, 0.1])
    assert sample_efficiency.reach([100, 400, 1600, 6400], errors, 0.4) == pytest.approx(200)


def needed(conv: Sequence[Sequence[float]], level: Sequence[float]) -> str:
    """Return the sentence for the errors of the seeds of conv at 100 and at 10,000 examples."""
    errors = [np.array(one) for one in conv]
    other = [np.ones(len(level)), np.array(level)]
    return sample_efficiency.examples_needed([100, 10_000], errors, other, "local")


def test_examples_that_conv_needs() -> None:
    """conv has the error 100 / n: 0.1 at 1,000 and 0.2 at 500, whose geometric mean is 707.

    Half the interval of two logarithms is 12.706, Student's t, times half their difference.
    """
    half = float(np.exp(12.7062 * np.log(2) / 2))
    text = needed([(1.0, 1.0), (0.01, 0.01)], (0.1, 0.2))
    low, high = f"{707.1 / half:,.0f}", f"{707.1 * half:,.0f}"
    assert text.startswith("For the error of local with 10,000 examples (15.0 %), conv needs 707 ")
    assert text.endswith(f"(95 % interval {low} to {high}).")
    one_seed = needed([(1.0,), (0.01,)], (0.1,))
    assert one_seed.endswith("with 10,000 examples (10.0 %), conv needs 1,000.")


def test_examples_that_conv_needs_beyond_the_sizes() -> None:
    """The median seed needs 100 · 100^(ln (0.5 / 0.3) / ln 5) = 431; that of two has no number."""
    bounds = "at most 100 in 1 and more than 10,000 in 1 of"
    text = needed([(0.5, 0.5, 0.5), (0.1, 0.1, 0.1)], (0.6, 0.05, 0.3))
    assert text.endswith(f"conv needs 431 in the median ({bounds} 3 seeds).")
    text = needed([(0.5, 0.5), (0.1, 0.1)], (0.6, 0.05))
    assert text.endswith(f"conv needs {bounds} 2 seeds.")


def test_rungs_that_change_places() -> None:
    """Made-up errors without spread; equal ones tell nothing."""
    names = [(rung, n) for n in ("125", "500", "1000") for rung in sample_efficiency.SHOWN]
    results = outcomes(names)
    order = [("dense", "125"), ("mlp", "125"), ("mlp", "1000"), ("dense", "1000")]
    results |= outcomes(order)
    results["dense", "500"] = results["mlp", "500"]
    verdicts = sample_efficiency.compare([125, 500, 1000], results)
    pair = {("dense", "mlp"): verdicts["dense", "mlp"]}
    assert [v.verdict for v in pair["dense", "mlp"]] == ["does not hold", "cannot tell", "holds"]
    assert sample_efficiency.places_changed(pair) == (
        "Rungs change places: dense and mlp between 125 and 1,000 examples."
    )
    text = sample_efficiency.places_changed({("conv", "local"): verdicts["conv", "local"]})
    assert text == "No two rungs are seen to change places."


def test_all_comparisons_share_one_procedure() -> None:
    """Of 6 pairs at 2 sizes, all 12 are judged together."""
    names = [(rung, n) for rung in sample_efficiency.SHOWN for n in ("125", "500")]
    results = outcomes(names)
    found = sample_efficiency.compare([125, 500], results)
    together = [verdict.claim for of in found.values() for verdict in of]
    assert len(together) == 12
    assert [v for of in found.values() for v in of] == claims.judge(together, results)


def test_summary() -> None:
    settings = Settings(sizes=(4000, 125), seeds=2)
    names = [(rung, str(n)) for rung in sample_efficiency.SHOWN for n in (125, 4000)]
    summary = sample_efficiency.summarize(settings, outcomes(names))
    errors, differences = summary.tables
    assert errors.heads == ["rung", "125", "4,000"]
    assert errors.rows[0] == ["conv", "99.00 ± 1.41", "98.00 ± 1.41"]
    assert [row[0] for row in differences.rows][:2] == ["conv − local", "conv − dense"]
    assert summary.findings[1].startswith("No two rungs are seen to change places. (6 pairs at 2 ")
    check_figures(summary)


@pytest.mark.parametrize("sizes", [(), (100, 0)])
def test_sizes_that_are_none_are_named(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^sizes must be numbers of examples from 1 on, got \("):
        sample_efficiency.points(Settings(sizes=sizes))
