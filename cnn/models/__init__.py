"""Named networks: each a function that returns a module."""

from collections.abc import Callable

from flax import linen as nn

from cnn.errors import unknown_name
from cnn.models.alexnet import alexnet
from cnn.models.from_torch import from_torch
from cnn.models.inception import googlenet, small_inception
from cnn.models.papers import d_conv, full_conv, s_conv
from cnn.models.resnet import resnet18
from cnn.models.separable import mobilenet_v1, separable_net, xception
from cnn.models.small import cnn1d, lecture_cnn, lenet5, logistic, mlp
from cnn.models.vgg import small_vgg, vgg11, vgg13, vgg16, vgg19

__all__ = [
    "alexnet",
    "by_name",
    "cnn1d",
    "d_conv",
    "from_torch",
    "full_conv",
    "googlenet",
    "lecture_cnn",
    "lenet5",
    "logistic",
    "mlp",
    "mobilenet_v1",
    "names",
    "resnet18",
    "s_conv",
    "separable_net",
    "small_inception",
    "small_vgg",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "xception",
]


def names() -> list[str]:
    """Return the names of all networks."""
    return sorted(set(__all__) - {"by_name", "from_torch", "names"})


def by_name(name: str) -> Callable[..., nn.Module]:
    """Return the network function called `name`, or raise `InputError` with the nearest names."""
    if name not in names():
        raise unknown_name("model", name, names())
    function: Callable[..., nn.Module] = globals()[name]
    return function
