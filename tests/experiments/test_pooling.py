"""Pooling over space and across maps, as a study."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import load
from cnn.errors import InputError
from cnn.geometry import describe
from cnn.train.files import read_jsonl
from experiments import pooling
from experiments.pooling import KINDS, POSES, Settings
from experiments.translation import on_canvas
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained

PROBES = ("shift below", "shift above", "turn below", "turn above")


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pooling.STUDY.run(Settings(smoke=True, kinds=("subsampled", "across"), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "pooling.png", "pooling.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert pooling.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_below_the_head(kind: str) -> None:
    """Pooled twice by 2, with 16 channels; four times as many below where maps are pooled."""
    layers = {layer.name: layer for layer in describe(pooling.network(kind), (16, 16, 1)).layers}
    side = 16 if kind == "none" else 4
    head = layers["layers_7"]
    assert head.params == side * side * 16 * 10 + 10
    assert layers["layers_3"].shape[-1] == 16 * KINDS[kind][1]


def test_poses() -> None:
    """Every image in all places or angles, the one it had among them."""
    digits = on_canvas(load("digits"))
    digits = replace(
        digits, train=digits.train.take(np.arange(9)), test=digits.train.take(np.arange(9))
    )
    moved, turned = (pooling.posed(digits, pose) for pose in ("moved", "turned"))
    for many, ways in ((moved, 9), (turned, 7)):
        np.testing.assert_allclose(pooling.upright(many).x, digits.test.x, atol=1e-5)
        np.testing.assert_array_equal(many.test.y.reshape(ways, 9), [digits.test.y] * ways)
    first = digits.test.x[0]
    np.testing.assert_allclose(moved.test.x[0], np.roll(first, (-1, -1), (0, 1)), atol=1e-5)


def test_no_place_of_a_held_out_image_is_trained_on() -> None:
    """The pixels of an image, sorted, are the same wherever it is."""
    settings = Settings(kinds=("max",), poses=("moved",), validate=True)
    (config,) = pooling.points(settings).values()
    assert not config.validate
    trained, held = (
        {np.sort(x, axis=None).tobytes() for x in np.asarray(split.x)}
        for split in (config.data.train, config.data.test)
    )
    assert not trained & held
    assert len(trained) + len(held) == len(load("digits").train)


def test_spatial_pooling_steadies_an_untrained_map() -> None:
    (config,) = pooling.points(Settings(kinds=("mean",), poses=("as they are",))).values()
    found = pooling.measure(config, untrained(config))
    assert found["shift above"][0] < found["shift below"][0]
    assert found["turn above"][0] < found["turn below"][0]


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(
        full=True, smoke=True, kinds=("subsampled", "max"), poses=("moved", "turned")
    )
    pooling.STUDY.run(replace(settings, data_dir=prepared("mnist"), out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2 * 2
    assert all(0 < row[probe] < 2 for row in rows for probe in PROBES)


def test_summary() -> None:
    """Values of neighbouring kinds differ by 3 %; "max" comes after "subsampled"."""
    names = [(kind, pose) for kind in KINDS for pose in POSES]
    summary = pooling.summarize(Settings(), outcomes(names, *PROBES))
    assert "shift of 1 pixel by, in points" in summary.findings[0]
    assert "none -3.0 to -3.0, max +3.0 to +3.0, mean +6.0 to +6.0" in summary.findings[0]
    assert summary.tables[0].rows[1][:2] == ["none, moved", "2.00 ± 1.41"]
    check_figures(summary)


def test_an_unknown_pooling_or_pose() -> None:
    with pytest.raises(InputError, match="unknown pooling 'maxx'"):
        pooling.points(Settings(kinds=("maxx",), poses=("as they are",)))
    with pytest.raises(InputError, match="unknown pose 'turnd'"):
        pooling.points(Settings(poses=("turnd",)))
