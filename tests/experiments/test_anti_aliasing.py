"""Pooling with and without a blur, as a study."""

from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.train.files import read_jsonl
from experiments import anti_aliasing
from experiments.anti_aliasing import AS_THEY_ARE, CONSISTENCY, KINDS, SHIFTED, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anti_aliasing.STUDY.run(Settings(smoke=True, kinds=("max", "blur"), out=tmp_path))
    assert (tmp_path / "smoke" / "anti_aliasing.png").exists()
    assert anti_aliasing.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_pooling_differs(kind: str) -> None:
    """Two poolings by 2 leave 4 of 16 positions. Weights by hand, and γ and β of the norms."""
    network = describe(anti_aliasing.network(kind, (8, 16)), (16, 16, 1))
    sizes = {layer.shape[0] for layer in network.layers if len(layer.shape) == 3}
    assert min(sizes - {1}) == 4
    assert network.params == 9 * 8 + 16 + 9 * 8 * 16 + 32 + 16 * 10 + 10


def test_half_of_the_points_train_on_shifted_images() -> None:
    found = anti_aliasing.points(Settings(kinds=("max",)))
    assert {name: config.augment for name, config in found.items()} == {
        ("max", AS_THEY_ARE): (),
        ("max", SHIFTED): ("shift",),
    }


def test_consistency_by_a_loop_over_pairs() -> None:
    """25 shifts of 16×16 images by up to 2 pixels, which are 300 pairs."""
    (config,) = anti_aliasing.points(Settings(kinds=("stride",), trained=(SHIFTED,))).values()
    few = replace(config.data, test=config.data.test.first(5))
    config = replace(config, data=few)
    result = untrained(config)
    (found,) = anti_aliasing.measure(config, result)[CONSISTENCY]
    x, variables = np.asarray(config.examples.test.x), result.states[0].variables
    classes = [
        np.asarray(config.model.apply(variables, np.roll(x, by, (1, 2)))).argmax(-1)
        for by in product(range(-2, 3), repeat=2)
    ]
    alike = np.mean([a == b for a, b in combinations(classes, 2)])
    assert 0 < alike < 1
    assert found == pytest.approx(alike)


def test_summary() -> None:
    """The i-th point has i and i + 2 %, so its mean is i + 1 %."""
    names = list(product(KINDS, (AS_THEY_ARE, SHIFTED)))
    summary = anti_aliasing.STUDY.conclude(Settings(seeds=2), outcomes(names, CONSISTENCY), {})
    assert summary.findings == [
        "Predictions that change between two shifts, trained on images as they are: 99.0 % "
        "(stride), 97.0 % (max), 95.0 % (avg), 93.0 % (blur); shifted: 98.0 % (stride), 96.0 % "
        "(max), 94.0 % (avg), 92.0 % (blur)."
    ]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.06, 0.04, 0.02, 0.04, 0.01, 0.0])
    check_figures(summary)


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(full=True, smoke=True, kinds=("blur",), data_dir=prepared("cifar10"))
    anti_aliasing.STUDY.run(replace(settings, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2
    assert all(0 <= row[CONSISTENCY] <= 1 for row in rows)


def test_an_unknown_pooling_or_training() -> None:
    with pytest.raises(InputError, match="unknown pooling 'blurr'"):
        anti_aliasing.points(Settings(kinds=("blurr",)))
    with pytest.raises(InputError, match="unknown trained 'moved'"):
        anti_aliasing.points(Settings(trained=("moved",)))
