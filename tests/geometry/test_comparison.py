"""Comparisons of two networks, layer by layer."""

from __future__ import annotations

from cnn import models
from cnn.geometry import compare
from cnn.layers import Chain, Conv, Dense, Flatten, MaxPool


def test_what_a_pooling_does_to_all_that_follows() -> None:
    """Stride 2 → 4 in the first pooling: later windows are twice as far apart, the head smaller."""

    def net(pool: int) -> Chain:
        head = (Flatten(), Dense(10))
        return Chain((Conv(8, (3, 3), padding=1), MaxPool((pool, pool)), Conv(8, (3, 3)), *head))

    found = compare(net(2), net(4), (16, 16, 1))
    assert [(x and x.name, y and y.name) for x, y in found.changed] == [
        (f"layers_{i}", f"layers_{i}") for i in (1, 2, 4)
    ]
    assert found.rows()[1] == [
        *("layers_2", "Conv", "6×6×8 → 2×2×8", "584", "20,736 → 2,304"),
        *("8 → 14", "2 → 4"),
    ]
    assert found.rows()[-1][3] == "3,554 → 994"  # 6 · 6 · 8 · 10 against 2 · 2 · 8 · 10 in the head
    assert found.to_markdown().count("\n") == 2 + 3


def test_layers_of_both_are_paired() -> None:
    found = compare(models.vgg11(), models.vgg13(), (32, 32, 3))
    alone = [y.kind for x, y in found.pairs if x is None]
    assert alone == ["Conv", "ReLU"] * 2
    assert all(y is not None for _, y in found.pairs)
    assert [row[:3] for row in found.rows()[:2]] == [
        [f"– → layers_{i}", f"– → {kind}", "– → 32×32×64"] for i, kind in ((0, "Conv"), (1, "ReLU"))
    ]
    same = compare(models.lenet5(), models.lenet5(), (28, 28, 1))
    assert same.changed == ()
