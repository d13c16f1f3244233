"""The least time that a training step needs by the documented rates of a chip: a roofline."""

from __future__ import annotations

from typing import NamedTuple

from experiments.harness.chips import Slice


class Work(NamedTuple):
    """What one step does on each chip."""

    flops: float | None
    """None if it is not known."""
    state: int
    """Bytes of weights, optimizer state and moving average."""
    batch: int
    """Bytes of the examples."""
    reduced: int
    """Bytes that all chips reduce together."""


class Roofline(NamedTuple):
    """Seconds that each resource is busy at least; None where that is not known.

    Not calibrated: nothing here was compared with a chip.
    """

    compute: float | None
    """FLOPs over peak FLOP/s."""
    memory: float
    """The state read and written once and the batch read once, over the bandwidth of HBM. The
    traffic of activations comes on top, and is often much larger."""
    all_reduce: float | None
    """2 (n − 1) / n times the bytes over the bandwidth of all links that leave a chip: what a ring
    of n chips moves. The latency of each operation comes on top."""

    @property
    def bound(self) -> str:
        """The resource that is busy longest, of those that are known."""
        return max(self._known(), key=self._known().__getitem__)

    @property
    def seconds(self) -> float:
        """Least time of a step, if all resources work at the same time."""
        return max(self._known().values())

    def _known(self) -> dict[str, float]:
        named = {"compute": self.compute, "memory": self.memory, "all-reduce": self.all_reduce}
        return {name: seconds for name, seconds in named.items() if seconds is not None}


def roofline(work: Work, where: Slice) -> Roofline:
    """Return the least times of a step with this work on each chip of a slice.

    Reference:
        Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009);
        Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms" (2009), for the ring.
    """
    return Roofline(
        None if work.flops is None else work.flops / where.chip.flops,
        (2 * work.state + work.batch) / where.chip.hbm_bandwidth,
        ring_seconds(work.reduced, where),
    )


def ring_seconds(reduced: int, where: Slice) -> float | None:
    """Return the seconds in which rings of all chips reduce so many bytes; None if not known."""
    sent, bandwidth = 2 * (where.chips - 1) / where.chips * reduced, where.chip.ici_bandwidth
    return sent / bandwidth if bandwidth else None if sent else 0.0
