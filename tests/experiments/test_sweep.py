"""Sweeps: which points there are, who trains them, and that nobody trains one twice."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import pytest
from flax import linen as nn

from cnn.train import Config, Result
from experiments import sweep
from experiments.harness import cli, study
from tests.small import config, model, waves

SMALL = ["--data", "digits", "--steps", "3", "--seeds", "2", "--devices", "1"]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, ...]]]:
    """Keep a list of the number of parameters and the learning rates of every training."""
    import cnn.train

    runs: list[tuple[str, tuple[float, ...]]] = []

    def fit(c: Config, on_step: object = None) -> Result:
        result = original(c, on_step)  # type: ignore[arg-type]
        runs.append((f"{result.parameters:,}", c.learning_rates))
        return result

    original = cnn.train.fit
    monkeypatch.setattr(cnn.train, "fit", fit)
    return runs


def invoke(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", *args])
    cli.run(sweep.main, sweep.Flags)


def test_points_are_all_combinations_in_order_and_typed() -> None:
    names, points = sweep.axes(["lr=1e-3,1e-2", "model=mlp,logistic", "clip-norm=1,None"])
    assert names == ["lr", "model", "clip_norm"]
    assert points[:3] == [
        ("1e-3", "mlp", "1"),
        ("1e-3", "mlp", "None"),
        ("1e-3", "logistic", "1"),
    ]
    assert len(points) == 8
    flags = sweep.Flags(data="digits", batch_size=32)
    here = sweep.at_point(flags, names, points[-1])
    assert (here.lr, here.model, here.clip_norm, here.batch_size) == (1e-2, "logistic", None, 32)


def test_shards_share_the_points_out() -> None:
    every = {(str(i),): sweep.Flags() for i in range(7)}
    shards = [list(sweep.shard(f"{i}/3", every)) for i in range(3)]
    assert shards[1] == [("1",), ("4",)]
    assert sorted(point for points in shards for point in points) == sorted(every)


@pytest.mark.slow
def test_shards_train_their_own_points_and_the_table_all(
    tmp_path: Path,
    trained: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    over = ["--over", "model=mlp,logistic", "--over", "lr=1e-3,1e-2", "--out", str(tmp_path)]
    invoke([*SMALL, *over, "--shard", "1/2"], monkeypatch)
    assert sorted(trained) == [("17,610", (1e-2,)), ("650", (1e-2,))]
    for _ in range(2):
        invoke([*SMALL, *over], monkeypatch)
        assert len(trained) == 4
    said = capsys.readouterr().out
    for cell in ("mlp", "logistic", "1e-3", "1e-2", "650", "validation"):
        assert cell in said


@pytest.mark.slow
def test_learning_rates_that_train_together_are_those_trained_alone(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, where they do; composed as on a CPU, where that changes no bit."""
    data = waves()
    points = {
        (name, str(lr)): config(steps=3, lr=lr, model=m, data=data)
        for name, m in {"narrow": model(features=1), "wide": model(features=2)}.items()
        for lr in (1e-3, 1e-1)
    }

    def run(folder: str) -> dict[study.Name, study.Outcome]:
        out = study.Settings(seeds=1, out=tmp_path / folder)
        return study.outcomes(out, ("model", "lr"), points)

    alone = run("alone")
    assert len(trained) == 4
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = run("together")
    assert [rates for _, rates in trained[4:]] == [(1e-3, 1e-1)] * 2
    for name in points:
        assert together[name]["test_loss"].tolist() == alone[name]["test_loss"].tolist()
    assert alone["wide", "0.1"]["test_loss"][0] != alone["wide", "0.001"]["test_loss"][0]


def unfinished() -> nn.Module:
    raise KeyError("what a network's author forgot")


def test_a_bad_point_is_named_and_the_others_go_on(
    tmp_path: Path,
    trained: list,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A network that is not made, one that does not fit the data, and points that train."""
    mine = f"{__name__}:unfinished"
    over = ["--over", f"model={mine},lecture_cnn,logistic", "--over", "batch-size=8,100000"]
    with pytest.raises(SystemExit) as stop:
        invoke([*SMALL, *over, "--out", str(tmp_path)], monkeypatch)
    assert stop.value.code == 1
    assert trained == [("650", (1e-3,))]
    (tmp_path / "results.jsonl").read_text().index('"model": "logistic", "batch_size": "8"')
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if "failed" in line]
    assert len(rows) == 5
    for named, size in ((mine, 8), (mine, 100000), ("lecture_cnn", 8), ("logistic", 100000)):
        assert any(f" {named} " in row and f" {size} " in row for row in rows)
        assert f"point {named}/{size} failed: " in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith(f'error: point {mine}/8: KeyError: "what a network\'s author forgot"; ')
    assert "point lecture_cnn/8: on inputs of shape (8, 8, 1) of digits, layer layers_" in last
    assert "; point logistic/100000: batch_size must be at most the " in last
    assert last.endswith("; all other points are kept: the same command trains the rest")


BAD = {
    "nothing": ([], "over is missing: give --over NAME=A,B,C"),
    "name": (["--over", "rate=1,2"], "unknown setting 'rate'"),
    "empty": (["--over", "lr=1,,2"], "over must be NAME=A,B,C with each name once, got 'lr=1,,2'"),
    "no values": (["--over", "lr"], "each name once, got 'lr'"),
    "twice": (["--over", "lr=1", "--over", "lr=2"], "each name once, got 'lr=2'"),
    "type": (["--model", "mlp", "--over", "steps=1,x"], "over steps cannot be 'x': see --help"),
    "value": (["--model", "mlp", "--over", "lr=1,-1"], "point -1: lr must be positive and finite"),
    "choice": (
        ["--model", "mlp", "--over", "schedule=linear"],
        "schedule must be constant, cosine, one-cycle or a function, got 'linear'",
    ),
    "no model": (["--over", "lr=1"], "model is missing: give --model, or --over model=A,B"),
    "model": (["--over", "model=lenet"], "unknown model 'lenet'"),
    "shard": (
        ["--over", "model=mlp", "--shard", "2/2"],
        "shard must be I/N with I from 0 to N - 1, got '2/2'",
    ),
    "resume": (["--over", "model=mlp", "--resume"], "resume is for single runs"),
    "seeds": (["--over", "seeds=1,2"], "unknown setting 'seeds'"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_line_and_writes_nothing(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        invoke([*SMALL, *args], monkeypatch)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
