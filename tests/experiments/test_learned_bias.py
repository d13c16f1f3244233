"""What a dense layer learned by itself, as a study."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cnn.layers import Conv, DenseSpatial
from cnn.models import s_conv
from experiments import learned_bias
from experiments.harness import plots
from experiments.harness.study import Name, Outcome
from experiments.learned_bias import Settings
from tests.experiments.made import check_figures


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned_bias.STUDY.run(Settings(smoke=True, strengths=(1e-3,), out=tmp_path))
    names = {p.name for p in (tmp_path / "smoke").glob("[!.]*")}
    assert {"results.jsonl", "learned_bias.png", "learned_filters.png", "report.html"} <= names
    printed = capsys.readouterr().out
    assert "dense/sparse is dense/0.001: of 1, it has the highest validation accuracy." in printed
    for claim in learned_bias.CLAIMS:
        assert claim.text in printed


FILTERS = np.random.default_rng(0).normal(size=(2, 20, 40))


def test_summary() -> None:
    """The best strength is that of the validation part, 0.001, and its test outcome is shown."""
    shares = {"best window": 0.8, "best window, chance": 0.6, "alike": 0.9, "chance": 0.7}

    def outcome(accuracy: float) -> Outcome:
        values = {"test_accuracy": accuracy, "train_accuracy": 1.0, "kept": 0.25, "sharing": 0.0}
        arrays = {k: np.array([v - 0.01, v + 0.01]) for k, v in (values | shares).items()}
        return Outcome(7, arrays | {"filters": FILTERS})

    names: list[Name] = [(r, s) for r in ("local", "dense") for s in ("0", "0.0005", "0.001")]
    conv: Name = ("conv", "0")
    found = {name: outcome(0.6 + 0.1 * (name[1] == "0.0005")) for name in [conv, *names]}
    validated = {name: outcome(0.6 + 0.1 * (name[1] == "0.001")) for name in names}
    summary = learned_bias.STUDY.conclude(Settings(seeds=2), found, validated)
    assert summary.findings[0] == (
        "dense at λ = 0.001: 25.0 % of the first layer's weights are not zero; the best window of "
        "a filter holds 80.0 % of its squared weight, 60.0 % with its weights in random order; the "
        "most similar filter at any shift has a cosine of 0.90, 0.70 with random signs."
    )
    assert summary.findings[3] == (
        "local at λ = 0: 25.0 % of the first layer's weights are not zero; the most similar filter "
        "at the next position has a cosine of 0.90, 0.70 with random signs."
    )
    assert [one.mean for one in summary.verdicts[:2]] == [pytest.approx(0), pytest.approx(0)]
    assert summary.verdicts[3].mean == pytest.approx(0.2)
    assert summary.tables[0].rows[0][:3] == ["conv, λ = 0", "7", "60.00 ± 1.41"]
    assert summary.tables[1].rows[2][:2] == ["local/0.0005 − local/0", "+10.00"]
    check_figures(summary)


def test_sharing_is_corrected_for_chance() -> None:
    """Of 0.8 and, with random signs, 0.5: 0.3 of the 0.5 that are left."""
    weights = np.ones(50)
    found = learned_bias.sharing(weights, lambda w: np.array([0.8 if (w > 0).all() else 0.5]))
    assert found["sharing"] == pytest.approx(0.6)


def test_filters_are_placed_where_they_see_the_input() -> None:
    """Window 3, stride 2, on five samples: the one of two channels with the larger weights."""
    kernel = jnp.array([[0.0, 1], [0, -2], [0, 4]])[:, None]
    conv = learned_bias.placed_filters(kernel, Conv(2, (3,), 2, 1), (5, 1))
    np.testing.assert_allclose(conv, [[-2, 4, 0, 0, 0], [0, 1, -2, 4, 0], [0, 0, 0, 1, -2]])
    dense = np.zeros((30, 2, 30, 1))
    dense[:, 0, 5:25, 0] = dense[:, 1, 5:25, 0] = np.arange(20) - np.arange(30)[:, None]
    found = learned_bias.placed_filters(jnp.array(dense), DenseSpatial(1, (3,), padding=1), (30, 2))
    np.testing.assert_allclose(found, dense[:, 0, 5:25, 0].T)


def test_filters_are_kept_in_thousandths_of_the_largest_weight() -> None:
    kernel = jnp.array([[[0.5, 1.0]], [[-4.0, 0.1]], [[1.0, 0.2]]])
    found = learned_bias.strongest_filters(kernel, Conv(2, (3,), 2, 1), (5, 1))
    assert found.dtype == int
    assert set(found.ravel()) == {0, 125, -1000, 250}


def test_filters_of_images_are_tiles() -> None:
    """Five rows of four tiles of 4×4, with one cell between two."""
    shown: dict[Name, Outcome] = {
        (rung, "0"): Outcome(1, {"filters": np.ones((1, 20, 4, 4))})
        for rung in ("conv", "local", "dense")
    }
    panels = learned_bias.filter_figure(shown).panels
    assert [panel.title for panel in panels] == ["conv, λ = 0", "local, λ = 0", "dense, λ = 0"]
    assert isinstance(panels[0], plots.Image)
    assert np.shape(panels[0].values) == (24, 19)


def test_only_the_first_layer_differs_and_lambda_is_the_decay() -> None:
    points = learned_bias.points(Settings(strengths=(1e-3,)))
    conv, dense = points["conv", "0"], points["dense", "0.001"]
    assert conv.model.layers[1:] == dense.model.layers[1:]
    assert (dense.optimizer, dense.weight_decay) == ("beta-lasso", 1e-3)
    assert sorted(points) == sorted(
        [("conv", "0"), *((rung, s) for rung in ("local", "dense") for s in ("0", "0.001"))]
    )


def test_the_networks_on_images_are_those_of_the_paper() -> None:
    assert learned_bias.rungs(2)["conv"] == s_conv(alpha=8)
