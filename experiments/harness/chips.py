"""TPU chips, the slices that Google Cloud offers by its documentation, and GPUs of one host."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from etils import epy

from cnn.errors import InputError, unknown_name

with epy.lazy_imports():
    import jax

GIB = 2.0**30


class Chip(NamedTuple):
    """Peak rates and sizes of one chip, as documented. No run here has measured them."""

    flops: float
    """Peak FLOP/s in bfloat16. On a TPU, JAX multiplies float32 in bfloat16 too, by default."""
    hbm: float
    """Bytes of HBM. A runtime reserves some of them."""
    hbm_bandwidth: float
    """Bytes/s between HBM and chip."""
    ici_bandwidth: float | None
    """Bytes/s that leave a chip over all its links to other chips; None if not documented."""
    axes: int
    """Axes of a slice."""
    largest: int
    """Chips of the largest slice."""
    source: str
    devices: int = 1
    """Devices that JAX sees in one chip."""


CLOUD = "cloud.google.com/tpu/docs/"
CHIPS = {
    # The page gives no bandwidth between chips.
    "v4": Chip(275e12, 32 * GIB, 1200e9, None, 3, 4096, CLOUD + "v4"),
    # Pages give the bandwidth between chips for both directions together: half of it leaves.
    "v5e": Chip(197e12, 16e9, 819e9, 400e9 / 2, 2, 256, CLOUD + "v5e"),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 1200e9 / 2, 3, 6144, CLOUD + "v5p"),
    "v6e": Chip(918e12, 32e9, 1638e9, 800e9 / 2, 2, 256, CLOUD + "v6e"),
    # "Lets you access two TPU devices", each with half of the chip's memory.
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 1200e9 / 2, 3, 9216, CLOUD + "tpu7x", devices=2),
    # Memory as XLA describes the SXM module; FLOP/s as in `GPUS`. Half of NVLink's 900 GB/s leaves.
    "h100": Chip(989.4e12, 84929347584, 3352.32e9, 900e9 / 2, 2, 8, "openxla/xla#25919"),
}
KINDS = {"TPU v4": "v4", "TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}
KINDS |= {"TPU v5e": "v5e", "TPU v5p": "v5p", "TPU v6e": "v6e", "TPU7x": "tpu7x"}
"""The chip of a device, by what JAX calls the device."""
GPUS = {
    # Without sparsity, by NVIDIA's white paper on the H100 and data sheet of the A100, of which a
    # summary was read: glennklockwood.com/garden/processors. The H200 has the chip of the H100.
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
}
"""Peak FLOP/s in bfloat16, by what JAX calls the device."""
FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
"""Slices of v5e and v6e."""
HOST = ((1, 1), (1, 2), (1, 4), (1, 8))
"""GPUs of one host, which NVLink connects all to all."""
SMALL = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))
"""Slices of the others below a cube of 4×4×4. From there on all axes are multiples of 4."""


@dataclass(frozen=True)
class Slice:
    """Connected chips of one kind, for example `v5e:4x4`."""

    name: str
    chip: Chip
    chips: int

    @property
    def devices(self) -> int:
        """Number of devices that JAX sees."""
        return self.chips * self.chip.devices

    @property
    def is_gpu(self) -> bool:
        """Whether its chips are GPUs."""
        return self.name.startswith("h100:")


def peak_flops(device_kind: str, precision: str) -> float | None:
    """Return the documented peak FLOP/s of one of JAX's devices; None if it is not known.

    A TPU has the same rate in float32, which JAX multiplies in bfloat16, but a rate is not known if
    the matmul precision of JAX was set. On a GPU only the rate in bfloat16 is known.
    """
    set_by_user = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if device_kind in KINDS and set_by_user is None:
        chip = CHIPS[KINDS[device_kind]]
        return chip.flops / chip.devices
    return GPUS.get(device_kind) if precision == "bfloat16" else None


def parse_slice(text: str) -> Slice:
    """Return the slice that a text such as "v5e:4x4" names.

    >>> parse_slice("v5e:4x4").chips
    16

    Raises:
        InputError: If the text is no topology, the chip is not known, or no such slice is offered.
    """
    match = re.fullmatch(r"(\w+):(\d{1,4}(?:x\d{1,4})+)", text)
    if match is None:
        raise InputError(f"topology must be CHIP:SHAPE, such as v5e:4x4, got {text!r}")
    name, shape = match[1], tuple(map(int, match[2].split("x")))
    if name not in CHIPS:
        raise unknown_name("chip", name, CHIPS)
    chip = CHIPS[name]
    offered = HOST if name == "h100" else FLAT
    if chip.axes == 2 and shape not in offered:
        known = ", ".join("x".join(map(str, each)) for each in offered)
        raise InputError(f"topology of {name} must be one of {known}, got {text!r}")
    cubes = len(shape) == 3 and all(n > 0 and n % 4 == 0 for n in shape)
    ordered = list(shape) == sorted(shape) and math.prod(shape) <= chip.largest
    if chip.axes == 3 and shape not in SMALL and not (cubes and ordered):
        known = ", ".join("x".join(map(str, each)) for each in SMALL)
        raise InputError(
            f"topology of {name} must be {known}, or AxBxC of multiples of 4 with A ≤ B ≤ C and at "
            f"most {chip.largest:,} chips, got {text!r}"
        )
    return Slice(text, chip, math.prod(shape))
