"""A step whose loss is not finite is reported or skipped. One bad example makes such steps."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from optax.tree_utils import tree_get

from cnn.data import Dataset
from cnn.errors import RunError
from cnn.train import fit, run_dir
from cnn.train.non_finite import Diverged
from tests.small import assert_close, assert_same, config, waves

BAD = 5
"""The training example whose values are NaN."""


def spoilt() -> Dataset:
    data = waves()
    data.train.x[BAD] = np.nan  # `Dataset` refuses it when it is made
    return data


def steps_with_bad(seed: int, steps: int, batch: int = 16, count: int = 64) -> list[int]:
    """Return the steps, from 1, whose batch has the bad example, from the order by hand."""
    found = []
    for epoch in range(-(-steps * batch // count)):
        order = np.random.default_rng((seed, epoch)).permutation(count)
        found.append(epoch * (count // batch) + int(np.flatnonzero(order == BAD)[0]) // batch + 1)
    return [step for step in found if step <= steps]


def test_it_stops_and_names_step_layers_and_examples(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = min(steps_with_bad(seed, 20)[0] for seed in (3, 4))
    whose = min((seed for seed in (3, 4)), key=lambda seed: steps_with_bad(seed, 20)[0])
    recipe = {"data": spoilt(), "seed": 3, "seeds": 2, "checkpoint_every": 1, "log_every": 50}
    with pytest.raises(Diverged) as error:
        fit(config(out, **recipe))
    report = error.value.report
    assert (report["step"], report["seed"], report["loss"]) == (first, whose, "nan")
    assert BAD in report["examples"]
    assert len(report["examples"]) == 16
    assert list(report["gradient_norms"]) == [
        "layers_0/bias",
        "layers_0/kernel",
        "layers_3/bias",
        "layers_3/kernel",
    ]
    said = str(error.value).splitlines()
    assert said[0].startswith(
        f"seed {whose}, lr 0.01 diverged at step {first}, the loss is nan: give"
    )
    assert json.loads((out / run_dir.DIVERGED).read_text()) == report
    kept = {int(path.name) for path in (out / run_dir.CHECKPOINTS).iterdir()}
    assert max(kept, default=0) == first - 1  # the last good one


def test_it_goes_on_from_the_last_good_checkpoint(tmp_path: Path, optimized: None) -> None:
    out = tmp_path / "run"
    recipe = {"data": spoilt(), "seed": 3, "checkpoint_every": 1}
    with pytest.raises(Diverged):
        fit(config(out, **recipe))
    resumed = fit(config(out, on_nan="skip", resume=True, **recipe))
    straight = fit(config(on_nan="skip", **recipe))
    assert not (out / run_dir.DIVERGED).exists()
    assert_same(resumed.states[0].params, straight.states[0].params)


def test_skipped_steps_are_counted_and_leave_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = fit(config(out, data=spoilt(), seeds=2, on_nan="skip", log_every=5))
    counts = [len(steps_with_bad(seed, 20)) for seed in (0, 1)]
    assert result.skipped.tolist() == counts
    lines = run_dir.read_metrics(out)
    assert np.sum([line["train_skipped"] for line in lines[:-1]], axis=0).tolist() == counts
    assert np.isfinite([line["train_loss"] for line in lines[:-1]]).all()
    assert lines[-1]["skipped"] == sum(counts)
    assert lines[-1]["train_loss"] is None  # the bad example is evaluated, too
    assert int(tree_get(result.states[0].opt_state, "count")) == 20 - counts[0]
    assert int(result.states[0].step) == 20


@pytest.mark.slow
def test_where_all_is_finite_skipping_changes_nothing(optimized: None) -> None:
    plain, guarded = fit(config(seeds=2)), fit(config(seeds=2, on_nan="skip"))
    assert guarded.skipped.tolist() == [0, 0]
    for a, b in zip(plain.states, guarded.states, strict=True):
        assert_same((a.params, a.opt_state), (b.params, b.opt_state))


def test_a_skipped_first_step_leaves_no_share_of_the_initial_weights() -> None:
    seed = next(seed for seed in range(99) if steps_with_bad(seed, 2) == [1])
    recipe = {"data": spoilt(), "seed": seed, "steps": 2, "ema": 0.9, "on_nan": "skip"}
    (state,) = fit(config(**recipe)).states
    assert_close(state.average["params"], state.params, 1e-6)  # the average of one


OVERFLOW = {"optimizer": "sgd", "lr": 3e38, "steps": 1}
"""Loss and gradients of the first step are finite, the weights after it are not."""


def steep() -> Dataset:
    data = waves()
    x = 100 * data.train.x
    return dataclasses.replace(data, train=dataclasses.replace(data.train, x=x))


def test_an_update_that_overflows_is_not_saved(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Diverged, match=r"step 1, the loss is .*, but the update is not finite: "):
        fit(config(out, data=steep(), **OVERFLOW))
    assert list((out / run_dir.CHECKPOINTS).iterdir()) == []
    assert "update" in json.loads((out / run_dir.DIVERGED).read_text())["reason"]


def test_a_run_without_a_step_is_not_finished(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for resume in (False, True):
        with pytest.raises(RunError, match="all 1 steps were skipped"):
            fit(config(out, data=steep(), on_nan="skip", resume=resume, **OVERFLOW))
        assert not any("final" in line for line in run_dir.read_metrics(out))


def test_skipped_steps_are_counted_over_the_starts_of_a_run(tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", {"data": spoilt(), "on_nan": "skip"}
    first = steps_with_bad(0, 20)[0]
    fit(config(out, steps=first, **recipe))
    resumed = fit(config(out, resume=True, **recipe))
    assert resumed.skipped.tolist() == [len(steps_with_bad(0, 20))]
