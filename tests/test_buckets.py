"""Objects in buckets: written whole, created once, requests repeated."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cnn.buckets import Bucket, BucketPath, bucket_path
from cnn.errors import InputError
from tests.object_store import LOST, Fault, Store


def bucket(path: str = "s3://b/runs/a", **settings: float) -> Bucket:
    return Bucket(BucketPath(path), **settings)


def test_paths_keep_both_slashes() -> None:
    path = bucket_path("gs://b/runs/a/")
    assert str(path) == "gs://b/runs/a"
    assert str(path / "run.json") == "gs://b/runs/a/run.json"
    assert (path.name, path.parent) == ("a", BucketPath("gs://b/runs"))
    given = str(Path("s3://b/a"))  # as by a command line
    assert bucket_path(given) == BucketPath("s3://b/a")
    assert [bucket_path(text) for text in ("runs/a", "/gs/a", "ftp://b/a", "s3:", "gs://")] == [
        None
    ] * 5


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_objects_by_their_names_in_the_folder(scheme: str, store: Store, tmp_path: Path) -> None:
    one = bucket(f"{scheme}://b/runs/a b")
    assert one.entries() == {}
    (tmp_path / "file").write_bytes(b"from a file")
    one.write("x/y", tmp_path / "file")
    one.write("z", b"1")
    one.write("z", b"22")
    assert store.names("b/runs/a b") == {"x/y", "z"}
    assert {name: entry.size for name, entry in one.entries().items()} == {"x/y": 11, "z": 2}
    assert list(one.entries("x")) == ["x/y"]
    assert one.read("z") == b"22"
    one.download("x/y", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == b"from a file"
    one.remove(["x/y", "never there"])
    assert store.names("b/runs/a b") == {"z"}
    with pytest.raises(FileNotFoundError):
        one.read("x/y")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_large_file_is_written_in_parts_and_appears_whole(
    scheme: str, store: Store, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 25_000  # 6.4 MB; obstore sends parts of 5 MiB
    (tmp_path / "file").write_bytes(content)
    bucket(f"{scheme}://b/a").write("x", tmp_path / "file")
    assert sum(what == "PUT b/a/x" for what in store.requests) == 2
    assert [("b/a/x" in objects) for objects in store.past] == [False] * 3 + [True]
    bucket(f"{scheme}://b/a").download("x", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_object_is_created_once(scheme: str, store: Store) -> None:
    assert bucket(f"{scheme}://b/a").create("x", b"first")
    assert not bucket(f"{scheme}://b/a").create("x", b"second")
    assert bucket(f"{scheme}://b/a").read("x") == b"first"


def test_an_answer_that_was_lost(store: Store) -> None:
    """The request that is sent again finds its own object, and is no failure."""
    store.faults.append(Fault("PUT .*/x", LOST))
    assert bucket().create("x", b"mine")
    assert [what for what in store.requests if what.startswith("PUT")] == ["PUT b/runs/a/x"] * 2


def test_requests_that_fail_are_sent_again(store: Store) -> None:
    store.faults.append(Fault("", 503, times=2))
    bucket().write("x", b"1")
    assert store.requests == ["PUT b/runs/a/x"] * 3


def test_a_store_that_refuses_is_one_line(store: Store) -> None:
    store.faults.append(Fault("", 403))
    with pytest.raises(OSError, match="403 Forbidden") as error:
        bucket().entries()
    assert "\n" not in str(error.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"^s3://b/runs/a needs obstore.*make install EXTRA=bucket"
    ):
        bucket()
