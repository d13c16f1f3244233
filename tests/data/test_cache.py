"""The cache returns what was made, or makes it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnn.data import cache


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cnn-biases"


def made(value: int) -> dict[str, np.ndarray]:
    return {"x": np.full((3, 2), value, np.float32), "names": np.array(["a", "bc"])}


def test_cache_makes_once_per_key_and_keeps_one_file(cache_folder: Path) -> None:
    calls = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return made(len(calls))

    for key, value in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("one", 3)):
        found = cache.cached("name", key, make)
        assert sorted(found) == ["names", "x"]
        np.testing.assert_array_equal(found["x"], np.full((3, 2), value))
        assert found["names"].tolist() == ["a", "bc"]
    assert [file.name for file in cache_folder.iterdir()] == ["name.npz"]


@pytest.mark.fault
def test_cache_never_returns_damaged_arrays(cache_folder: Path) -> None:
    cache.cached("name", "key", lambda: made(5))
    file = cache_folder / "name.npz"
    whole = file.read_bytes()
    remade = 0
    for position in range(0, len(whole), 3):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        found = cache.cached("name", "key", lambda: made(5) | {"again": np.array(1)})
        remade += "again" in found
        np.testing.assert_array_equal(found["x"], np.full((3, 2), 5))
    assert remade > len(whole) / 3 / 2
    for length in (0, 1, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert cache.cached("name", "key", lambda: made(6))["x"][0, 0] == 6


def test_cache_unpacks_nothing(cache_folder: Path) -> None:
    """A megabyte of a packed file may hold a gigabyte."""
    cache_folder.mkdir()
    entries = {"key": np.array([f"{cache.FORMAT} key", "x"]), "x": np.zeros(10_000)}
    np.savez_compressed(cache_folder / "name.npz", **entries)
    assert cache.cached("name", "key", lambda: made(8))["x"][0, 0] == 8


def test_cache_runs_no_pickle(cache_folder: Path) -> None:
    cache_folder.mkdir()
    with (cache_folder / "name.npz").open("wb") as file:
        key = np.array([f"{cache.FORMAT} key", "x"])
        np.savez(file, key=key, x=np.array([Path("object")], dtype=object))
    assert cache.cached("name", "key", lambda: made(7))["x"][0, 0] == 7


def test_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cached("name", "key", lambda: made(8))["x"][0, 0] == 8

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.cached("name", "key", lambda: made(9))["x"][0, 0] == 9
