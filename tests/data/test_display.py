"""Data sets show as one line, and as HTML with tables and examples, and never as raw arrays."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from cnn.data import Dataset, Split, lazy
from cnn.data.lazy import LazyArray

Y = np.array([0, 1, 1, 1] * 10)


def test_one_line_names_sizes_shapes_and_counts() -> None:
    x = np.zeros((40, 6, 5, 3), np.uint8)
    data = Dataset.from_arrays(x, Y, (x[:3], Y[:3]), name="pets", classes=["cat", "dog\n"])
    assert repr(data) == (
        "<Dataset 'pets': 40 training and 3 test examples of 6×5×3, 2 classes: "
        "cat (10+1), dog (30+2)>"
    )
    assert repr(data.test) == "<Split: 3 examples of 6×5×3, 2 classes: 0 (1), 1 (2)>"
    values = Dataset.from_arrays(x, np.zeros((40, 2)), (x, np.zeros((40, 2))))
    assert repr(values).endswith("40 training and 40 test examples of 6×5×3, targets of 2 floats>")
    many = Dataset.from_arrays(x, np.arange(40) // 2, (x, np.arange(40) // 2))
    assert repr(many).endswith(
        "20 classes: 0 (2+2), 1 (2+2), 2 (2+2), 3 (2+2), 4 (2+2), 5 (2+2), "
        "6 (2+2), 7 (2+2), 8 (2+2), 9 (2+2), …>"
    )


def test_a_lazy_array_shows_no_rows() -> None:
    x = LazyArray(
        "set",
        lambda rows: np.zeros((len(rows), 2, 1), np.uint8),
        np.arange(9),
        (2, 1),
        (0.0,),
        (1.0,),
    )
    assert repr(x) == "<LazyArray of shape (9, 2, 1), in files>"
    assert repr(Split(x, np.zeros(9, np.int32))) == "<Split: 9 examples of 2×1, 1 classes: 0 (9)>"


def pictures(shown: str) -> list[np.ndarray]:
    found = re.findall(r"base64,([^\"]+)\"", shown)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def test_html_has_counts_and_examples() -> None:
    x = np.zeros((40, 6, 12, 3), np.uint8)
    x[:, :3] = [200, 100, 0]
    data = Dataset.from_arrays(x, Y, (x[:3], Y[:3]), name="<pets>", classes=["cat", "<dog>"])
    shown = data._repr_html_()
    assert "<pets>" not in shown and "&lt;pets&gt;" in shown
    assert "class</th><th>training</th><th>test</th></tr>" in shown
    assert "&lt;dog&gt;</td><td>30</td><td>2</td></tr>" in shown
    drawn = pictures(shown)
    assert len(drawn) == shown.count("<figcaption>") == 16
    assert drawn[0].shape == (36, 72, 3)
    np.testing.assert_array_equal(drawn[0][[0, -1], 0], [[255, 128, 0], [0, 0, 0]])  # of 200
    assert len(shown) < 40_000


def test_html_of_signals_volumes_and_float_targets() -> None:
    values = np.stack([np.arange(40.0), -np.ones(40)], axis=-1)
    for x in (np.random.default_rng(0).standard_normal((40, 30, 2)), np.zeros((40, 4, 5, 6, 1))):
        shown = Dataset.from_arrays(x, values, (x, values))._repr_html_()
        assert ">0</td><td>0, 19.5, 39</td><td>0, 19.5, 39</td>" in shown
        assert ">1</td><td>-1, -1, -1</td>" in shown
        assert [picture.min() for picture in pictures(shown)] == [0] * 16  # a curve is drawn


def test_html_of_many_classes_is_short() -> None:
    x, y = np.zeros((200, 4, 4, 1), np.uint8), np.arange(200) // 2
    shown = Dataset.from_arrays(x, y, (x, y))._repr_html_()
    assert ">… 80 more</td>" in shown
    assert shown.count("<tr>") == 22


def test_html_reads_only_the_examples_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def images(rows: np.ndarray) -> np.ndarray:
        read.extend(rows)
        return np.zeros((len(rows), 4, 4, 1), np.uint8)

    x = lazy.LazyArray("set", images, np.arange(1000), (4, 4, 1), (0.0,), (1.0,))
    split = Split(x, np.zeros(1000, np.int32))
    Dataset("set", split, split, ("a",), (0.0,), (1.0,))._repr_html_()
    assert len(read) == 16
