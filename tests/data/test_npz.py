"""`.npz` files: the same data set as from the arrays, and no more is read than a set may have."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Dataset, load, npz
from cnn.errors import InputError

X = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
Y = np.arange(20) % 2


def test_x_and_y_are_split_by_the_seed(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=X, y=Y)
    data, same = load(str(tmp_path / "mine.npz")), Dataset.from_arrays(X, Y, name="mine")
    assert data.name == "mine"
    assert data.content_hash() == same.content_hash()
    other = npz.load(tmp_path / "mine.npz", seed=1)
    assert other.content_hash() == Dataset.from_arrays(X, Y, name="mine", seed=1).content_hash()


@pytest.mark.parametrize("names", npz.NAMES[1:])
def test_parts_and_names_of_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    parts = dict(zip(names, (X, Y, X[:4], Y[:4]), strict=True))
    np.savez_compressed(tmp_path / "a.npz", **parts, classes=np.array(["cat", "dog"]), ids=Y)
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (20, 4)
    np.savez(tmp_path / "b.npz", **dict(list(parts.items())[:2]))
    assert len(load(str(tmp_path / "b.npz")).test) == 4  # a fifth


def test_the_axis_of_channels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X.transpose(0, 3, 1, 2), y=Y, channel_axis=1)
    assert load(str(tmp_path / "a.npz")).content_hash() == (
        Dataset.from_arrays(X, Y, name="a").content_hash()
    )


def test_float_targets(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.ones((20, 2)))
    assert load(str(tmp_path / "a.npz")).target_shape == (2,)


@pytest.mark.fault
def test_a_small_file_that_unpacks_to_much_is_refused_by_its_header(tmp_path: Path) -> None:
    """It is refused at once: a terabyte would not be, if it were unpacked."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000, 1)}
    )
    y = io.BytesIO()
    np.save(y, Y)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(10**6))
        archive.writestr("y.npy", y.getvalue())
    with pytest.raises(InputError, match="must have at most 4 GiB together, got 931 GiB"):
        load(str(tmp_path / "bomb.npz"))


@pytest.mark.fault
def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=X, y=Y)
    whole = file.read_bytes()
    damaged = [whole[:length] for length in (0, 10, 200, len(whole) - 3)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in (1, 300, 1900)]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"a.npz' is no .npz file, or a damaged one") as caught:
            load(str(file))
        assert "\n" not in str(caught.value)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=np.array([Path("object")] * 20, dtype=object))
    with pytest.raises(
        InputError, match=r"array y of .*a.npz' must be numbers or strings, got obj"
    ):
        load(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "b.npz", x=X, y=Y, other=np.array([Path("object")], dtype=object))
    assert load(str(tmp_path / "b.npz")).outputs == 2  # it is not read
