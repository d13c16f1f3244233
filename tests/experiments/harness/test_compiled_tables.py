"""Tables of compiled steps, against sums by hand."""

from experiments.harness import hlo
from experiments.harness.chips import parse_slice
from experiments.harness.compilation import Compiled
from experiments.harness.compiled_tables import tables
from experiments.harness.lowering import GRADIENTS, LAYERS, Collective

REDUCED = [
    Collective("all-reduce", LAYERS, 10, 4000),
    Collective("all-reduce", GRADIENTS, 1, 8_000_000),
]
STEP = Compiled(
    arguments=2_000_000_000,
    temporaries=3_000_000_000,
    peak=4_500_000_000,
    flops=1.97e12,
    accessed=8.19e9,
    program=hlo.Program(REDUCED, 15_000_000, False),
)


def test_of_each_slice() -> None:
    """A v5e chip has 197 TFLOP/s, 819 GB/s to its memory and 200 GB/s to others.

    Of 16 chips each sends 15/8 of what is reduced: 7,500 bytes in 37.5 ns, 15 MB in 75 µs.
    """
    work, collectives, times = (table.rows for table in tables([(parse_slice("v5e:4x4"), STEP)]))
    assert work == [["v5e:4x4", "2", "3", "4.5", "1,970", "8.19"]]
    assert collectives == [
        ["v5e:4x4", f"all-reduce: {LAYERS}", "10", "0.004", "3.75e-05"],
        ["v5e:4x4", f"all-reduce: {GRADIENTS}", "1", "8", "0.075"],
    ]
    assert times == [["v5e:4x4", "10", "10", "0.07504", "compute", "10", "15,000,000"]]


def test_a_chip_of_two_devices() -> None:
    """Each has its memory and its part of the work. Half the bytes by 16 chips in 45 µs."""
    work, _, times = (table.rows for table in tables([(parse_slice("tpu7x:2x2x4"), STEP)]))
    assert work == [["tpu7x:2x2x4", "4", "6", "9", "3,940", "16.38"]]
    assert times[0][1:3] == [f"{2 * 1970 / 2307:.4g}", f"{2 * 8190 / 7380:.4g}"]


def test_what_is_not_documented_is_not_known() -> None:
    """Google gives no bandwidth between v4 chips."""
    _, collectives, times = (table.rows for table in tables([(parse_slice("v4:2x2x1"), STEP)]))
    assert [row[-1] for row in collectives] == ["not known", "not known"]
    assert times[0][3:5] == ["not known", "compute"]


def test_gpus_without_counts() -> None:
    """Of 8 chips each sends 14/8 of 8 MB at 450 GB/s in 31 µs. There is no table of times."""
    on_gpu = STEP._replace(flops=None, accessed=None)
    work, collectives = (table.rows for table in tables([(parse_slice("h100:1x8"), on_gpu)]))
    assert work == [["h100:1x8", "2", "3", "4.5", "not known", "not known"]]
    assert collectives[1][-1] == "0.03111"
