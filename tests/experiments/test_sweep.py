"""Sweeps: points are runs, workers share them, and none is lost or trained twice."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flax import linen as nn

import cnn.train
from cnn.buckets import BucketPath
from cnn.errors import InputError, RunError
from cnn.train import Config, list_runs, mirror, run_dir, training
from cnn.train.lease import RELEASED, Leases
from cnn.train.recipe import identity
from cnn.train.store import Folder
from experiments import sweep
from experiments.harness import cli, queues, search, shared, worker
from experiments.harness.points import Failures
from experiments.harness.shared import Shared
from tests import object_store
from tests.faults import processes
from tests.reliability import Tally

OUT = BucketPath("s3://b/two")
SMALL = ["--data", "digits", "--steps", "3", "--devices", "1", "--log-every", "1"]
OVER = ["--over", "model=mlp,logistic", "--over", "lr=1e-3,1e-2"]
FOUR = [f"model={model},lr={lr}" for model in ("mlp", "logistic") for lr in ("1e-3", "1e-2")]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep a list of the folders in which `fit` has finished."""
    done: list[str] = []
    original = cnn.train.fit

    def fit(config: Config, *args: Any) -> Any:
        result = original(config, *args)
        assert config.out is not None
        done.append(config.out.name)
        return result

    monkeypatch.setattr(cnn.train, "fit", fit)
    return done


Fit = Callable[..., None]


def pretend(seconds: float, loss: Callable[[Config], float] = lambda c: c.lr) -> Fit:
    """Return a `fit` that only writes the files of a run with one step."""

    def fit(
        config: Config, on_step: Any, stop: Callable[[int], bool], on_log: Any, peak_flops: Any
    ) -> None:
        out = config.out
        assert out is not None
        described = {**training.subject(config, config.examples), "recipe": identity(config)}
        run_dir.make_folder(out)
        (out / run_dir.RUN).write_text(json.dumps(described))
        time.sleep(seconds)
        if stop(1):
            raise training.Stopped(1)
        names = [f"{part}_{name}" for part in ("train", "validation") for name in MEASURES]
        values = {name: [loss(config)] for name in names}
        line = {"step": config.steps, "final": True, **values, "parameters": 1, "per_seed": values}
        run_dir.append_metrics(out, line)

    return fit


MEASURES = ("loss", "accuracy")


def parse(args: list[str]) -> sweep.Flags:
    return cli.parse(sweep.Flags, args)


def open_queue(out: Path, *args: str) -> queues.Queue:
    return queue_of(parse([*SMALL, *OVER, "--out", str(out), *args]))


def queue_of(flags: sweep.Flags) -> queues.Queue:
    return sweep.open_queue(flags, home(flags))[0]


def home(flags: sweep.Flags) -> Shared:
    assert isinstance(flags.out, Path)
    return Shared(flags.out, flags.out)


