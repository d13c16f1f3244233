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


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pooling.STUDY.run(Settings(smoke=True, kinds=("subsampled", "across"), out=tmp_path))
    out = tmp_path / "smoke"
    assert (out / "pooling.png").exists()
    assert pooling.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_below_the_head(kind: str) -> None:
    """Pooled twice by 2, with 16 channels; four times as many below where maps are pooled."""
    layers = {layer.name: layer for layer in describe(pooling.network(kind), (16, 16, 1)).layers}
    assert layers["layers_7"].params == 4 * 4 * 16 * 10 + 10
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


def test_images_of_which_each_is_changed_once() -> None:
    """Each is one of its variants, and none is as it was."""
    x = np.asarray(on_canvas(load("digits")).test.x)[:20]
    background = x.min()
    every = pooling.variants(x, "moved", background)
    drawn = pooling.one_each(x, "moved", background)
    same = np.abs(every - drawn).max((2, 3, 4)) == 0
    assert same.any(0).all()
    assert not same[len(every) // 2].any()
    assert len(set(same.argmax(0))) > 3


def test_what_the_pooling_of_an_untrained_network_removes() -> None:
    """The mean removes a part of both changes; of 360 images each has a true or false."""
    (config,) = pooling.points(Settings(kinds=("mean",), poses=("as they are",))).values()
    found = pooling.measure(config, untrained(config))
    assert 0.1 < found["shift removed"][0] < 1
    assert 0.1 < found["turn removed"][0] < 1
    (right,) = found["moved accuracy"]
    assert np.asarray(right).dtype == bool
    assert np.shape(right) == (len(load("digits").test),)


def test_images_to_tune_on_are_not_test_images() -> None:
    settings = Settings(kinds=("max",), poses=("as they are",))
    (tuned,), (tested,) = (list(of(settings).values()) for of in (pooling.held_out, pooling.points))
    assert not tuned.validate
    images = {x.tobytes() for x in np.asarray(tested.data.test.x)}
    assert not images & {x.tobytes() for x in np.asarray(tuned.data.test.x)}


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(
        full=True, smoke=True, kinds=("subsampled", "max"), poses=("moved", "turned")
    )
    pooling.STUDY.run(replace(settings, data_dir=prepared("mnist"), out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2 * 2
    assert all(-1 < row["shift removed"] < 1 for row in rows)
    assert all(0 <= row["turned accuracy"] <= 1 for row in rows)


def test_summary() -> None:
    """The i-th point has i and i + 2 %; "max" has points 3 to 5, after "subsampled"."""
    names = [(kind, pose) for kind in KINDS for pose in POSES]
    summary = pooling.summarize(Settings(), outcomes(names, *pooling.MEASURES))
    assert "shift by 1 pixel" in summary.findings[0]
    assert "subsampled 1 to 3 %, max 4 to 6 %, mean 7 to 9 %" in summary.findings[0]
    assert summary.tables[0].rows[1][:3] == ["subsampled, moved", "1", "2.00 ± 1.41"]
    check_figures(summary)


def test_a_map_of_zeros_has_no_share_and_is_named() -> None:
    names = [(kind, pose) for kind in KINDS for pose in POSES]
    results = outcomes(names, *pooling.MEASURES)
    (dead,) = [one for name, one in results.items() if name == ("mean", "turned")]
    dead.values["turn removed"][0] = np.nan  # type: ignore[index]
    summary = pooling.summarize(Settings(), results)
    assert summary.findings[2] == (
        "Seeds whose map is all zeros, so that they have no share: 1 of mean/turned."
    )
    assert "nan" not in str(summary.findings) + str(summary.tables[0].rows)


def test_an_unknown_pooling_or_pose() -> None:
    with pytest.raises(InputError, match="unknown pooling 'maxx'"):
        pooling.points(Settings(kinds=("maxx",), poses=("as they are",)))
    with pytest.raises(InputError, match="unknown pose 'turnd'"):
        pooling.points(Settings(poses=("turnd",)))
