"""Runs in buckets: what is written in which order, and what is read again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import pytest

from cnn.buckets import Bucket, BucketPath
from cnn.errors import InputError, RunError
from cnn.train import agreement, fit, lease, list_runs, load_run, mirror
from cnn.train.run_dir import OVERWRITTEN
from tests.object_store import Fault, Store
from tests.small import assert_same, config

RUN = BucketPath("s3://b/run")
SEAL = "checkpoints/5/sha256.json"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copies are made below `tmp_path`, and all are removed at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(mirror, "EVERY", 1000.0)  # a test copies when it says so
    yield folder
    assert not list(folder.glob("cnn-run*"))


def opened(tmp_path: Path, overwrite: bool = False) -> mirror.Mirror:
    local = tmp_path / f"local {len(list(tmp_path.iterdir()))}"
    local.mkdir()
    return mirror.Mirror(RUN, local, overwrite)


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def puts(store: Store) -> list[str]:
    """Return the names that were written, without those of leases, and forget them."""
    found = [what[len("PUT b/run/") :] for what in store.requests if what.startswith("PUT")]
    store.requests.clear()
    return [name for name in found if "lease" not in name]


def lines(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_run_equals_one_in_a_file_system(scheme: str, store: Store, tmp_path: Path) -> None:
    """A whole one, and one that was stopped and resumed; then both are read, and overwritten."""
    bucket, run = f"{scheme}://b", BucketPath(f"{scheme}://b/run")
    local = fit(config(tmp_path / "run", checkpoint_every=5, log_every=5))
    with pytest.raises(RunError, match="stopped after step 10"):
        fit(config(run, checkpoint_every=5, log_every=5), stop=lambda step: step == 10)
    assert [row["status"] for row in list_runs(bucket)] == ["stopped"]
    with pytest.raises(InputError, match="/run' contains a run: add --resume"):
        fit(config(run))
    ended = fit(config(run, checkpoint_every=5, log_every=5, resume=True))
    for state, other in zip(ended.states, local.states, strict=True):
        assert_same((state.params, state.opt_state), (other.params, other.opt_state))
    files = {p.relative_to(tmp_path / "run") for p in (tmp_path / "run").glob("[!.]*")}
    assert {Path(name).parts[0] for name in store.names("b/run")} == set(map(str, files))
    steps = {name.split("/")[1] for name in store.names("b/run") if name.startswith("checkpoints")}
    assert steps == {"15", "20"}

    loaded = load_run(str(run))
    assert (loaded.step, loaded.folder) == (20, run)
    assert_same(loaded.variables, tuple(state.variables for state in local.states))
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in loaded.metrics]
    assert kept == lines(tmp_path / "run")
    (row,) = list_runs(bucket)
    assert (row["run"], row["status"], row["step"]) == ("run", "finished", 20)
    with pytest.raises(InputError, match=f"folder '{bucket}/none' is no run with checkpoints"):
        load_run(f"{bucket}/none")
    with pytest.raises(InputError, match=f"folder '{bucket}/none' holds no run"):
        list_runs(f"{bucket}/none")

    fit(config(run, steps=5, overwrite=True))
    assert {name.split("/")[1] for name in store.names("b/run") if "checkpoints" in name} == {"5"}


def test_manifests_are_written_last_and_removed_first(store: Store, tmp_path: Path) -> None:
    one = opened(tmp_path)
    write(one.folder, "checkpoints/5/a", "metrics.jsonl", "checkpoints/5/z", "run.json")
    (one.folder / SEAL).write_text('{"step": 5, "files": {"a": "", "z": ""}}')
    write(one.folder, ".lock", ".x.part", "checkpoints/10.orbax-checkpoint-tmp/a")
    one.copy()
    written = puts(store)
    assert written[:2] == ["run.json", "metrics.jsonl"]
    assert sorted(written[2:4]) == ["checkpoints/5/a", "checkpoints/5/z"]
    assert written[4:] == [SEAL]
    one.copy()
    assert puts(store) == []
    os.utime(one.folder / "metrics.jsonl", ns=(1, 1))
    (one.folder / "checkpoints" / "5" / "a").unlink()  # Orbax has begun to remove it
    store.requests.clear()
    one.copy()
    changed = [what for what in store.requests if what[0] in "PD"]
    assert changed[:2] == ["PUT b/run/metrics.jsonl", f"DELETE b/run/{SEAL}"]
    assert len(changed) == 4
    assert store.names("b/run") == {"metrics.jsonl", "run.json"}
    one.close()


def test_an_incomplete_checkpoint_is_not_read_but_removed(store: Store, tmp_path: Path) -> None:
    for name in ("checkpoints/5/a/b", "checkpoints/10/a/b", "run.json", "metrics.jsonl"):
        Bucket(RUN).write(name, b"1")
    Bucket(RUN).write(SEAL, b'{"files": {"a/b": ""}}')
    one = opened(tmp_path)
    assert not (one.folder / "checkpoints" / "10").exists()
    assert (one.folder / "checkpoints" / "5" / "a" / "b").read_bytes() == b"1"
    store.requests.clear()
    one.close()
    assert puts(store) == []
    assert store.names("b/run") == {SEAL, "checkpoints/5/a/b", "run.json", "metrics.jsonl"}


def test_what_was_half_overwritten_is_removed(store: Store, tmp_path: Path) -> None:
    Bucket(RUN).write("run.json", OVERWRITTEN.encode())
    Bucket(RUN).write(SEAL, b"1")
    one = opened(tmp_path)
    assert [path.name for path in one.folder.iterdir()] == ["run.json"]
    assert store.names("b/run") == {"run.json"}
    one.close()


def test_overwriting_marks_the_run_before_anything_is_removed(store: Store, tmp_path: Path) -> None:
    for name in ("run.json", SEAL):
        Bucket(RUN).write(name, b"1")
    store.faults.append(Fault("DELETE", 403))
    with pytest.raises(InputError, match="s3://b/run cannot be read"):
        opened(tmp_path, overwrite=True)
    assert store.objects["b/run/run.json"][0] == OVERWRITTEN.encode()


def test_a_bucket_that_fails_at_the_end_costs_nothing(
    store: Store, tmp_path: Path, temporary: Path
) -> None:
    store.faults.append(Fault("PUT .*sha256", 403, times=1e9))
    with pytest.raises(RunError, match=r"privileges.*the run is kept in ") as error:
        fit(config(RUN))
    kept = Path(str(error.value).rpartition("kept in ")[2])
    assert load_run(kept).step == 20
    assert not any("sha256" in name for name in store.names("b/run"))
    shutil.rmtree(temporary / kept.parts[-2])


def test_what_could_not_be_written_is_written_later(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror, "EVERY", 0.02)
    store.faults.append(Fault("PUT .*metrics", 403, times=2))
    one = opened(tmp_path)
    write(one.folder, "metrics.jsonl")
    end = time.monotonic() + 20
    while not store.names("b/run") and time.monotonic() < end:
        time.sleep(0.02)
    assert store.names("b/run") == {"metrics.jsonl"}
    one.close()
    assert caplog.text.count("cannot be written") == 1


def test_a_run_whose_lease_was_taken_stops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SECONDS", 0.6)

    def taken(step: int) -> bool:
        if step == 3:
            number = f"b/run/.lease/{10**9:012}"
            store.objects[number] = b"another", datetime.now(UTC)
            time.sleep(0.4)
        return False

    with pytest.raises(RunError, match="the lease of s3://b/run was lost"):
        fit(config(RUN, steps=10_000), stop=taken)


def test_of_two_processes_one_asks_the_bucket(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket(RUN).write("run.json", b"1")
    sent: list[bytes] = []
    monkeypatch.setattr(agreement, "broadcast", lambda content: sent.append(content) or sent[0])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for index, requests in ((0, 1), (1, 0)):
        store.requests.clear()
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with pytest.raises(InputError, match="'s3://b/run' contains a run: add --resume"):
            mirror.check_out(RUN, resume=False, overwrite=False)
        assert len(store.requests) == requests


def test_the_other_process_learns_of_the_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no copy, and waits for process 0 at the start, at every 20th call, and at the end."""
    answers = [b"[null, null, false]"] * 4 + [b'[null, "the lease was lost", false]'] * 2
    left = iter(answers)
    monkeypatch.setattr(agreement, "broadcast", lambda content: next(left))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with mirror.staged(RUN, False, lambda step: step == 7) as (folder, checked):
        assert not folder.exists()
        assert [step for step in range(40) if checked(step)] == [7]
    assert len(list(left)) == len(answers) - 4
    left = iter([*answers[:1], *answers[-2:]])
    with (
        pytest.raises(RunError, match="the lease was lost"),
        mirror.staged(RUN, False, lambda step: False) as (folder, checked),
    ):
        checked(1)
    assert len(list(left)) == 1  # when a process fails, perhaps alone, the others do not wait
    assert store.requests == []


def test_a_name_that_is_a_pattern() -> None:
    with pytest.raises(InputError, match="out must not contain"):
        mirror.check_out(BucketPath("s3://b/run[1]"), resume=False, overwrite=False)


def test_something_else_in_the_folder(store: Store) -> None:
    Bucket(RUN).write("thesis.tex", b"years")
    with pytest.raises(InputError, match="'s3://b/run' contains something that is not a run"):
        fit(replace(config(RUN), overwrite=True))
    assert store.names("b/run") == {"thesis.tex"}