def invoke(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", *args])
    cli.run(sweep.main, sweep.Flags)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_points_are_runs_and_the_table_is_the_csv(
    tmp_path: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = [*SMALL, *OVER, "--seeds", "2", "--out", str(tmp_path)]
    invoke(args, monkeypatch)
    assert trained == FOUR
    said = capsys.readouterr()
    assert "point 4 of 4, model=logistic,lr=1e-2: validation accuracy " in said.err
    runs = list_runs(tmp_path)
    assert sorted(run["run"] for run in runs) == sorted(FOUR)
    assert {run["status"] for run in runs} == {"finished"}
    assert all((tmp_path / name / "checkpoints" / "3").is_dir() for name in FOUR)
    assert (tmp_path / "curves.png").exists() and not held(tmp_path)

    found = rows(tmp_path)
    assert [row["run"] for row in found] == FOUR
    for row in found:
        final = json.loads((tmp_path / row["run"] / "metrics.jsonl").read_text().splitlines()[-1])
        a, b = final["per_seed"]["validation_accuracy"]
        assert float(row["validation_accuracy"]) == pytest.approx((a + b) / 2)
        assert float(row["validation_accuracy_std"]) == pytest.approx(abs(a - b) / 2**0.5)
        assert row["parameters"] == {"mlp": "17610", "logistic": "650"}[row["model"]]
        percent = f"{100 * (a + b) / 2:.2f} ± {100 * abs(a - b) / 2**0.5:.2f}"
        shown = next(line for line in said.out.splitlines() if row["run"] in line)
        assert percent in shown and "finished" in shown

    invoke(args, monkeypatch)
    assert trained == FOUR  # no point again
    assert rows(tmp_path) == found
    longer = [arg.replace("3", "4") if arg == "3" else arg for arg in args]
    invoke([*longer, "--over", "seed=0"], monkeypatch)
    assert len(trained) == 8  # other points have folders of their own
    invoke(longer, monkeypatch)
    assert len(trained) == 12  # more steps go on from the checkpoint
    assert rows(tmp_path)[0]["step"] == "4"


def test_workers_train_every_point_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    write = pretend(0.05)

    def fit(config: Config, *args: Any) -> None:
        write(config, *args)
        assert config.out is not None
        done.append(config.out.name)

    monkeypatch.setattr(cnn.train, "fit", fit)
    opened = [open_queue(tmp_path) for _ in range(3)]

    def start(queue: queues.Queue) -> None:
        assert not worker.work(queue, lambda: False, wait=True)

    threads = [threading.Thread(target=start, args=(queue,)) for queue in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert sorted(done) == sorted(FOUR)
    for queue in opened:  # every worker's table has all
        assert [row.status for row in queue.rows()] == ["finished"] * 4


def test_points_that_others_train_are_awaited_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker is silent: its point is taken over, unless nobody is to wait for it."""
    monkeypatch.setattr(cnn.train, "fit", pretend(0))
    name = f"{FOUR[1]}.lease/{1:012}"
    Folder(tmp_path / "queue").create(name, b'{"alive": "/not/on/this/machine"}')
    queue = open_queue(tmp_path, "--lease-seconds", "0.3")
    assert not worker.work(queue, lambda: False, wait=False)
    statuses = [row.status for row in queue.rows()]
    assert statuses == ["finished", "running", "finished", "finished"]
    assert not worker.work(queue, lambda: False, wait=True)
    assert [row.status for row in queue.rows()] == ["finished"] * 4
    assert "waiting to take over any that is left" in capsys.readouterr().err


def test_a_point_that_somebody_trains_without_a_lease_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `experiments.train`, or a worker that was suspended and has lost its lease."""
    monkeypatch.setattr(cnn.train, "fit", pretend(0))
    queue = open_queue(tmp_path)
    with run_dir.locked(tmp_path / FOUR[0]):
        worker.work(queue, lambda: False, wait=False)
        assert [row.status for row in queue.rows()] == ["waiting", *["finished"] * 3]
    worker.work(queue, lambda: False, wait=False)
    assert queue.rows()[0].status == "finished"


def test_who_has_lost_the_lease_writes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In real training: the lease is lost after the first step, and only that is in the files."""
    queue = open_queue(tmp_path, "--over", "seed=0", "--checkpoint-every", "1")
    job = queue.take()
    assert job is not None
    real = cnn.train.fit

    def fit(config: Config, on_step: Any, *args: Any) -> Any:
        def lose(steps: int) -> None:
            Folder(tmp_path / "queue").create(f"{job.folder}.lease/{99:012}", RELEASED)
            job.lease._renew()

        return real(config, lose, *args)

    monkeypatch.setattr(cnn.train, "fit", fit)
    assert not worker._train(queue, job, lambda: False)
    job.lease.release()
    said = capsys.readouterr().err
    assert f"{job.folder}: another worker has taken it over" in said
    assert [line["step"] for line in run_dir.read_metrics(tmp_path / job.folder)] == [1]
    assert not queue.failures.why(job.folder)
    assert queue.rows()[0].status == "stopped"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_two_workers_on_one_bucket_give_the_table_of_one(
    store: object_store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four points, one of which fails; then a third worker finds all of it, and trains none."""
    over = ["--over", "lr=1e-3,1e-2", "--over", "batch_size=8,100000"]
    args = [*SMALL, "--model", "logistic", *over, "--out"]
    monkeypatch.setattr(cli, "program", lambda: None)
    with pytest.raises(RunError, match="batch_size must be at most"):
        sweep.main(parse([*args, str(tmp_path / "one")]))
    flags = parse([*args, "s3://b/two"])
    with ExitStack() as stack:
        homes = [stack.enter_context(shared.opened(OUT, sweep.COPIED)) for _ in range(2)]
        opened = [sweep.open_queue(flags, home)[0] for home in homes]
        done: list[str] = []

        def work(queue: queues.Queue) -> None:
            take = queue.take

            def noting() -> queues.Job | None:
                job = take()
                done.extend([job.folder] if job else [])
                return job

            queue.take = noting  # type: ignore[method-assign]
            assert not worker.work(queue, lambda: False, wait=True)

        threads = [threading.Thread(target=work, args=(queue,)) for queue in opened]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=300)
            assert not thread.is_alive()
        assert len(done) == 4 == len(set(done))
    monkeypatch.setattr(worker, "_train", lambda *args: pytest.fail("it was trained again"))
    two = replace(flags, over=("lr=1e-3,1e-2", "batch_size=8"))
    sweep.main(two)
    text = store.objects["b/two/sweep.csv"][0].decode()
    assert "b/two/curves.png" in store.objects
    found = [{**row, "seconds": ""} for row in csv.DictReader(text.splitlines())]
    straight = [row for row in rows(tmp_path / "one") if row["status"] == "finished"]
    assert found == [{**row, "seconds": ""} for row in straight]
    statuses = {run["run"]: run["status"] for run in list_runs("s3://b/two")}
    assert statuses == {row["run"]: "finished" for row in straight}


def unfinished() -> nn.Module:
    raise KeyError("what a network's author forgot")


@pytest.mark.slow
def test_a_bad_point_is_named_and_the_others_go_on(
    tmp_path: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A network that is not made, one that does not fit the data, and points that train."""
    mine = f"{__name__}:unfinished"
    over = ["--over", f"model={mine},lecture_cnn,logistic", "--over", "batch-size=8,100000"]
    args = [*SMALL, *over, "--out", str(tmp_path)]
    for _ in range(2):  # the second start tries them again
        with pytest.raises(SystemExit) as stop:
            invoke(args, monkeypatch)
        assert stop.value.code == 1
        assert trained == ["model=logistic,batch_size=8"]
        said = capsys.readouterr()
        shown = [line for line in said.out.splitlines() if "failed" in line]
        assert len(shown) == 5
        for model, size in ((mine, 8), (mine, 100000), ("lecture_cnn", 8), ("logistic", 100000)):
            name = f"model={model},batch_size={size}"
            assert any(name in row for row in shown)
            assert f"point {name} failed: " in said.err
        last = said.err.splitlines()[-1]
        first = f"error: point model={mine},batch_size=8: KeyError: "
        assert last.startswith(f'{first}"what a network\'s author forgot"; ')
        assert "point model=lecture_cnn,batch_size=8: on inputs of shape (8, 8, 1) of" in last
        assert "; point model=logistic,batch_size=100000: batch_size must be at most the " in last
        assert last.endswith("; all other points are kept: the same command trains the rest")
    why = {row["run"]: row["why"] for row in rows(tmp_path)}
    assert why["model=logistic,batch_size=8"] == ""
    assert "batch_size must be at most" in why["model=logistic,batch_size=100000"]


def test_every_worker_knows_why_a_point_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(config: Config, *args: Any) -> None:
        if config.lr == 1e-2:
            raise MemoryError("too large")
        pretend(0)(config, *args)

    monkeypatch.setattr(cnn.train, "fit", fit)
    first, second = open_queue(tmp_path), open_queue(tmp_path)
    worker.work(first, lambda: False, wait=True)
    assert not worker.work(second, lambda: False, wait=True)
    capsys.readouterr()
    for queue in (first, second):
        found = queue.rows()
        assert [row.status for row in found] == ["finished", "failed"] * 2
        assert found[1].why == "MemoryError: too large"
    monkeypatch.setattr(cnn.train, "fit", pretend(0))
    third = open_queue(tmp_path)
    assert [row.status for row in third.rows()] == ["finished", "waiting"] * 2
    worker.work(third, lambda: False, wait=True)
    assert [row.status for row in third.rows()] == ["finished"] * 4
    assert Failures(tmp_path / "queue").why(FOUR[1]) == ""


def test_a_folder_with_another_run_is_named_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn.train, "fit", pretend(0))
    worker.work(open_queue(tmp_path), lambda: False, wait=True)
    before = sorted(tmp_path.rglob("*"))
    message = rf"point {FOUR[0]}: out '.*{FOUR[0]}' holds a run with other settings \(recipe.batch"
    with pytest.raises(InputError, match=message):
        open_queue(tmp_path, "--batch-size", "16")
    (tmp_path / FOUR[2] / run_dir.RUN).write_text("{")
    with pytest.raises(InputError, match=r"run\.json cannot be read .*: remove its folder"):
        open_queue(tmp_path)
    (tmp_path / FOUR[2] / run_dir.RUN).unlink()
    with pytest.raises(InputError, match="contains something that is not a run"):
        open_queue(tmp_path)
    assert sorted(tmp_path.rglob("*")) == [path for path in before if path.exists()]


SEARCH = ["--data", "digits", "--model", "logistic", "--steps", "4", "--devices", "1"]
SEARCH += ["--over", "lr=1e-4..1:log", "--search", "tpe", "--trials", "8", "--log-every", "2"]


@pytest.mark.slow
def test_a_search_is_reproducible_sorted_and_prunes(
    tmp_path: Path,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in "ab":
        invoke([*SEARCH, "--evaluate-every", "2", "--out", str(tmp_path / name)], monkeypatch)
    timeless = [{**row, "seconds": ""} for row in rows(tmp_path / "a")]
    assert timeless == [{**row, "seconds": ""} for row in rows(tmp_path / "b")]
    found = rows(tmp_path / "a")
    statuses = [row["status"] for row in found]
    assert statuses == sorted(statuses) and set(statuses) == {"finished", "pruned"}
    accuracies = [float(row["validation_accuracy"]) for row in found if row["status"] == "finished"]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len({row["run"] for row in found}) == 8
    status = {run["run"]: run["status"] for run in list_runs(tmp_path / "a")}
    for row in found:
        assert status[row["run"]] == row["status"].replace("pruned", "stopped")
    said = capsys.readouterr()
    assert ": pruned after step 3" in said.err
    count = len(trained)
    invoke([*SEARCH, "--evaluate-every", "2", "--out", str(tmp_path / "a")], monkeypatch)
    assert len(trained) == count and rows(tmp_path / "a") == found
    more = [arg.replace("8", "9") if arg == "8" else arg for arg in SEARCH]
    invoke([*more, "--evaluate-every", "2", "--out", str(tmp_path / "a")], monkeypatch)
    assert len(rows(tmp_path / "a")) == 9


def test_two_workers_share_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn.train, "fit", pretend(0.05))
    flags = parse([*SEARCH, "--out", str(tmp_path)])
    opened = [queue_of(flags) for _ in range(2)]

    def start(queue: queues.Queue) -> None:
        assert not worker.work(queue, lambda: False, wait=True)

    threads = [threading.Thread(target=start, args=(queue,)) for queue in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for queue in opened:
        assert [row.status for row in queue.rows()] == ["finished"] * 8


def test_the_trial_of_a_dead_worker_is_finished_with_the_same_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn.train, "fit", pretend(0))
    flags = parse([*SEARCH, "--trials", "2", "--out", str(tmp_path)])
    first = queue_of(flags)
    job = first.take()
    assert job is not None
    job.lease.release()  # without a word to the search, as after a kill
    second = queue_of(flags)
    worker.work(second, lambda: False, wait=True)
    found = second.rows()
    assert [row.status for row in found] == ["finished"] * 2
    assert found[0].folder == job.folder and found[0].more == {"trial": 0}


def test_a_search_without_a_finite_objective_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing: Any = None
    monkeypatch.setattr(cnn.train, "fit", pretend(0, lambda config: nothing))
    queue = queue_of(parse([*SEARCH, "--trials", "1", "--out", str(tmp_path)]))
    worker.work(queue, lambda: False, wait=True)
    (row,) = queue.rows()
    assert (row.status, row.why) == ("failed", "validation_accuracy is not finite")
    assert "failed: validation_accuracy is not finite" in capsys.readouterr().err


def test_the_objective_is_accuracy_or_else_the_loss(tmp_path: Path) -> None:
    def objective(*args: str) -> str | None:
        out = ["--out", str(tmp_path / str(len(list(tmp_path.iterdir()))))]
        flags = parse([*SEARCH, *out, *args])
        return sweep.open_queue(flags, home(flags))[1]

    assert objective() == "validation_accuracy"
    assert objective("--metrics", "top-5") == "validation_loss"
    assert objective("--objective", "train_loss") == "train_loss"


def test_a_file_of_settings_holds_axes_too(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text('over = ["lr=1e-3,1e-2", "ablate=none"]\nsearch = "tpe"\ntrials = 3\n')
    flags = parse([*SMALL, "--config", str(file)])
    assert flags.over == ("lr=1e-3,1e-2", "ablate=none") and flags.trials == 3
    assert parse([*SMALL, "--config", str(file), "--over", "lr=1"]).over == ("lr=1",)


def start(args: list[str], cache: Path) -> subprocess.Popen[str]:
    pipe, env = subprocess.PIPE, processes.environment(cache)
    command = [sys.executable, "-m", "experiments.sweep", *args]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env)


LONG = ["--data", "digits", "--model", "logistic", "--over", "lr=1e-3,1e-2", "--devices", "1"]
LONG += ["--log-every", "50", "--checkpoint-every", "50"]


def held(out: Path) -> list[str]:
    """Return the leases in a sweep's folder that somebody holds."""
    leases = Leases(out / "queue")
    rows = sorted((out / "queue").glob("*.lease"))
    assert rows
    return [row.stem for row in rows if leases.is_held(row.stem)]


def without_seconds(out: Path) -> list[Mapping[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out)]


@pytest.mark.slow
@pytest.mark.fault
def test_a_killed_workers_point_is_taken_over_with_the_same_result(
    tmp_path: Path, tally: Tally
) -> None:
    """Two processes; one is killed in its point. The other ends alone, with the same table."""
    args, cache = [*LONG, "--steps", "3000", "--lease-seconds", "5"], tmp_path / "cache"
    straight = start([*args, "--out", str(tmp_path / "straight")], cache)
    said = straight.communicate(timeout=processes.SECONDS)
    assert straight.returncode == 0, said
    out = tmp_path / "killed"
    first = start([*args, "--out", str(out)], cache)
    processes.wait_for_training(out / "lr=1e-3", first)
    second = start([*args, "--out", str(out)], cache)
    try:
        processes.kill(first)
        said = second.communicate(timeout=processes.SECONDS)
    finally:
        second.kill()
    assert second.returncode == 0, said
    assert without_seconds(out) == without_seconds(tmp_path / "straight")
    for name in ("lr=1e-3", "lr=1e-2"):
        processes.assert_same_end(out / name, tmp_path / "straight" / name)
    assert not held(out)
    tally("workers of a sweep killed: another finished their points, equal bit for bit", 1)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
def test_a_killed_workers_point_in_a_slow_bucket_is_taken_over(
    store: object_store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """Killed when the bucket has a checkpoint of its point. The other ends with the same table."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a killed process leaves its copy
    args, cache = [*LONG, "--steps", "1000"], tmp_path / "cache"
    straight = start([*args, "--out", str(tmp_path / "straight")], cache)
    said = straight.communicate(timeout=processes.SECONDS)
    assert straight.returncode == 0, said
    store.faults.append(object_store.Fault("", seconds=0.02, times=1e9))
    first, end = start([*args, "--out", str(OUT)], cache), time.monotonic() + processes.SECONDS
    while not any("sha256" in name for name in store.names("b/two")):
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    processes.kill(first)
    second = start([*args, "--out", str(OUT)], cache)
    try:
        said = second.communicate(timeout=processes.SECONDS)
    finally:
        second.kill()
    assert second.returncode == 0, said
    with mirror.copied(OUT, checkpoints=True) as copy:
        (copy / "sweep.csv").write_bytes(store.objects["b/two/sweep.csv"][0])
        assert without_seconds(copy) == without_seconds(tmp_path / "straight")
        for name in ("lr=1e-3", "lr=1e-2"):
            processes.assert_same_end(copy / name, tmp_path / "straight" / name)
    tally("workers of a sweep in a bucket killed: another finished, equal bit for bit", 1)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_and_the_command_it_prints_continues(
    number: int, tmp_path: Path, tally: Tally
) -> None:
    out = tmp_path / "sweep"
    args = [*LONG, "--steps", "1000000", "--out", str(out)]
    process = start(args, tmp_path / "cache")
    processes.wait_for_training(out / "lr=1e-3", process)
    process.send_signal(number)
    said, err = process.communicate(timeout=processes.SECONDS)
    assert process.returncode == 0, err
    assert not held(out)
    first, command = said.splitlines()
    assert first == "stopped; continue with"
    assert command == f"python -m experiments.sweep {' '.join(args)}"
    (run,) = list_runs(out)
    assert run["status"] == "stopped"
    saved = max(int(path.name) for path in (out / "lr=1e-3" / "checkpoints").iterdir())
    assert f"lr=1e-3: stopped after step {saved}" in err
    short = [str(saved + 1) if arg == "1000000" else arg for arg in args]
    again = start(short, tmp_path / "cache")
    said, err = again.communicate(timeout=processes.SECONDS)
    assert again.returncode == 0, err
    assert [row["status"] for row in rows(out)] == ["finished"] * 2
    tally("SIGTERM and SIGINT to a sweep: saved, and continued by the command that it printed", 1)


MLP = ["--model", "mlp", "--over", "lr=1,2"]
BAD = {
    "nothing": ([], "over is missing: give --over NAME=A,B,C"),
    "name": (["--over", "rate=1,2"], "unknown setting 'rate'"),
    "empty": (["--over", "lr=1,,2"], "over must be NAME=A,B,C with each name once, got 'lr=1,,2'"),
    "twice": (["--over", "lr=1", "--over", "lr=2"], "each name once, got 'lr=2'"),
    "type": (["--model", "mlp", "--over", "steps=1,x"], "over steps cannot be 'x': see --help"),
    "value": (["--model", "mlp", "--over", "lr=1,-1"], "point lr=-1: lr must be positive and fin"),
    "choice": (
        ["--model", "mlp", "--over", "schedule=linear"],
        "schedule must be constant, cosine, one-cycle or a function, got 'linear'",
    ),
    "no model": (["--over", "lr=1"], "model is missing: give --model, or --over model=A,B"),
    "model": (["--over", "model=lenet"], "unknown model 'lenet'"),
    "data": (["--model", "mlp", "--over", "data=digits,digit"], "unknown data set 'digit'"),
    "argument": (
        ["--model", "mlp", "--over", "model_args.wide=8,16"],
        "point model_args.wide=8: unknown argument of model mlp 'wide'",
    ),
    "ablation": (
        ["--model", "mlp", "--over", "ablate=none,unshared"],
        "unknown ablation 'unshared': did you mean 'unshare'",
    ),
    "range": (
        ["--model", "mlp", "--over", "lr=1e-3..1e-1"],
        "over lr is a range, which a grid cannot list: give A,B,C, or --search random --trials N",
    ),
    "range of whole numbers": (
        ["--model", "mlp", "--over", "steps=1..2.5", "--search", "random", "--trials", "2"],
        "over steps cannot be '2.5': see --help",
    ),
    "range outside": (
        ["--model", "mlp", "--over", "lr=-1..1", "--search", "random", "--trials", "2"],
        "point lr=-1: lr must be positive and finite, got -1.0",
    ),
    "trials": (
        [*MLP, "--search", "tpe"],
        "trials must be 1 or more for --search, got None",
    ),
    "no trials": (
        [*MLP, "--search", "tpe", "--trials", "0"],
        "trials must be 1 or more for --search, got 0",
    ),
    "trials of a grid": (
        [*MLP, "--trials", "4"],
        "trials is for searches: leave it out, or give --search tpe",
    ),
    "search": (
        [*MLP, "--search", "bayes"],
        "--search must be one of grid, random, tpe, got 'bayes'",
    ),
    "test set": (
        [*MLP, "--search", "tpe", "--trials", "4", "--no-validate"],
        "search needs validate: the test set is not for choosing",
    ),
    "objective": (
        [*MLP, "--objective", "validation_acuracy"],
        "unknown objective 'validation_acuracy': did you mean 'validation_accuracy'",
    ),
    "direction": (
        [*MLP, "--metrics", "confusion", "--objective", "validation_confusion"],
        "objective must be a measure whose name says its direction",
    ),
    "lease": (
        [*MLP, "--lease-seconds", "0"],
        "lease_seconds must be positive, got 0.0",
    ),
    "resume": (["--over", "model=mlp", "--resume"], "resume is for single runs"),
    "tensorboard": (["--over", "model=mlp", "--tensorboard"], "tensorboard is for single runs"),
    "seeds": (["--over", "seeds=1,2"], "unknown setting 'seeds'"),
    "shard": (["--over", "model=mlp", "--shard", "0/2"], "unknown argument '--shard'"),
    "search in a bucket": (
        [*MLP, "--search", "tpe", "--trials", "4", "--out", "s3://b/a"],
        "search needs an out in a file system, got 's3://b/a'",
    ),
    "out": (
        ["--over", "model=mlp", "--out", "a[1]"],
        "must not contain * ? or [",
    ),
}


@pytest.mark.fault
@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_line_and_writes_nothing(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tally: Tally,
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
    tally("wrong arguments: one line, exit code 2, nothing written", 1)


def test_searches_need_optuna(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="optuna is not installed: make install EXTRA=search"):
        sweep.main(parse([*SEARCH, "--out", str(tmp_path / "new")]))
    assert not (tmp_path / "new").exists()


def test_leases_that_cannot_be_taken_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_only(*args: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "create", read_only)
    with pytest.raises(SystemExit) as stop:
        invoke([*SMALL, *OVER, "--out", str(tmp_path / "new")], monkeypatch)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1
    assert "cannot be taken (Permission denied): make its folder writable" in said
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "queue").write_text("")
    with pytest.raises(InputError, match=r"queue' must be a folder: move it away"):
        open_queue(tmp_path / "file")
