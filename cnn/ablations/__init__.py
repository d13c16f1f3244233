"""Ablations: functions from model value to model value that change one bias and keep all else.

They compose, leave their argument as it is, and apply to all layers that can be meant or to those
that `where` chooses: by a predicate `(name, layer) -> bool`, or by names.

    sharing         unshare, tile, share
    locality        densify, localize, rewindow, dilate
    factorisation   separate, group, factorize, bottleneck
    border          repad
    pooling         repool, pool_window
    order           permute_input
    budget          match

`lift` carries trained weights to a model with less bias whose function is the same; `project` goes
back.
"""

from cnn.ablations.budget import Match, match
from cnn.ablations.factorize import bottleneck, factorize, group, separate
from cnn.ablations.lifts import lift, project
from cnn.ablations.locality import densify, localize
from cnn.ablations.permute import permute_input
from cnn.ablations.pooling import Pooling, pool_window, repool
from cnn.ablations.rewrite import Where
from cnn.ablations.sharing import share, tile, unshare
from cnn.ablations.windows import dilate, repad, rewindow

__all__ = [
    "Match",
    "Pooling",
    "Where",
    "bottleneck",
    "densify",
    "dilate",
    "factorize",
    "group",
    "lift",
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
    "tile",
    "unshare",
]
