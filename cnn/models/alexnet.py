"""AlexNet."""

from cnn.layers import AdaptiveAvgPool, Chain, Dense, Dropout, Flatten, MaxPool, Norm, ReLU
from cnn.models.blocks import conv_norm, scale_channels


def alexnet(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """Return AlexNet with one tower (Krizhevsky 2014, "One weird trick", section 3; torchvision).

    For 224×224×3, at least 63×63; 61,100,840 parameters. Max-pooling overlaps: 3×3, stride 2.
    """
    pool = MaxPool((3, 3), strides=2)
    c1, c2, c3, c4, c5 = (scale_channels(c, width) for c in (64, 192, 384, 256, 256))
    hidden = scale_channels(4096, width)
    return Chain(
        (
            *(*conv_norm(c1, 11, 4, padding=2, norm=norm), ReLU(), pool),
            *(*conv_norm(c2, 5, norm=norm), ReLU(), pool),
            *(*conv_norm(c3, 3, norm=norm), ReLU()),
            *(*conv_norm(c4, 3, norm=norm), ReLU()),
            *(*conv_norm(c5, 3, norm=norm), ReLU(), pool),
            AdaptiveAvgPool((6, 6)),
            Flatten(),
            *(Dropout(dropout), Dense(hidden), ReLU()),
            *(Dropout(dropout), Dense(hidden), ReLU()),
            Dense(num_classes, scale=1.0),
        )
    )
