"""Ablations: functions from model to model that change one inductive bias and nothing else.

They return a new model and can be composed. They apply to all layers of a suitable type, or to
those that `where` selects: a predicate `(name, layer) -> bool`, names, or numbers. A layer that
cannot be changed, such as a `SeparableConv` by `unshare`, raises `LayerError`, which gives the
reason.

A model of `cnn.layers` gives another one, with other layers. Any other Linen module gives an
`Ablated`: its convolutions and poolings are found in what it computes, and the chosen ones are
exchanged there. `ablate` does the same for functions: NNX, Equinox, Haiku. `list_layers` names what
was found.

`lift` moves trained weights to a model with less bias that computes the same; `project` goes back.
"""

from cnn.ablations.ablated import Ablated, list_layers
from cnn.ablations.attention import attend
from cnn.ablations.budget import Match, match
from cnn.ablations.factorize import bottleneck, factorize, group, separate
from cnn.ablations.functions import AblatedFunction, ablate
from cnn.ablations.lifts import lift, project
from cnn.ablations.locality import densify, localize
from cnn.ablations.permute import permute_input
from cnn.ablations.pooling import Pooling, pool_window, repool
from cnn.ablations.rewrite import Where
from cnn.ablations.sharing import share, tile, unshare
from cnn.ablations.symmetry import desymmetrize, symmetrize
from cnn.ablations.windows import dilate, repad, rewindow

__all__ = [
    "Ablated",
    "AblatedFunction",
    "Match",
    "Pooling",
    "Where",
    "ablate",
    "attend",
    "bottleneck",
    "densify",
    "desymmetrize",
    "dilate",
    "factorize",
    "group",
    "lift",
    "list_layers",
    "localize",
    "match",
    "permute_input",
    "pool_window",
    "project",
    "repad",
    "repool",
    "rewindow",
    "separate",
    "share",
    "symmetrize",
    "tile",
    "unshare",
]
