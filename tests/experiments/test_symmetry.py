"""Sharing over rotations, as a study."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.ablations import match
from cnn.data import Split, load
from cnn.errors import InputError
from cnn.geometry import describe
from cnn.probes import rotate
from cnn.train.files import read_jsonl
from experiments import symmetry
from experiments.symmetry import ALL, CONV, DIGITS, EQUAL_MACS, MARGIN, P4, PAIR, ROTATED, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    symmetry.STUDY.run(Settings(smoke=True, networks=(CONV, P4), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "symmetry.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    assert len(read_jsonl(out / "results.jsonl")) == 2 * 2 * (2 + 3)
    printed = " ".join(capsys.readouterr().out.split())
    assert symmetry.HYPOTHESIS in printed
    judged = [
        one.text for one in symmetry.CLAIMS if {name[0] for name, _ in one.terms} <= {CONV, P4}
    ]
    assert len(judged) == 4
    assert all(text in printed for text in judged)


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(
        full=True, smoke=True, networks=(CONV,), poses=("upright",), parts=(), out=tmp_path
    )
    symmetry.STUDY.run(replace(settings, data_dir=prepared("mnist")))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert [row["parameters"] for row in rows] == [25_210] * 2
    names = [(CONV, "upright", ALL), (CONV, ROTATED, ALL)]
    (table,) = symmetry.summarize(settings, outcomes(names, PAIR)).tables
    assert [row[-1] for row in table.rows] == ["", "94.97"]


@pytest.mark.parametrize("name", [P4, "p4m, equal MACs"])
def test_classes_stay_if_the_image_is_turned_by_90_degrees(name: str) -> None:
    """Those of p4m stay also if it is reflected."""
    x = jax.random.normal(jax.random.key(0), (3, 12, 12, 1))
    images = jnp.concatenate([x, jnp.rot90(x, 1, (1, 2)), x[:, ::-1]])

    @jax.jit
    def logits(images: jax.Array) -> jax.Array:
        model = symmetry.network(name)
        return jnp.asarray(model.apply(model.init(jax.random.key(1), images), images))

    upright, turned, reflected = np.split(np.asarray(logits(images)), 3)
    np.testing.assert_allclose(turned, upright, atol=1e-5)
    assert np.allclose(reflected, upright, atol=1e-5) == ("m" in name)


def test_parameters_by_hand() -> None:
    """Windows of 9 on 1, 8 and 16 channels; features of p4 see four channels of each feature."""
    plain = (9 + 1) * 8 + (9 * 8 + 1) * 16 + (9 * 16 + 1) * 64 + 65 * 10
    p4 = (9 + 1) * 4 + (9 * 4 * 4 + 1) * 8 + (9 * 4 * 8 + 1) * 33 + 34 * 10
    for name, count in ((CONV, plain), (P4, p4)):
        assert describe(symmetry.network(name), (12, 12, 1)).params == count


@pytest.mark.slow
@pytest.mark.parametrize("name", list(DIGITS)[1:])
def test_widths_are_those_that_match_the_convolution(name: str) -> None:
    shape = (12, 12, 1)
    model, conv = (symmetry.network(each) for each in (name, CONV))
    found = match(model, conv, shape, by="macs" if EQUAL_MACS in name else "parameters")
    assert describe(model, shape).macs == describe(found.model, shape).macs


def test_turned_images_are_those_of_the_probe() -> None:
    """A quarter is exact; other angles agree with another implementation of the interpolation."""
    x = np.asarray(load("digits").train.x)[:3]
    background = x.min()
    degrees = np.array([90.0, 30.0, -200.0])
    found = symmetry.rotate(x, degrees, background)
    np.testing.assert_allclose(found[0], np.rot90(x[0]), atol=1e-5)
    for image, one, angle in zip(found, x, degrees, strict=True):
        expected = rotate(jnp.asarray(one - background)[None], float(angle))[0] + background
        np.testing.assert_allclose(image, expected, atol=1e-4)


def test_every_seed_draws_angles_for_all_networks() -> None:
    points = symmetry.points(Settings(networks=(CONV, P4), seeds=2))
    data = {name[1:]: config.data for name, config in points.items()}
    assert points[CONV, ROTATED, ALL, "1"].data is points[P4, ROTATED, ALL, "1"].data
    upright, same, turned, other = (
        data[pose, ALL, seed] for pose in ("upright", ROTATED) for seed in ("0", "1")
    )
    assert upright.content_hash() == same.content_hash()
    assert turned.content_hash() != other.content_hash()
    inside = slice(MARGIN, -MARGIN)
    digits = load("digits")
    np.testing.assert_array_equal(np.asarray(upright.test.x)[:, inside, inside], digits.test.x)
    np.testing.assert_array_equal(turned.test.y, digits.test.y)
    background = np.asarray(digits.train.x).min()
    ink = [(np.asarray(one.test.x) - background).sum((1, 2, 3)) for one in (upright, turned)]
    np.testing.assert_allclose(ink[1], ink[0], rtol=0.06)  # nothing is cut off
    assert {config.seeds for config in points.values()} == {1}


def test_conv_and_p4_train_on_parts_of_the_turned_digits() -> None:
    """Of 1,438 images a half is 719 and an eighth 179, part of the half; the test images stay."""
    points = symmetry.points(Settings(networks=(CONV, P4, "p4m"), parts=(8, 2), seeds=1))
    sizes = {name: len(config.data.train) for name, config in points.items() if name[2] != ALL}
    assert sizes == {
        (network, ROTATED, size, "0"): count
        for network in (CONV, P4)
        for size, count in (("1/8", 179), ("1/2", 719))
    }
    few, half, whole = (points[P4, ROTATED, size, "0"].data for size in ("1/8", "1/2", ALL))
    images = [{x.tobytes() for x in np.asarray(data.train.x)} for data in (few, half, whole)]
    assert images[0] < images[1] < images[2]
    np.testing.assert_array_equal(few.test.x, whole.test.x)


def test_tuning_holds_out_a_tenth_of_the_training_images() -> None:
    points = symmetry.points_to_tune(Settings(networks=(CONV,), parts=(2,), seeds=2, validate=True))
    for (_, _, size, _), config in points.items():
        assert len(config.data.test) == 145
        assert len(config.data.train) == (1293 if size == ALL else 646)
        assert not config.validate


def test_accuracy_on_6_and_9() -> None:
    """Made-up labels: the network is right on every second of the images it takes for a 6."""
    settings = Settings(networks=(CONV,), poses=(ROTATED,), parts=(), seeds=1)
    (config,) = symmetry.points(settings).values()
    result = untrained(config)
    result.states[0].variables["params"]["layers_9"]["bias"] += 100 * (jnp.arange(10) == 6)
    y = np.array([6, 3, 9, 3], np.int32)
    test = Split(np.asarray(config.data.test.x)[:4], y)
    found = symmetry.measure(replace(config, data=replace(config.data, test=test)), result)
    np.testing.assert_array_equal(found[PAIR], [[True, False]])


def test_mnist_is_drawn_without_an_image_in_both_parts() -> None:
    """Of a set in which every image has its own number."""
    digits = load("digits")
    x = np.arange(70_000, dtype=np.float32)[:, None, None, None]
    y = np.zeros(70_000, np.int32)
    data = replace(digits, train=Split(x[:60_000], y[:60_000]), test=Split(x[60_000:], y[60_000:]))
    one = symmetry.drawn(data)
    numbers = [set(np.asarray(part.x).ravel()) for part in (one.train, one.test)]
    assert [len(part) for part in numbers] == [12_000, 50_000]
    assert not numbers[0] & numbers[1]
    assert set(x[60_000:].ravel()) < numbers[1]


def test_summary() -> None:
    """The i-th point has i and i + 2 %: in a pose p4 has 1 % less than conv, of a half 2 % less."""
    names = [(name, pose, ALL, "0") for pose in (ROTATED, "upright") for name in (P4, CONV)]
    names += [(name, ROTATED, size, "0") for name in (P4, CONV) for size in ("1/2", "1/4")]
    settings = Settings(seeds=2, networks=(CONV, P4), parts=(4, 2))
    summary = symmetry.STUDY.conclude(settings, outcomes(names, PAIR), {})
    *found, needed = summary.findings
    assert found == [
        f"On {pose} digits, points of {what} beyond conv: p4 -1.0."
        for pose in (ROTATED, "upright")
        for what in ("accuracy", "accuracy on 6 and 9")
    ]
    assert needed.startswith("For the error of conv with 1,438 examples (98.0 %), p4 needs at most")
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([-0.01, 0.03, 0, -0.01], abs=1e-9)
    accuracies, errors = summary.tables
    assert accuracies.rows[1][:4] == ["conv: rotated", "11,178", "61,696", "2.00 ± 1.41"]
    assert errors.heads == ["network", "359", "719", "1,438"]
    assert errors.rows[1] == ["p4", "94.00 ± 1.41", "95.00 ± 1.41", "99.00 ± 1.41"]
    check_figures(summary)


def test_an_unknown_network_or_pose() -> None:
    with pytest.raises(InputError, match="unknown network 'p5'"):
        symmetry.points(Settings(networks=("p5",)))
    with pytest.raises(InputError, match="unknown pose 'turnd'"):
        symmetry.points(Settings(poses=("turnd",)))


def test_parts_without_examples_for_a_batch() -> None:
    with pytest.raises(InputError, match=r"parts must be .*got \(0,\)"):
        symmetry.points(Settings(parts=(0,)))
    with pytest.raises(InputError, match="the 100 examples of a batch, got 16, which leaves 89"):
        symmetry.points(Settings(parts=(2, 16)))
