"""Attention that starts as a convolution, as a study."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from cnn.errors import InputError
from cnn.train.files import read_jsonl
from experiments import attention
from experiments.attention import (
    CONV,
    DISTANCE,
    END,
    LAYERS,
    LIFTED,
    NEAR,
    POSITION,
    SCRATCH,
    Settings,
)
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attention.STUDY.run(Settings(smoke=True, sizes=(125,), shares=(0.5,), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "attention.png", "attention_distance.png", "claims.png"}
    assert names < {p.name for p in out.iterdir()}
    assert len(read_jsonl(out / "results.jsonl")) == (4 + 3) * 2
    printed = " ".join(capsys.readouterr().out.split())
    assert attention.HYPOTHESIS in printed
    assert attention.CLAIMS[0].text in printed


@pytest.mark.slow
def test_attention_starts_as_the_convolution_of_the_seed() -> None:
    """Of the first layer, taps are at −2 to 2, and of the others at −1 to 1; "from scratch" not."""
    points = attention.points(Settings(seeds=1, sizes=(125,), shares=()))
    found, logits = {}, {}
    for name in (CONV, LIFTED, NEAR, SCRATCH):
        config = points[name, "125", END, "0"]
        result = untrained(config)
        x = np.asarray(config.data.test.x[np.arange(3)])
        logits[name] = np.asarray(jax.jit(config.model.apply)(result.states[0].variables, x))
        found[name] = attention.measure(config, result)
    np.testing.assert_allclose(logits[LIFTED], logits[CONV], atol=1e-3)
    assert abs(logits[SCRATCH] - logits[CONV]).max() > 0.1
    for name in (CONV, LIFTED):
        np.testing.assert_allclose(
            found[name][DISTANCE + LAYERS], [[6 / 5, 2 / 3, 2 / 3]], atol=1e-3
        )
        assert found[name][DISTANCE] == pytest.approx([(6 / 5 + 4 / 3) / 3], abs=1e-3)
        assert found[name][POSITION] == pytest.approx([1], abs=1e-4)
    np.testing.assert_allclose(found[SCRATCH][POSITION + LAYERS], [[0.5] * 3])
    assert found[SCRATCH][DISTANCE][0] > 5


def test_early_runs_are_the_beginning_of_whole_ones() -> None:
    points = attention.points(Settings(seeds=2, sizes=(125, 500), shares=(0.1, 0.001), steps=100))
    early = {name: config for name, config in points.items() if name[2] != END}
    assert {(n, share) for _, n, share, _ in early} == {("500", "0.1"), ("500", "0.001")}
    assert {name for name, *_ in early} == {LIFTED, NEAR, SCRATCH}
    one, other = early[LIFTED, "500", "0.1", "1"], early[LIFTED, "500", "0.001", "1"]
    whole = points[LIFTED, "500", END, "1"]
    assert (one.steps, other.steps, one.seed) == (10, 1, 1)
    assert one.schedule is other.schedule  # so that they share a program
    assert one.data.train is whole.data.train
    rate, given = one.schedule, optax.cosine_decay_schedule(1.0, 100)
    assert [float(rate(k)) for k in (0, 7, 99)] == pytest.approx(  # type: ignore[operator]
        [float(given(k)) for k in (0, 7, 99)], abs=1e-6
    )


def test_tuning_holds_examples_out_of_whole_runs() -> None:
    settings = Settings(seed=1000, seeds=1, sizes=(125, 4000), validate=True)
    points = attention.tuning_points(settings)
    assert {name[2] for name in points} == {END}
    small, large = (points[CONV, n, END, "1000"] for n in ("125", "4000"))
    assert [len(one.train) for one in (small.examples, large.examples)] == [125, 3601]
    assert len(small.examples.test) == 399


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_share_that_is_no_part_of_the_training(share: float) -> None:
    with pytest.raises(InputError, match=f"shares must be above 0 and below 1, got {share}"):
        attention.points(Settings(shares=(0.1, share)))


def test_summary() -> None:
    """The i-th point has i and i + 2 %, and a distance of as much."""
    settings = Settings(seeds=2, sizes=(4000, 500, 125), shares=(0.5,))
    names = [
        (name, n, END) for n in ("125", "500", "4000") for name in (CONV, LIFTED, NEAR, SCRATCH)
    ]
    names += [(name, "4000", "0.5") for name in (LIFTED, NEAR, SCRATCH)]
    results = outcomes(names, DISTANCE, POSITION)
    for name, one in results.items():
        more = {key + LAYERS: np.tile(one[key][:, None], 3) for key in (DISTANCE, POSITION)}
        results[name] = replace(one, values={**one.values, **more})
    summary = attention.STUDY.conclude(settings, {(*n, "0"): o for n, o in results.items()}, {})
    assert summary.findings == [
        "To start as a convolution is worth, in points: -2.0 with 125, -2.0 with 500, -2.0 with "
        "4,000 examples.",
        "To start near one is worth, in points: -1.0 with 125, -1.0 with 500, -1.0 with 4,000 "
        "examples.",
        "Mean distance of attention and its share by position after training on 4,000 examples: "
        "conv 0.09 and 9.0 %, as conv 0.10 and 10.0 %, near conv 0.11 and 11.0 %, from scratch "
        "0.12 and 12.0 %.",
    ]
    errors, layers = summary.tables
    assert errors.rows[1] == ["as conv", "98.00 ± 1.41", "94.00 ± 1.41", "90.00 ± 1.41"]
    assert layers.rows[4] == ["as conv, layer 2", "0.10 ± 0.01", "0.10 ± 0.01"]
    assert len(summary.verdicts) == len(attention.CLAIMS)
    check_figures(summary)
