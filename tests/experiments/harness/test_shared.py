"""Folders that workers share: of a bucket small files are copied, and messages name the bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn.buckets import Bucket, BucketPath
from cnn.errors import InputError, RunError
from experiments.harness.shared import Shared, opened
from tests.object_store import Fault, Store

OUT = BucketPath("gs://b/sweep")


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in found}


def test_what_changes_in_the_bucket_changes_here(store: Store) -> None:
    bucket = Bucket(OUT)
    bucket.write("lr=1/run.json", b"1")
    bucket.write("lr=1/checkpoints/5/large", b"0" * 100)
    with opened(OUT, ("run.json", ".failed")) as home:
        assert files(home.folder) == {"lr=1/run.json": "1"}
        store.requests.clear()
        home.refresh()
        assert store.requests == ["GET b"]  # the list
        bucket.write("lr=1/run.json", b"2")
        bucket.write("lr=2.failed", b"why")
        home.refresh()
        assert files(home.folder) == {"lr=1/run.json": "2", "lr=2.failed": "why"}
        bucket.remove(["lr=2.failed"])
        home.refresh()
        assert files(home.folder) == {"lr=1/run.json": "2"}
    assert not home.folder.exists()


def test_what_is_published_is_in_the_bucket(store: Store) -> None:
    with opened(OUT, (".failed",)) as home, opened(OUT, (".failed",)) as other:
        path = home.folder / "queue" / "a.failed"
        path.parent.mkdir()
        path.write_text("why")
        home.publish(path)
        other.refresh()
        assert files(other.folder) == {"queue/a.failed": "why"}
        (other.folder / "queue" / "a.failed").unlink()
        other.publish(other.folder / "queue" / "a.failed")
        assert store.names("b/sweep") == set()
        home.refresh()
        assert files(home.folder) == {}


def test_a_file_that_another_worker_removes_meanwhile(store: Store) -> None:
    Bucket(OUT).write("a.failed", b"why")
    store.faults.append(Fault("GET .*failed", 404))
    with opened(OUT, (".failed",)) as home:
        assert files(home.folder) == {}
        home.refresh()  # it was still there
        assert files(home.folder) == {"a.failed": "why"}


def test_errors_name_the_bucket(store: Store) -> None:
    with (
        pytest.raises(InputError, match=r"^gs://b/sweep/x holds another run$"),
        opened(OUT, ()) as home,
    ):
        raise InputError(f"{home.folder / 'x'} holds another run")
    with (
        pytest.raises(InputError, match=r"^out must not contain \* \? or \["),
        opened(OUT / "*", ()),
    ):
        pass
    with opened(OUT, ()) as home:
        (home.folder / "sweep.csv").touch()
        store.faults.append(Fault("PUT", 403))
        with pytest.raises(RunError, match=r"^gs://b/sweep/sweep\.csv cannot be written \("):
            home.publish(home.folder / "sweep.csv")
        store.faults.append(Fault("GET", 403))
        with pytest.raises(RunError, match=r"^gs://b/sweep cannot be read \(.*: start again$"):
            home.refresh()
    store.faults.append(Fault("GET", 403))
    with (
        pytest.raises(InputError, match=r"^gs://b/sweep cannot be read .*credentials"),
        opened(OUT, ()),
    ):
        pass


def test_a_folder_in_a_file_system_is_itself(tmp_path: Path) -> None:
    with opened(tmp_path, ("run.json",)) as home:
        assert (home.out, home.folder) == (tmp_path, tmp_path)
        home.refresh()
        home.publish(tmp_path / "x")
    assert Shared(tmp_path, tmp_path).folder == tmp_path
