"""CIFAR-10 in ten passes over its images, and any network of `cnn.models` by the same recipe.

    python -m experiments.cifar10 --data-dir ~/data --out runs/cifar10
    python -m experiments.cifar10 --data-dir ~/data --precision bfloat16    # on a GPU
    python -m experiments.cifar10 --data-dir ~/data --model resnet18

The network of airbench94 (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"), with
those of its ideas that save most passes: the first kernel is not learned but whitens what 2×2
windows see, shifts after a normalisation learn 64 times as fast as other weights, and an image is
judged together with its mirror image.

Measured on a JPEG copy of CIFAR-10 (quality 75, half the resolution in colour), which has lost what
the published figures rest on: 89.23 % of the test images and 96.06 % of the training images (seed
0, float32, ten passes in 4,194 s on two shared CPU cores, for a third of the time beside other
work; quiet, a step of 512 images takes 2.9 s). Not measured: the original pixels, and a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etils import epy

from cnn.errors import unknown_name
from experiments import train
from experiments.harness import cli

with epy.lazy_imports():
    import numpy as np

    from cnn import models
    from cnn.models import airbench

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset

OWN = "airbench"
SAMPLE = 2000
"""Training images from which the whitening is computed."""


@dataclass(frozen=True, kw_only=True)
class Flags(train.Flags):
    """As for `experiments.train`; the defaults are for CIFAR-10."""

    model: str = OWN
    """Network: airbench, which is described above, or a function of cnn.models."""
    data: str = "cifar10"
    """Data set: images of 16×16 or larger."""
    steps: int = 980
    """Optimizer steps: ten passes over 50,000 images."""
    batch_size: int = 512
    """Examples per step, over all devices together."""
    optimizer: Literal["adamw", "sgd", "adadelta", "beta-lasso"] = "sgd"
    """Adam, SGD with Nesterov momentum 0.9, Adadelta, or β-LASSO."""
    lr: float = 0.5
    """Learning rate, the largest one of the schedule."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "one-cycle"
    """Learning rate over the steps."""
    weight_decay: float = 1e-3
    """Decay of the kernels towards zero; biases and normalisation are left alone."""
    label_smoothing: float = 0.2
    """Share of the target spread evenly over all classes."""
    augment: tuple[Literal["crop", "flip", "shift", "cutout"], ...] = ("crop", "flip")
    """Random changes of the training examples, in this order."""


def network(data: Dataset) -> nn.Module:
    """Return the network for these images, its whitening computed from some of them."""
    some = data.train.x[np.arange(min(SAMPLE, len(data.train)))]
    return airbench.airbench(airbench.whitening(some), data.num_classes)


def main(flags: Flags) -> None:
    """Train, print the result and write the run folder."""
    if flags.model not in (known := (OWN, *models.names())):
        raise unknown_name("model", flags.model, known)
    train.main(flags, network if flags.model == OWN else None)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
