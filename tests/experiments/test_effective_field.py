"""Effective receptive fields of stacks of convolutions, as a study."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn.errors import InputError
from cnn.geometry import describe, spread
from cnn.layers import Chain, Conv, Dense, GlobalAvgPool
from cnn.train import state as train_state
from cnn.train.files import read_jsonl
from experiments import effective_field
from experiments.effective_field import (
    FIELD,
    FIELD_START,
    LENGTH,
    LOG,
    SPREAD,
    START,
    Settings,
)
from experiments.harness.study import Results
from tests.experiments.made import check_figures, outcomes

STACKS = Settings().stacks


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    effective_field.STUDY.run(Settings(smoke=True, stacks=("2x3", "2x17"), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "effective_field.png", "effective_field_shape.png", "claims.png"}
    assert names | {"report.html", "summary.json"} < {p.name for p in out.iterdir()}
    rows = read_jsonl(out / "results.jsonl")
    assert len(rows) == 2 * 2
    for row in rows:
        assert sum(row[FIELD]) == pytest.approx(1)
    assert effective_field.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("stack", "size", "variance"),
    [("2x3", 5, 4 / 3), ("16x3", 33, 32 / 3), ("8x5", 33, 16), ("2x17", 33, 48)],
)
def test_fields_by_hand(stack: str, size: int, variance: float) -> None:
    """Uniform over 3 samples the variance is 2 / 3, over 5 it is 2, over 17 24."""
    assert effective_field.field(stack) == (size, pytest.approx(variance**0.5))


@pytest.mark.parametrize("stack", STACKS)
def test_the_geometry_agrees_and_costs_are_nearly_equal(stack: str) -> None:
    """16x3 has 12 channels: 36 multiply-accumulates per position, and 15 times 432."""
    found = describe(effective_field.network(stack), (LENGTH, 1))
    fields = [layer.field.size for layer in found.layers if layer.field]
    assert fields[-1] == (effective_field.field(stack)[0],)
    assert found.macs == pytest.approx(LENGTH * (36 + 15 * 432), rel=0.07)


def test_channels_by_hand() -> None:
    """Of 6,516 multiply-accumulates per position, 3 c + 3 c² are 6,486, and 33 c are 6,501."""
    assert effective_field.channels(16, 3) == 12
    assert effective_field.channels(2, 3) == 46
    assert effective_field.channels(1, 33) == 197


def test_squares_are_summed_over_channels_by_hand() -> None:
    """Channels (1, 0, 0) and (−1, 0, 2): squares 2, 0 and 4, though their sum is (0, 0, 2)."""
    conv = Conv(2, (3,), padding=1, padding_mode="circular", use_bias=False)
    model = Chain((conv, GlobalAvgPool(), Dense(3)))
    x = jnp.ones((2000, LENGTH, 1))
    variables = model.init(jax.random.key(0), x[:1])
    kernel = jnp.array([[1.0, -1], [0, 0], [0, 2]])[:, None]
    variables["params"]["layers_0"]["kernel"] = kernel
    density = np.asarray(effective_field.effective_field(model, variables, x))
    assert density[[19, 20, 21]] == pytest.approx([1 / 3, 0, 2 / 3], abs=0.02)
    assert density.sum() == pytest.approx(1)


def test_the_spread_of_equal_weights_by_hand() -> None:
    """33 ones are uniform: variance 272 / 3. The start is that of the seed, not of the result."""
    (config,) = effective_field.points(Settings(stacks=("1x33",), seeds=1)).values()
    data = config.data
    starts = [
        train_state.init_state(config.model, optax.identity(), data.input_shape, seed)
        for seed in (3, 4)
    ]
    params = {**starts[0].params, "layers_0": {"kernel": jnp.ones((33, 1, 197))}}
    ones = starts[0].replace(params=params)
    result: Any = SimpleNamespace(seeds=(3, 4), states=(ones, starts[1]))
    found = effective_field.measure(config, result)
    assert found[SPREAD][0] == pytest.approx((272 / 3) ** 0.5, rel=1e-5)
    assert found[LOG + SPREAD][0] == pytest.approx(0.5 * np.log2(272 / 3), rel=1e-5)
    assert found[FIELD][0] == pytest.approx([0] * 4 + [1 / 33] * 33 + [0] * 3, abs=1e-6)
    assert found[START][1] == pytest.approx(found[SPREAD][1], rel=1e-5)
    assert found[START][0] != found[START][1]


@pytest.mark.parametrize("stack", ["4x3", "4x9"])
def test_fields_of_initial_weights_have_the_spread_of_the_closed_form(stack: str) -> None:
    """The mean of the field over 30 draws of the weights; ReLU changes it little."""
    (config,) = effective_field.points(Settings(stacks=(stack,))).values()
    shape = config.data.input_shape
    init = jax.jit(
        lambda seed: train_state.init_state(config.model, optax.identity(), shape, seed).variables
    )
    probe = jax.jit(effective_field.effective_field, static_argnums=0)
    x = config.data.test.first(100).x
    density = np.mean([probe(config.model, init(seed), x) for seed in range(30)], 0)
    assert spread(density)[0] == pytest.approx(effective_field.field(stack)[1], rel=0.08)


def test_summary() -> None:
    """Spreads of 2x17 are as expected, √48, those of 16x3 half of it, and trained all of it."""
    settings = Settings(stacks=("16x3", "2x17"), seeds=2)
    results = outcomes([(s,) for s in settings.stacks])
    deep, large = np.full((2, 2), np.array([[(8 / 3) ** 0.5], [48**0.5]]))
    made = {"16x3": (deep, 2 * deep), "2x17": (large, large)}
    field = np.full((2, LENGTH), 1 / LENGTH)
    for stack, (start, trained) in made.items():
        more = {START: start, SPREAD: trained, FIELD_START: field, FIELD: field}
        more |= {LOG + START: np.log2(start), LOG + SPREAD: np.log2(trained)}
        one = results[stack,]
        results[stack,] = replace(one, values={**one.values, **more})
    summary = effective_field.STUDY.conclude(settings, results, {})
    assert summary.findings == [
        "At the start, effective fields are 0.50 to 1.00 times as wide as with independent weights "
        "and no nonlinearities; training makes them 1.00 to 2.00 times as wide as that."
    ]
    row = summary.tables[0].rows[0]
    assert row[:2] == ["16x3", "12"]
    assert row[4:8] == ["33", "3.27", "1.63 ± 0.00", "3.27 ± 0.00"]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([48**0.5 - (32 / 3) ** 0.5, (8 / 3) ** 0.5, 0.01])
    check_figures(summary)


def test_a_stack_that_is_in_no_series_is_in_the_table() -> None:
    settings = Settings(stacks=("3x7",), seeds=2)
    one, field = outcomes([("3x7",)])["3x7",], np.full((2, LENGTH), 1 / LENGTH)
    more = {START: np.ones(2), SPREAD: np.ones(2), FIELD_START: field, FIELD: field}
    results: Results = {("3x7",): replace(one, values={**one.values, **more})}
    summary = effective_field.summarize(settings, results)
    assert summary.tables[0].rows[0][4:6] == ["19", "3.46"]
    check_figures(replace(summary, figures={"shape": summary.figures["effective_field_shape"]}))


def test_claims_are_about_points_of_the_study() -> None:
    claimed = {name for claim in effective_field.CLAIMS for name, _ in claim.terms}
    assert claimed <= {(stack,) for stack in STACKS}


@pytest.mark.parametrize("stack", ["4×9", "0x3", "4x4", "4x1", "20x3", "x3", "4x9x1", ""])
def test_bad_stacks(stack: str) -> None:
    with pytest.raises(InputError, match=f"stacks must be .* than 40 samples, got '{stack}'"):
        effective_field.points(Settings(stacks=(stack,)))
