"""Data that are wrong, or that do not say what they are, are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.data import Dataset, load
from cnn.errors import InputError

X, Y = np.zeros((10, 6, 5, 3), np.uint8), np.arange(10) % 2
FLOATS = X.astype(np.float32)
NAN = np.where(np.arange(10)[:, None, None, None] == 7, np.nan, FLOATS)

ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"x": FLOATS.astype(int)}, "x must be uint8 images or floats, got int64: use x.astype(nump"),
    ({"x": X > 0}, "x must be uint8 images or floats, got bool"),
    ({"x": FLOATS.astype(object)}, "x must be uint8 images or floats, got object"),
    ({"x": [[1.0], [1.0, 2.0]]}, "x must be an array: setting an array element with a sequence"),
    ({"x": 3.0}, "x must hold at least one example, got shape ()"),
    ({"x": X[:0]}, "x must hold at least one example, got shape (0, 6, 5, 3)"),
    ({"x": NAN}, "x must be finite, got NaN or infinity in row 7"),
    ({"x": FLOATS + 1e200 * np.eye(10)[:, :6, None, None]}, "x must have finite squares, got v"),
    (
        {"x": FLOATS[..., 0]},
        "x (10, 6, 5) does not say where its channels are: give x[..., None] if",
    ),
    ({"x": FLOATS[:, :, 0, 0]}, "x (10, 6) does not say where its channels are"),
    ({"x": X[:, :, 0]}, "x (10, 6, 3) does not say where its channels are"),
    ({"x": X.transpose(0, 3, 1, 2)}, "x (10, 3, 6, 5) does not say where its channels are"),
    ({"x": X[:, 0, 0], "channel_axis": -1}, "x must have one to three spatial axes and one of ch"),
    (
        {"channel_axis": 0},
        "channel_axis must be an axis of x (10, 6, 5, 3) and not its first, got 0",
    ),
    (
        {"channel_axis": 7},
        "channel_axis must be an axis of x (10, 6, 5, 3) and not its first, got 7",
    ),
    ({"channel_axis": "last"}, "channel_axis must be an axis, 'none' or None, got 'last'"),
    ({"y": Y[:9]}, "x and y must have as many rows, got (10, 6, 5, 3) and (9,)"),
    (
        {"y": Y[:, None]},
        "y must be class labels (n,) or floats (n, *target_shape), got int64 (10, 1)",
    ),
    ({"y": Y.astype(object)}, "y must be whole numbers or strings (n,), or floats"),
    ({"y": Y.astype(complex)}, "got complex128 (10,): use y.astype(str) for names"),
    (
        {"y": 0 * Y},
        "labels must have at least two classes, got [0]: values to predict are given as",
    ),
    ({"y": np.where(Y, np.nan, 1.0)}, "y must be finite float32, got NaN or infinity in row 1"),
    ({"y": np.where(Y, 1e300, 1.0)}, "y must be finite float32, got NaN or infinity in row 1"),
    ({"y": np.ones((10, 2)), "classes": ["a"]}, "classes must name the 2 values of the targets"),
    ({"classes": ["a", "a"]}, "classes must have different names, got ['a', 'a']"),
    ({"y": Y + 1, "classes": ["a", "b"]}, "y must be among the classes 0, 1, got 2 in row 1"),
    (
        {"y": Y.astype(str), "classes": ["a", "b"]},
        "y must be among the classes a, b, got '0' in row 0",
    ),
    ({"test": (X, Y + 1)}, "test y must be among the classes 0, 1, got 2 in row 1"),
    ({"test": (X, Y + 0.5)}, "targets must be of one kind, got numbers in y and floats in test y"),
    (
        {"test": (FLOATS, Y)},
        "test x must be like x, uint8 (6, 5, 3) per example, got float32 (6, 5, 3)",
    ),
    (
        {"test": (X[:, 1:], Y)},
        "test x must be like x, uint8 (6, 5, 3) per example, got uint8 (5, 5, 3)",
    ),
    ({"test": (X,)}, "test must be a pair (x, y), got 1 values"),
    ({"test": (X, Y[1:])}, "test x and test y must have as many rows"),
    ({"test_fraction": 1.0}, "test_fraction must be between 0 and 1, got 1.0"),
    ({"test_fraction": 0.01}, "a test part of 0.01 of 10 examples is empty: give more examples"),
    ({"seed": -1}, "seed must not be negative, got -1"),
]


@pytest.mark.parametrize(("change", "said"), ARRAYS, ids=[said[:40] for _, said in ARRAYS])
def test_arrays(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Dataset.from_arrays(**{"x": X, "y": Y, **change})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def images(folder: Path, *paths: str, size: tuple[int, ...] = (4, 5, 3)) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(size, np.uint8)).save(folder / path)
    return folder


def pets(root: Path) -> Path:
    return images(root, *(f"{label}/{i}.png" for label in ("cat", "dog") for i in range(5)))


def text(path: Path, content: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def link(path: Path, target: str) -> None:
    path.symlink_to(target)


FOLDERS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: root.rmdir(), "cannot read folder '{root}': No such file or directory"),
    (lambda root: (root.rmdir(), text(root)), "cannot read folder '{root}': Not a directory"),
    (lambda root: None, "'{root}' must have a folder for each of two classes or more, got []"),
    (lambda root: images(root, "a.png", "b.png"), "for each of two classes or more, got []"),
    (lambda root: images(root, "cat/a.png"), "for each of two classes or more, got ['cat']"),
    (
        lambda root: (pets(root), (root / "emu").mkdir()),
        "'{root}/emu' has no PNG, JPEG or WebP ima",
    ),
    (lambda root: (pets(root), text(root / "emu/a.gif")), "'{root}/emu' has no PNG, JPEG or WebP"),
    (
        lambda root: (pets(root), text(root / "cat/a.png")),
        "'{root}/cat/a.png' is no PNG, JPEG or We",
    ),
    (
        lambda root: images(pets(root), "cat/a.png", size=(6, 5, 3)),
        "images must have one size, got",
    ),
    (lambda root: images(pets(root), "cat/a.png", size=(4, 5)), "all grey or all in colour, got"),
    (lambda root: images(pets(root), "cat/a.png", size=(4, 5, 4)), "a.png' has transparent pixels"),
    (
        lambda root: (pets(root), link(root / "cat/a.png", "b.png")),
        "cat/a.png' is a link to a file",
    ),
    (lambda root: (pets(root), link(root / "all", ".")), "'{root}/all' is a link to a folder that"),
    (
        lambda root: images(root, "cat/a.png", "dog/a.png"),
        "a test part of 0.2 of 2 examples is empty",
    ),
    (lambda root: (pets(root / "train"), images(root, "test/emu/a.png")), "but not test/emu"),
    (
        lambda root: (pets(root / "test"), pets(root / "val")),
        "needs a split 'train', and 'test' or",
    ),
    (
        lambda root: [pets(root / part) for part in ("train", "val", "validation")],
        "got ['train', 'val', 'validation']",
    ),
]


@pytest.mark.parametrize(("make", "said"), FOLDERS, ids=[said[-40:] for _, said in FOLDERS])
def test_folders(make: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(InputError) as caught:
        load(f"folder:{root}")
    assert said.format(root=root) in str(caught.value)
    assert "\n" not in str(caught.value)


FILES: list[tuple[dict[str, Any], str]] = [
    (
        {"x": X},
        "a.npz' must hold arrays x and y, or x_train, y_train, x_test and y_test, got ['x']",
    ),
    ({"images": X, "labels": Y}, "must hold arrays x and y, or x_train"),
    ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "must hold arrays x and y, or x_train"),
    ({"x_train": X, "y_train": Y, "x_test": X}, "must hold arrays x and y, or x_train"),
    (
        {"x": X, "y": Y.astype(object)},
        "array y of '{path}' must be numbers or strings, got objects",
    ),
    (
        {"x": X, "y": Y, "channel_axis": [1, 2]},
        "channel_axis must be an axis, 'none' or None, got [1",
    ),
    ({"x": X, "y": Y[:3]}, "'{path}': x and y must have as many rows"),
    ({"x": X, "y": Y, "classes": np.array(["only"])}, "labels must have at least two classes"),
]


@pytest.mark.parametrize(("arrays", "said"), FILES, ids=[said[-40:] for _, said in FILES])
def test_npz_files(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert said.format(path=path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "nowhere.npz"}, "cannot read 'nowhere.npz': No such file or directory"),
        ({"name": "folder:"}, "data set 'folder:' must name a folder: folder:PATH"),
        ({"name": "hf:"}, "data set 'hf:' must name a folder: hf:PATH"),
        ({"name": "hf:/no/where"}, "cannot read '/no/where': there is no such folder"),
        ({"name": "/"}, "data set '/' is a folder: give folder:/, or hf:/"),
        ({"name": "digits", "size": (8, 8)}, "and data set 'digits' holds arrays: leave them out"),
        ({"name": "a.npz", "channels": 1}, "and data set 'a.npz' holds arrays: leave them out"),
        (
            {"name": "folder:/", "size": (0, 8)},
            "size must be a height and a width of at least 1, got",
        ),
        (
            {"name": "folder:/", "size": (8,)},
            "size must be a height and a width of at least 1, got",
        ),
        ({"name": "folder:/", "size": (8.5, 8)}, "of at least 1, got (8.5, 8)"),
        ({"name": "folder:/", "size": (10**5, 10**5)}, "size must have at most 89478485 pixels"),
        ({"name": "folder:/", "channels": 5}, "channels must be from 1 to 4, got 5"),
    ],
)
def test_names(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        load(**arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
