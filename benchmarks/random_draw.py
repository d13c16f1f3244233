"""Networks that nobody chose: drawn from a seed, within a budget, as values of `cnn.layers`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np
from flax import linen as nn

from benchmarks import networks
from benchmarks.networks import Network
from cnn import layers, ops
from cnn.errors import InputError

MACS = (10**7, 2 * 10**9)
"""Multiply-accumulates of a training step: three times those of the forward pass of a batch."""
GROUPED_MACS = 10**8
"""The most of them in convolutions with groups, whose definition is slow on a CPU."""
UNITS = 2**25
"""The most numbers that the layers of a forward pass return for a batch."""
PARAMETERS = 10**7
"""The most weights of a network."""
GOAL = 1.3
"""The goal for the median of the speed relative to the best of PyTorch."""
NAME = re.compile(r"random-(\d+)-(\d+)")


def name(seed: int, index: int) -> str:
    """Return the name by which another process draws the same network."""
    return f"random-{seed}-{index}"


def by_name(wanted: str, batch: int | None = None) -> Network:
    """Return a drawn network, or one of `benchmarks.networks` with another `batch` if given."""
    if match := NAME.fullmatch(wanted):
        if batch is not None:
            raise InputError("batch of a drawn network is drawn, too: leave it out")
        return draw(int(match[1]), int(match[2]))
    return networks.by_name(wanted, batch)


def draw(seed: int, index: int) -> Network:
    """Return network `index` of a seed; the same one on every machine.

    Its cost is first drawn on a logarithmic scale between the bounds of `MACS`. Then networks are
    drawn until the cost of one is at most that, at least half of it, and within the other bounds.
    """
    rng = np.random.default_rng([seed, index])
    most = math.exp(rng.uniform(*np.log([2 * MACS[0], MACS[1]])))
    while True:
        drawn = _Drawn.start(rng)
        drawn.fill()
        if most / 2 <= drawn.macs <= most and drawn.is_small:
            break
    model = layers.Chain(tuple(drawn.layers))
    return Network(lambda: model, drawn.shape, drawn.batch, GOAL)


def _log_int(rng: np.random.Generator, least: int, most: int) -> int:
    """Return an int between the bounds, both included, even on a logarithmic scale."""
    return int(math.exp(rng.uniform(math.log(least), math.log(most + 1))))


@dataclass
class _Drawn:
    """A network while it is drawn: its layers, and the shape and the costs of their outputs."""

    rng: np.random.Generator
    batch: int
    shape: tuple[int, ...]
    size: tuple[int, ...]
    channels: int
    layers: list[nn.Module] = field(default_factory=list)
    forward: int = 0
    """Multiply-accumulates for one example."""
    grouped: int = 0
    """Those in convolutions with groups."""
    units: int = 0
    parameters: int = 0

    @classmethod
    def start(cls, rng: np.random.Generator) -> _Drawn:
        rank = int(rng.integers(1, 3))
        size = (_log_int(rng, 8, 4096),) if rank == 1 else (_log_int(rng, 8, 128),) * 2
        channels = int(rng.choice([1, 3, _log_int(rng, 1, 256)]))
        batch = 2 ** int(rng.integers(4, 9))
        return cls(rng, batch, (*size, channels), size, channels)

    @property
    def macs(self) -> int:
        return 3 * self.batch * self.forward

    @property
    def is_small(self) -> bool:
        grouped = 3 * self.batch * self.grouped <= GROUPED_MACS
        return grouped and self.batch * self.units <= UNITS and self.parameters <= PARAMETERS

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def fill(self) -> None:
        """Draw 2 to 8 convolutions, what follows each, and a head."""
        norm = self.rng.choice(["none", "batch", "group", "response"], p=[0.35, 0.4, 0.15, 0.1])
        activations = (layers.ReLU(), layers.GELU(), layers.Tanh(), layers.Sigmoid())
        activation = self.rng.choice(len(activations), p=[0.7, 0.1, 0.1, 0.1])
        kinds = ("full", "depthwise", "separable", "groups")
        kind = str(self.rng.choice([*kinds, "mixed"], p=[0.4, 0.1, 0.1, 0.1, 0.3]))
        for _ in range(self.rng.integers(2, 9)):
            self._convolution(str(self.rng.choice(kinds)) if kind == "mixed" else kind)
            self._norm(str(norm))
            self._add(activations[activation])
            if self.chance(0.35):
                self._pool()
        self._head()

    def _add(self, *new: nn.Module) -> None:
        self.layers += new
        self.units += len(new) * math.prod(self.size) * self.channels

    def _windows(self, most: int, step: int) -> dict[str, tuple[int, ...]]:
        """Return a window, strides and a padding that fit the map, each with one int per axis."""
        n, rank = min(self.size), len(self.size)
        window = tuple(min(int(k), n) for k in self.rng.integers(1, most + 1, rank))
        if self.chance(0.8):
            window = window[:1] * rank
        padded = self.chance(0.75)
        return {
            "window": window,
            "strides": (step if n > 4 else 1,) * rank,
            "padding": tuple(k // 2 if padded else 0 for k in window),
        }

    def _convolution(self, kind: str) -> None:
        c_in, rank = self.channels, len(self.size)
        step = int(self.rng.choice([1, 2, 3], p=[0.7, 0.25, 0.05]))
        found = self._windows(7, step)
        rate = int(self.rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05]))
        spans = ops.window.dilated(found["window"], (rate,) * rank)
        if max(spans) > min(self.size):
            rate, spans = 1, found["window"]
        if any(found["padding"]):  # half of the dilated window
            found["padding"] = tuple(d // 2 for d in spans)
        found["dilation"] = (rate,) * rank
        c_out = _log_int(self.rng, 1, 256)
        taps = math.prod(found["window"])
        use_bias = self.chance(0.8)
        groups = 1
        if kind == "separable":
            m = 2 if self.chance(0.2) and c_in <= 128 else 1
            layer = layers.SeparableConv(c_out, multiplier=m, use_bias=use_bias, **found)
            weights = (taps * c_in * m, c_in * m * c_out)
        else:
            if kind == "depthwise":
                groups, c_out = c_in, c_in * (2 if self.chance(0.2) and c_in <= 128 else 1)
            elif kind == "groups":
                groups = int(self.rng.choice([g for g in range(1, c_in + 1) if c_in % g == 0]))
                c_out = max(1, c_out // groups) * groups
            layer = layers.Conv(c_out, groups=groups, use_bias=use_bias, **found)
            weights = (taps * c_in // groups * c_out,)
        spec = ops.window_spec(self.size, **found)
        self.size, self.channels = spec.out, c_out
        macs = math.prod(spec.out) * sum(weights)
        self.forward += macs
        self.parameters += sum(weights)
        if groups > 1 or kind == "separable":
            self.grouped += math.prod(spec.out) * weights[0]
        self._add(layer)

    def _norm(self, kind: str) -> None:
        match kind:
            case "batch" | "group":
                self._add(*layers.normalization(kind, self.channels))
            case "response":
                self._add(layers.LocalResponseNorm())

    def _pool(self) -> None:
        n = min(self.size)
        kind = self.rng.choice(["max", "average", "blur", "maxout", "adaptive"])
        found = self._windows(3, int(self.rng.integers(1, 4)))
        if kind == "maxout" and self.channels % 2 == 0:
            self.channels //= 2
            self._add(layers.Maxout(2))
        elif kind == "adaptive" and n > 1:
            out = int(self.rng.integers(max(1, n // 3), n))
            self.size = (out,) * len(self.size)
            adaptive = (layers.AdaptiveAvgPool, layers.AdaptiveMaxPool)[self.rng.integers(2)]
            self._add(adaptive(self.size))
        elif kind == "blur" and n > 2:
            self.size = tuple(-(-m // 2) for m in self.size)
            kernel = math.prod(self.size) * 3 ** len(self.size) * self.channels
            self.forward += kernel
            self.grouped += kernel
            self._add(layers.BlurPool())
        elif math.prod(found["window"]) > 1:
            self.size = ops.window_spec(self.size, **found).out
            if kind == "average":
                self._add(layers.AvgPool(count_padding=self.chance(0.5), **found))
            else:
                self._add(layers.MaxPool(**found))

    def _head(self) -> None:
        kind = self.rng.choice(["average", "max", "flatten", "hidden", "adaptive"])
        rank = len(self.size)
        if kind in ("average", "max"):
            self.size = ()
            self._add({"average": layers.GlobalAvgPool(), "max": layers.GlobalMaxPool()}[str(kind)])
        else:
            if kind == "adaptive":
                self.size = tuple(min(n, 3) for n in self.size)
                self._add(layers.AdaptiveAvgPool(self.size))
            self.channels *= math.prod(self.size)
            self.size = (1,) * rank
            self._add(layers.Flatten())
            if kind == "hidden":
                self._dense(_log_int(self.rng, 16, 256))
                self._add(layers.ReLU())
        self._dense(10)

    def _dense(self, features: int) -> None:
        weights = self.channels * features
        self.forward += weights
        self.parameters += weights
        self.channels = features
        self._add(layers.Dense(features, scale=1.0 if features == 10 else 2.0))
