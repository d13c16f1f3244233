"""What a dense layer learned by itself, as a study."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cnn.layers import Conv, ConvLocal, DenseSpatial
from cnn.models import s_conv
from cnn.train import Config
from experiments import learned_bias
from experiments.harness import plots
from experiments.harness.study import Outcome
from experiments.learned_bias import Settings
from tests.experiments.made import check_figures


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned_bias.STUDY.run(Settings(smoke=True, strengths=(0.0,), out=tmp_path))
    pictures = {f"learned_{what}.{kind}" for what in ("bias", "filters") for kind in ("png", "svg")}
    names = {"results.jsonl", *pictures, "report.html", "summary.json"}
    assert {p.name for p in (tmp_path / "smoke").glob("[!.]*")} == names
    assert "conv/0 − local/0" in capsys.readouterr().out


FILTERS = np.random.default_rng(0).normal(size=(2, 20, 40))


def test_summary() -> None:
    """Means of 0.9, 0.8 and 0.6 are 10 and 20 points apart; sparse, the dense one gains 5."""
    accuracy = {"conv": 0.9, "local": 0.8, "dense": 0.6}
    results = {
        (rung, strength): Outcome(
            7,
            {
                name: np.array([value - 0.01, value + 0.01])
                for name, value in {
                    "test_accuracy": accuracy[rung] + (0.05 if strength == "0.001" else 0),
                    **dict.fromkeys(("train_accuracy", "kept", "within", "alike", "own"), 0.5),
                    "own by chance": 0.5,
                }.items()
            }
            | {"profile": np.ones((2, learned_bias.FAR + 1)), "filters": FILTERS},
        )
        for rung in accuracy
        for strength in ("0", "0.001")
    }
    summary = learned_bias.summarize(Settings(strengths=(0.0, 1e-3), seeds=2), results)
    assert summary.findings[:3] == [
        "At λ = 0.001, where the dense network is the most accurate, the best window of a filter "
        "holds 50.0 % of its squared weight (50.0 by chance), and neighbouring filters correlate "
        "at 0.50.",
        "At λ = 0, built-in sharing is worth +10.0 points (95 % interval +10.0 to +10.0), built-in "
        "locality +20.0 points (95 % interval +20.0 to +20.0).",
        "λ = 0.001 changes dense by +5.0 points (95 % interval +5.0 to +5.0).",
    ]
    assert summary.tables[0].rows[0][:3] == ["conv, λ = 0", "7", "90.00 ± 1.41"]
    check_figures(summary)


def test_profile_is_one_for_equal_weights_and_shows_where_they_are() -> None:
    """Window 3 at five places: the centre is seen 5 times, distance 1 by 4 + 4, 2 by 3 + 3."""
    layer = DenseSpatial(1, (3,), padding=1)
    even = learned_bias.profile(jnp.ones((5, 1, 5, 1)), layer)
    np.testing.assert_allclose(even[:5], 1)
    assert np.isnan(even[5:]).all()
    diagonal = learned_bias.profile(jnp.eye(5).reshape(5, 1, 5, 1), layer)
    np.testing.assert_allclose(diagonal[:3], [5, 0, 0])
    local = learned_bias.profile(jnp.ones((5, 3, 1, 1)), ConvLocal(1, (3,), padding=1))
    np.testing.assert_allclose(local[:2], 1)
    assert np.isnan(local[2:]).all()


def test_filters_are_placed_where_they_see_the_input() -> None:
    """Window 3, stride 2, on five samples: the one of two channels with the larger weights."""
    kernel = jnp.array([[0.0, 1], [0, -2], [0, 4]])[:, None]
    conv = learned_bias.strongest_filters(kernel, Conv(2, (3,), 2, 1), (5, 1))
    np.testing.assert_allclose(conv, [[-2, 4, 0, 0, 0], [0, 1, -2, 4, 0], [0, 0, 0, 1, -2]])
    dense = np.zeros((30, 2, 30, 1))
    dense[:, 0, 5:25, 0] = dense[:, 1, 5:25, 0] = np.arange(20) - np.arange(30)[:, None]
    found = learned_bias.strongest_filters(
        jnp.array(dense), DenseSpatial(1, (3,), padding=1), (30, 2)
    )
    np.testing.assert_allclose(found, dense[:, 0, 5:25, 0].T)


def test_filters_of_images_are_tiles() -> None:
    """Five rows of four tiles of 4×4, with one cell between two."""
    shown = {
        (rung, "0"): Outcome(1, {"filters": np.ones((1, 20, 4, 4))}) for rung in learned_bias.RUNGS
    }
    panels = learned_bias.filter_figure(["0"], "0", shown).panels
    assert [panel.title for panel in panels] == ["conv, λ = 0", "local, λ = 0", "dense, λ = 0"]
    assert isinstance(panels[0], plots.Image)
    assert np.shape(panels[0].values) == (24, 19)


def test_only_the_first_layer_differs_and_lambda_is_the_decay() -> None:
    points: dict[tuple[str, ...], Config] = learned_bias.points(Settings())
    conv, dense = points["conv", "0.001"], points["dense", "0.001"]
    assert conv.model.layers[1:] == dense.model.layers[1:]  # type: ignore[attr-defined]
    assert (dense.optimizer, dense.weight_decay) == ("beta-lasso", 1e-3)
    assert len({rung for rung, _ in points}) * len(Settings().strengths) == len(points)


def test_the_best_window_of_a_filter_by_hand() -> None:
    """Nine neighbours of equal weight are all in one window; two far apart never are."""
    near, far = np.zeros((2, 40))
    near[20:29] = 1
    far[[0, 39]] = 1
    kernel = np.stack([near, far, 0 * far], -1).reshape(40, 1, 3, 1)
    found = learned_bias.best_windows(kernel)
    assert found["own"] == pytest.approx((1 + 0.5) / 2)
    assert found["own by chance"] < 0.9
    image = np.zeros((12, 12, 2, 1, 1, 1))
    image[2:11, 3:12, 0] = 1
    image[0, 0, 1] = 27**0.5  # squared 27, beside 81
    assert learned_bias.best_windows(image)["own"] == pytest.approx(81 / 108)


def test_the_networks_on_images_are_those_of_the_paper() -> None:
    assert learned_bias.rungs(2)["conv"] == s_conv(alpha=8)
