"""Least times, against arithmetic by hand."""

import pytest

from experiments.harness.chips import parse_slice
from experiments.harness.roofline import Work, roofline


def test_least_times_by_hand() -> None:
    """197 TFLOP/s, 819 GB/s of HBM, 200 GB/s to other chips; 16 chips send 30/16 of the bytes."""
    work = Work(flops=197e9, state=40_000_000, batch=1_900_000, reduced=64_000_000)
    times = roofline(work, parse_slice("v5e:4x4"))
    assert times.compute == pytest.approx(1e-3)
    assert times.memory == pytest.approx(81.9e6 / 819e9)
    assert times.all_reduce == pytest.approx(120e6 / 200e9)
    assert (times.bound, times.seconds) == ("compute", times.compute)


def test_the_largest_known_bound_decides() -> None:
    work = Work(flops=None, state=1_000, batch=0, reduced=10**9)
    assert roofline(work, parse_slice("v5e:4x4")).bound == "all-reduce"
    alone = roofline(work, parse_slice("v5e:1x1"))
    assert (alone.all_reduce, alone.bound) == (0.0, "memory")
    not_documented = roofline(work, parse_slice("v4:2x2x1"))
    assert (not_documented.all_reduce, not_documented.bound) == (None, "memory")
    assert not_documented.seconds == pytest.approx(2_000 / 1.2e12)
