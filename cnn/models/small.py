"""The small networks that a course begins with."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Conv, Dense, Flatten, MaxPool, ReLU


def logistic(num_classes: int = 10) -> Chain:
    """Multinomial logistic regression: no hidden layer, no bias about space at all."""
    return Chain((Flatten(), Dense(num_classes, scale=1.0)))


def mlp(num_classes: int = 10, features: Sequence[int] = (100, 100)) -> Chain:
    """Fully connected network with ReLU.

    The default is the one of MNIST-1D (Greydanus & Kobak 2024): 15,210 parameters on 40 inputs.
    """
    hidden = [layer for width in features for layer in (Dense(width), ReLU())]
    return Chain((Flatten(), *hidden, Dense(num_classes, scale=1.0)))


def cnn1d(
    num_classes: int = 10, channels: int = 25, layer: type[nn.Module] = Conv, **fields: object
) -> Chain:
    """Three layers with windows 5, 3, 3, stride 2 and padding 1, then a dense head.

    The convolutional network of MNIST-1D (Greydanus & Kobak 2024): 5,210 parameters on 40×1.
    `layer`, with `fields` of its own, is what stands at the three places: the one knob that turns
    this network into its tiled, local or dense counterpart with nothing else changed.
    """
    hidden = [
        part
        for window in (5, 3, 3)
        for part in (layer(channels, (window,), strides=2, padding=1, **fields), ReLU())
    ]
    return Chain((*hidden, Flatten(), Dense(num_classes, scale=1.0)))


def lecture_cnn(
    num_classes: int = 10, channels: Sequence[int] = (16, 32), hidden: int = 512
) -> Chain:
    """Two blocks of 5×5 convolution without padding, ReLU and 2×2 max-pooling, then two dense.

    281,034 parameters on 28×28×1.
    """
    blocks = [part for width in channels for part in (Conv(width, (5, 5)), ReLU(), MaxPool((2, 2)))]
    return Chain((*blocks, Flatten(), Dense(hidden), ReLU(), Dense(num_classes, scale=1.0)))


def lenet5(
    num_classes: int = 10,
    channels: Sequence[int] = (6, 16),
    hidden: Sequence[int] = (120, 84),
    activation: nn.Module = ReLU(),  # noqa: B008 - a layer is an immutable value
    pool: nn.Module = MaxPool((2, 2)),  # noqa: B008
) -> Chain:
    """LeNet-5 (LeCun et al. 1998), full connections between the maps: 61,706 on 28×28×1.

    ReLU and max-pooling as it is trained today; `activation=Tanh(), pool=AvgPool((2, 2))` is
    nearer to the original.
    """
    first, second = channels
    dense = [part for width in hidden for part in (Dense(width), activation)]
    return Chain(
        (
            Conv(first, (5, 5), padding=2),
            activation,
            pool,
            Conv(second, (5, 5)),
            activation,
            pool,
            Flatten(),
            *dense,
            Dense(num_classes, scale=1.0),
        )
    )
