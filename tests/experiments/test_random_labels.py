"""Fitting labels that are noise, as a study."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import random_labels
from experiments.harness import study
from experiments.random_labels import CONV, DENSE, LOCAL, RANDOM, TRUE, WIDE, Settings
from tests.experiments.made import check_figures, outcomes

NETWORKS = (CONV, LOCAL, DENSE, WIDE)


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    random_labels.STUDY.run(Settings(smoke=True, networks=(CONV, DENSE), out=tmp_path))
    names = {"results.jsonl", "random_labels.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def signals() -> Dataset:
    """Return 200 zeros of the size of MNIST-1D with 10 classes."""
    x, y = np.zeros((200, 40, 1), np.float32), np.arange(200, dtype=np.int32) % 10
    part = Split(x, y)
    return Dataset("zeros", part, part.take(np.arange(50)), tuple("0123456789"), (0.0,), (1.0,))


def test_parameters_by_hand() -> None:
    """Wide has as many as dense, to 0.2 %: 5, 3 and 3 taps to maps of 19, 10 and 5 positions."""
    counts = {
        name: describe(random_labels.network(name, signals()), (40, 1)).params for name in NETWORKS
    }
    assert counts[CONV] == 6 * 25**2 + 58 * 25 + 10
    assert counts[WIDE] == 6 * 164**2 + 58 * 164 + 10 == 170_898
    assert counts[DENSE] == 19 * 25 * 41 + 10 * 25 * (19 * 25 + 1) + 125 * 251 + 126 * 10 == 171_110


def test_parameters_on_images_by_hand() -> None:
    """3×3 taps to maps of 16 and 8 positions per side."""
    images = Split(np.zeros((20, 32, 32, 3), np.float32), np.arange(20, dtype=np.int32) % 10)
    data = replace(signals(), train=images, test=images)
    counts = {
        name: describe(random_labels.network(name, data), (32, 32, 3)).params
        for name in (CONV, DENSE, WIDE)
    }
    assert counts[CONV] == 9 * 4**2 + 669 * 4 + 10
    assert counts[DENSE] == 1024 * 3073 + 256 * 1025 + 10 * 257 == 3_411_722
    assert counts[WIDE] == 9 * 580**2 + 669 * 580 + 10 == 3_415_630


def test_a_part_of_the_larger_data_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.zeros((6000, 1, 1), np.float32), np.arange(6000, dtype=np.int32) % 10
    part = Split(x, y)
    large = replace(signals(), train=part, test=part)
    monkeypatch.setattr(study.Settings, "load", lambda _: large)
    assert list(np.bincount(Settings(full=True).load().train.y)) == [500] * 10
    assert len(Settings().load().train) == 6000


def test_labels_are_dealt_out_anew() -> None:
    """As many of each class; about a tenth stay by chance, and the test labels all do."""
    data = signals()
    one, same, other = (random_labels.with_random_labels(data, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.y, same.train.y)
    assert (one.train.y != other.train.y).any()
    np.testing.assert_array_equal(np.bincount(one.train.y), np.bincount(data.train.y))
    assert 0.02 < (one.train.y == data.train.y).mean() < 0.2
    assert one.test is data.test
    assert one.train.x is data.train.x


def test_random_labels_are_tuned_by_the_training_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "load", lambda _: signals())
    given = Settings(networks=(CONV,), seeds=1, validate=True)
    points = random_labels.points_to_tune(given)
    true, random = (points[CONV, labels, "0"] for labels in (TRUE, RANDOM))
    assert random.examples.test is random.examples.train
    assert len(random.examples.train) == 200
    assert true.validate
    assert len(true.examples.train) < 200


def test_summary() -> None:
    """The i-th point has i and i + 2 %: labels change fastest."""
    names = [(name, labels, "0") for name in NETWORKS for labels in (RANDOM, TRUE)]
    settings = Settings(seeds=2)
    summary = random_labels.STUDY.conclude(settings, outcomes(names), {})
    assert summary.findings == [
        "Percent of the random labels that are fitted: conv 1.0, local 3.0, dense 5.0, wide 7.0."
    ]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.04, 0.02, 0.02, 0.04, 0.02], abs=1e-9)
    row = ["local", "1", "3.00 ± 1.41", "4.00 ± 1.41", "4.00 ± 1.41"]
    assert summary.tables[0].rows[1] == row
    check_figures(summary)


def test_an_unknown_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "load", lambda _: signals())
    with pytest.raises(InputError, match="unknown network 'cnn'"):
        random_labels.points(replace(Settings(), networks=("cnn",)))
