"""Sets in a bucket: copied once, copied anew when they change, never read by half."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from cnn import data
from cnn.buckets import Bucket, BucketPath
from cnn.data.bucket import local_copy, prepared
from cnn.errors import InputError
from experiments import prepare
from tests.data.test_tfds import png, write_set
from tests.object_store import Fault, Store

HOME = BucketPath("s3://b/sets")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cnn-biases"


def upload(folder: Path, home: BucketPath = HOME) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Bucket(home).write(str(path.relative_to(folder)), path)


def write_pets(home: Path, values: tuple[int, ...], version: str = "1.0.0") -> None:
    examples = [{"image": png(value), "label": i % 2} for i, value in enumerate(values)]
    write_set(home / "pets" / version, {"train": examples, "test": examples[:2]}, shards=2)


def downloads(store: Store) -> int:
    found = sum(what.startswith("GET b/sets/") for what in store.requests)
    store.requests.clear()
    return found


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_set_equals_the_one_that_was_uploaded(scheme: str, store: Store, tmp_path: Path) -> None:
    write_pets(tmp_path / "old", (1, 2, 3), "0.9.0")
    write_pets(tmp_path / "new", (4, 5, 6, 7))
    home = f"{scheme}://b/sets"
    for folder in ("old", "new"):
        upload(tmp_path / folder, BucketPath(home))
    assert data.names(home)[-1] == "pets"
    loaded, straight = data.load("pets", home), data.load("pets", tmp_path / "new")
    for one, other in ((loaded.train, straight.train), (loaded.test, straight.test)):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)
    assert downloads(store) == 7  # the files of the newer version
    data.load("pets", home)
    assert downloads(store) == 0


def test_a_set_that_changes_is_copied_anew(store: Store, tmp_path: Path) -> None:
    for folder, values in (("a", (1, 2)), ("b", (3, 4))):
        write_pets(tmp_path / folder, values)
    upload(tmp_path / "a")
    first = data.load("pets", HOME)
    upload(tmp_path / "b")
    assert first.content_hash() != data.load("pets", HOME).content_hash()
    assert (
        data.load("pets", tmp_path / "b").content_hash() == data.load("pets", HOME).content_hash()
    )


def test_half_of_a_copy_is_never_read(store: Store, tmp_path: Path, cache: Path) -> None:
    write_pets(tmp_path, (1, 2, 3))
    upload(tmp_path / "pets", HOME / "pets")
    store.faults.append(Fault("GET .*test.*00001", 403))
    with pytest.raises(InputError, match=r"^s3://b/sets/pets/1\.0\.0 cannot be read .*credentials"):
        data.load("pets", HOME)
    assert not [path for path in (cache / "copies").iterdir() if path.is_dir()]
    copy = local_copy(prepared(HOME)["pets"])
    assert (copy.parent.name, copy.name) == ("pets", "1.0.0")
    record = next(copy.glob("*train*"))
    whole = record.read_bytes()
    record.write_bytes(whole[:-1])  # as after a power cut
    downloads(store)
    assert local_copy(prepared(HOME)["pets"]) == copy
    assert record.read_bytes() == whole
    assert downloads(store) == 7


def test_a_set_that_changes_while_it_is_copied_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pets(tmp_path, (1, 2))
    upload(tmp_path / "pets", HOME / "pets")
    download = Bucket.download

    def change(self: Bucket, name: str, path: Path) -> None:
        download(self, name, path)
        if name == "features.json":
            self.write(name, path.read_bytes() + b" ")

    monkeypatch.setattr(Bucket, "download", change)
    with pytest.raises(InputError, match=r"1\.0\.0 has changed while it was copied: start again"):
        data.load("pets", HOME)


def test_no_room_is_one_line(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pets(tmp_path, (1, 2))
    upload(tmp_path / "pets", HOME / "pets")

    def full(self: Bucket, name: str, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Bucket, "download", full)
    with pytest.raises(InputError, match=r"cannot be copied to this machine .*No space left.*make"):
        data.load("pets", HOME)


def test_a_set_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_DATA_DIR", "s3://b/sets")
    with pytest.raises(
        InputError,
        match=r"'mnist' is not prepared in s3://b/sets: prepare it with python -m "
        r"experiments\.prepare mnist --data-dir FOLDER, and copy FOLDER there$",
    ):
        data.load("mnist")
    with pytest.raises(InputError, match=r"^data_dir must be in a file system, got 's3://b/sets'"):
        prepare.main(prepare.Flags("mnist"))
