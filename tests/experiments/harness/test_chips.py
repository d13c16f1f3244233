"""Slices: which names are known, and how many chips and devices they have."""

import jax
import pytest

from cnn.errors import InputError
from experiments.harness.chips import CHIPS, parse_slice, peak_flops


@pytest.mark.parametrize(
    ("name", "chips", "devices"),
    [
        ("v5e:1x1", 1, 1),
        ("v6e:8x16", 128, 128),
        ("v4:2x2x1", 4, 4),
        ("tpu7x:4x4x8", 128, 256),
        ("h100:1x8", 8, 8),
    ],
)
def test_counts_chips_and_devices(name: str, chips: int, devices: int) -> None:
    found = parse_slice(name)
    assert (found.chips, found.devices) == (chips, devices)
    assert found.chip is CHIPS[name.partition(":")[0]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5e", "CHIP:SHAPE"),
        ("v5e:4", "CHIP:SHAPE"),
        ("v5e:4x4x", "CHIP:SHAPE"),
        ("v5e:-4x4", "CHIP:SHAPE"),
        ("v5lite:4x4", "unknown chip 'v5lite'"),
        ("v5e:4x4x4", "must be one of 1x1"),
        ("h100:2x8", "must be one of 1x1, 1x2, 1x4, 1x8"),
        ("v5e:16x32", "must be one of 1x1"),
        ("v5p:4x4", "AxBxC"),
        ("v5p:2x2x3", "AxBxC"),
        ("v5p:8x4x4", "A ≤ B ≤ C"),
        ("v4:16x16x20", "at most 4,096 chips"),
        ("v4:0x0x0", "AxBxC"),
    ],
)
def test_what_is_not_offered_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        parse_slice(name)
    assert "\n" not in str(refused.value)
    assert name.partition(":")[0] in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "precision", "peak"),
    [
        ("TPU v5 lite", "bfloat16", 197e12),
        ("TPU v5 lite", "float32", 197e12),
        ("TPU7x", "bfloat16", 2307e12 / 2),  # one of two devices
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "float32", None),
        ("cpu", "float32", None),
        ("TPU v9", "bfloat16", None),
    ],
)
def test_the_peak_of_a_device_is_known_or_none(
    kind: str, precision: str, peak: float | None
) -> None:
    assert peak_flops(kind, precision) == peak


def test_the_peak_of_a_tpu_is_not_known_in_another_matmul_precision() -> None:
    with jax.default_matmul_precision("highest"):
        assert peak_flops("TPU v4", "float32") is None
