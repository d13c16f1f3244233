"""Model FLOP utilization: what share of the devices' peak rate the steps of a run reach."""

from __future__ import annotations

from etils import epy
from flax import linen as nn

from cnn.train.config import Config

with epy.lazy_imports():
    from cnn import geometry

PASSES = 3
"""A step multiplies three times as often as a forward pass: the gradients of inputs and of weights
each take as many multiplications."""


class Utilization:
    """Measures the model FLOP utilization of a run between lines of metrics.

    Multiplications that the model does not have are not counted, such as those of `remat`.

    Args:
        config: The run.
        peak_flops: Peak FLOP/s of all devices together; None if it is not known.

    Reference:
        Chowdhery et al., "PaLM: scaling language modeling with pathways" (2022), appendix B.
    """

    def __init__(self, config: Config, peak_flops: float | None) -> None:
        self._peak, self._phases = peak_flops, list[tuple[int, float]]()
        self._last: tuple[float, float] | None = None
        if peak_flops is not None:
            examples = config.batch_size * len(config.replicas)
            counts = [
                multiplications(model, config.examples.input_shape) for model, _ in config.phases
            ]
            known = [2.0 * PASSES * macs * examples for macs in counts if macs is not None]
            ends = [end for _, end in config.phases]
            self._phases = [*zip(ends, known, strict=True)] if len(known) == len(ends) else []

    def measure(self, step: int, seconds: float) -> float | None:
        """Return the utilization since the last call, a fraction.

        It is None in the first call, before which the program was compiled, and where the peak rate
        or the multiplications are not known.
        """
        if self._peak is None or not self._phases:
            return None
        start, flops = 0, 0.0
        for end, per_step in self._phases:
            flops += per_step * max(0, min(step, end) - start)
            start = end
        before, self._last = self._last, (flops, seconds)
        if before is None or seconds <= before[1]:
            return None
        return (flops - before[0]) / (seconds - before[1]) / self._peak


def multiplications(model: nn.Module, input_shape: tuple[int, ...]) -> int | None:
    """Return multiply-accumulates of one example, forward; None if those of a layer are unknown."""
    layers = geometry.describe(model, input_shape, aligned=False).layers
    known = [layer.macs for layer in layers if layer.macs is not None]
    return sum(known) if len(known) == len(layers) else None
