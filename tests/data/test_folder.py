"""Folders of images: what is read, in which part, and what is said of it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.data import Dataset, files, lazy, load
from cnn.errors import InputError


def write(path: Path, value: int, size: tuple[int, ...] = (4, 5, 3), **options: Any) -> None:
    """Write an image of one value, lossless, with a first pixel of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, value, np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(path, **options)


def values(data: Dataset, part: str) -> list[int]:
    """The value of every image, in stored order."""
    x = getattr(data, part).x
    last = x[np.arange(x.shape[0])][:, -1, -1, 0]
    return np.round(last * data.std[0] + data.mean[0]).astype(int).tolist()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten images each: cats have values from 0, dogs from 100."""
    for i in range(10):
        write(tmp_path / "pets" / "cat" / f"{i}.png", i)
        write(tmp_path / "pets" / "dog" / f"{i}.webp", 100 + i, lossless=True)
    return tmp_path / "pets"


def test_class_folders_are_split_by_the_seed(root: Path) -> None:
    data = load(f"folder:{root}")
    assert (data.name, data.classes, data.input_shape) == ("pets", ("cat", "dog"), (4, 5, 3))
    assert np.bincount(data.train.y).tolist() == [8, 8]
    together = sorted(values(data, "train") + values(data, "test"))
    assert together == [*range(10), *range(100, 110)]
    assert [v // 100 for v in values(data, "test")] == data.test.y.tolist() == [0, 0, 1, 1]
    other = Dataset.from_folder(root, seed=1)
    assert values(other, "test") != values(data, "test")


def test_parts_are_read_where_they_exist(tmp_path: Path) -> None:
    for part, value in (("train", 10), ("val", 20), ("test", 30)):
        for number, label in enumerate(("cat", "dog")):
            write(tmp_path / "all" / part / label / "a.png", value + number)
            if part != "test":
                write(tmp_path / "two" / part / label / "a.png", value + number)
            if part == "train":
                for i in range(5):
                    write(tmp_path / "one" / part / label / f"{i}.png", value + number)
    every = Dataset.from_folder(tmp_path / "all")
    assert (values(every, "train"), values(every, "test")) == ([10, 11, 20, 21], [30, 31])
    two = Dataset.from_folder(tmp_path / "two")
    assert (values(two, "train"), values(two, "test")) == ([10, 11], [20, 21])
    one = Dataset.from_folder(tmp_path / "one")
    assert (len(one.train), values(one, "test")) == (8, [10, 11])


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    """It is a part only if it has class folders."""
    for label in ("bus", "train"):
        for i in range(5):
            write(tmp_path / label / f"{i}.png", i)
    assert Dataset.from_folder(tmp_path).classes == ("bus", "train")


def test_files_are_told_by_content_and_what_is_not_read_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "cat" / "0.png").rename(root / "cat" / "0.data")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".hidden.png").write_text("not an image")
    (root / ".cache").mkdir()
    (root / "LICENSE").write_text("free")
    write(root / "dog" / "old" / "10.png", 110)
    data = Dataset.from_folder(root)
    assert len(data.train) + len(data.test) == 21
    said = capsys.readouterr().err
    assert said == (
        "pets: 2 classes, 17 training and 4 test images, drawn by seed 0; 4×5, colour; "
        "not read: 2 files and folders, such as 'LICENSE'\n"
    )
    Dataset.from_folder(root)
    assert capsys.readouterr().err == ""  # decoded before


def test_images_of_several_sizes_are_resized_as_it_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root / "cat" / "wide.png", 10, (4, 40, 3))
    with pytest.raises(InputError, match=r"4×5 in '.*0.png' and 4×40 in '.*wide.png': give size="):
        Dataset.from_folder(root)
    capsys.readouterr()
    data = load(f"folder:{root}", size=[8, 6])
    assert data.input_shape == (8, 6, 3)
    said = capsys.readouterr().err
    assert "whole images of 4×5 to 4×40 resized to 8×6, colour, bilinear with antial" in said


def test_orientation_decides_the_size(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root / "cat" / "turned.png", 10, (5, 4, 3), exif=exif)
    assert Dataset.from_folder(root).input_shape == (4, 5, 3)


def test_grey_and_colour_together_need_channels(root: Path) -> None:
    write(root / "dog" / "grey.png", 110, (4, 5))
    with pytest.raises(InputError, match=r"grey.png' in grey and .*0.png' in colour: give chan"):
        Dataset.from_folder(root)
    assert Dataset.from_folder(root, channels=1).input_shape == (4, 5, 1)
    assert Dataset.from_folder(root, channels=3).input_shape == (4, 5, 3)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(5):
            write(tmp_path / label / f"{i}.png", i, (4, 5))
    assert load(f"folder:{tmp_path}").input_shape == (4, 5, 1)


def test_transparent_images_need_channels(root: Path) -> None:
    write(root / "dog" / "clear.png", 110, (4, 5, 4))
    with pytest.raises(InputError, match=r"clear.png' has transparent pixels: give channels=3"):
        Dataset.from_folder(root)
    assert Dataset.from_folder(root, channels=3).input_shape == (4, 5, 3)
    assert load(f"folder:{root}", channels=4).input_shape == (4, 5, 4)


def test_a_folder_beyond_the_budget_stays_in_its_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Dataset.from_folder(root, size=(6, 6))
    monkeypatch.setattr(lazy, "BUDGET", 100)
    monkeypatch.setattr(files, "CHUNK", 300)  # two images and a bit
    there = Dataset.from_folder(root, size=(6, 6), channels=3)
    assert isinstance(there.train.x, lazy.LazyArray)
    rows = np.array([[15, 0], [2, 2]])
    np.testing.assert_array_equal(there.train.x[rows], here.train.x[rows])
    np.testing.assert_array_equal(there.test.x[rows % 4], here.test.x[rows % 4])
    np.testing.assert_array_equal(there.train.y, here.train.y)
    assert (there.mean, there.std) == (here.mean, here.std)  # of all, there are so few
    write(root / "cat" / "0.png", 77, (4, 5, 3))
    write(root / "cat" / "1.png", 77, (4, 5, 3))
    (root / "dog" / "0.webp").unlink()
    (root / "dog" / "1.webp").unlink()
    with pytest.raises(InputError, match=r"dog/[01].webp' cannot be read: FileNotFoundError"):
        _ = there.train.x[np.arange(16)], there.test.x[np.arange(4)]


def test_an_image_that_has_another_size_since_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "BUDGET", 100)
    data = Dataset.from_folder(root)
    for file in root.rglob("*.png"):
        write(file, 1, (8, 8, 3))
    with pytest.raises(InputError, match=r"png' has changed: load the data set again"):
        _ = data.train.x[np.arange(16)]


def test_decoded_images_are_kept_until_a_file_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Dataset.from_folder(root)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_read", lambda source: pytest.fail("decoded a second time"))
        again = Dataset.from_folder(root)
    np.testing.assert_array_equal(again.train.x, first.train.x)
    assert again.content_hash() == first.content_hash()
    file = root / "cat" / "3.png"
    write(file, 50)
    os.utime(file, ns=(0, 0))
    changed = Dataset.from_folder(root)
    assert 50 in values(changed, "train") + values(changed, "test")
    assert changed.content_hash() != first.content_hash()


def test_the_hash_does_not_depend_on_where_the_folder_is(root: Path, tmp_path: Path) -> None:
    first = Dataset.from_folder(root).content_hash()
    (tmp_path / "elsewhere").mkdir()
    root.rename(tmp_path / "elsewhere" / "pets")
    assert Dataset.from_folder(tmp_path / "elsewhere" / "pets").content_hash() == first


def test_links_are_followed_and_loops_end(root: Path, tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "more" / f"{i}.png", 50 + i)
    (root / "cat" / "linked").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "back").symlink_to(tmp_path / "more" / ".." / "third")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "again").symlink_to(tmp_path / "more")
    data = Dataset.from_folder(root)
    assert len(data.train) + len(data.test) == 23  # each of the linked ones once
    (root / "dog" / "loop").symlink_to(root)
    with pytest.raises(InputError, match=r"dog/loop' is a link to a folder that it is in"):
        Dataset.from_folder(root)


@pytest.mark.fault
def test_an_image_of_too_many_pixels_is_refused_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "dog" / "big.png", 0, (30, 30, 3))
    for limit in (800, 100):  # Pillow warns of the first, and raises for the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a program, which goes on after a warning
            with pytest.raises(InputError, match=r"big.png' cannot be read: .*pixels") as caught:
                Dataset.from_folder(root, size=(4, 4))
        assert "\n" not in str(caught.value)


@pytest.mark.fault
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_damaged_image_is_named_wherever_it_is_damaged(root: Path, suffix: str) -> None:
    file = root / "cat" / f"broken.{suffix}"
    write(file, 7, (40, 50, 3))
    whole = file.read_bytes()
    for length in (0, 5, 12, 30, len(whole) // 2, len(whole) - 20):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"broken.{suffix}'") as caught:
            Dataset.from_folder(root, size=(4, 4))
        assert "\n" not in str(caught.value)
