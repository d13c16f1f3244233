"""The convolutions and poolings of a program, each as the layer of `cnn.layers` that it is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax import linen as nn
from jax.extend.core import ClosedJaxpr

from cnn.ablations.dataflow import Dataflow, Kernel, Pool, Use, read
from cnn.ablations.values import Key

Shape = tuple[int, ...]


class Site(NamedTuple):
    """A convolution or a pooling of a program. A convolution that runs several times is one."""

    name: str
    """The path of its kernel without the last part; of a pooling, its kind and number. The second
    one with the same name ends in "#2"."""
    layer: nn.Module
    shape: Shape
    """Of its input, `(*spatial, channels)`."""
    keys: tuple[Key, ...]
    """The equations that it is."""
    weights: tuple[int, ...] = ()
    """The parameters that its kernel, and nothing else, is computed from, the largest first."""
    axes: tuple[int, ...] = ()
    """The parameter's axis at each axis of `(*window, c_in, c_out)`; empty if it is computed."""
    through: str = ""
    """The first computation between the parameters and the kernel."""
    bias: int | None = None
    """The parameter that is added to the output, one number per channel."""
    additions: tuple[Key, ...] = ()
    """The equations that add the bias."""
    unclear_bias: str = ""
    """Why parameters that are added to the output are not its bias."""
    border: str = ""
    """The primitive that has padded its input, if one has."""
    divisor: np.ndarray | None = None
    """Of a mean: what the sum of each window is divided by."""
    refused: str = ""
    """Why it cannot be changed."""


def find_sites(
    program: ClosedJaxpr, names: Sequence[str], updates: Mapping[int, int]
) -> list[Site]:
    """Return the sites of a program, in the order in which they run.

    Args:
      program: Its first operands are the parameters, the others are data.
      names: The paths of the parameters.
      updates: The parameter, such as a running statistic, that an output is new for.
    """
    flow = read(program, len(names), updates)
    groups: dict[object, list[Kernel]] = {}
    for kernel in flow.kernels.values():
        groups.setdefault(kernel.value.leaves or kernel.key, []).append(kernel)
    sites = [_convolution(group, flow, names, i) for i, group in enumerate(groups.values())]
    for kind in {type(pool.layer) for pool in flow.pools}:
        pools = [pool for pool in flow.pools if type(pool.layer) is kind]
        sites += [_pool(pool, flow, f"{kind.__name__}_{i}") for i, pool in enumerate(pools)]
    taken: Counter[str] = Counter()
    for i, site in enumerate(sites := sorted(sites, key=lambda site: site.keys)):
        taken[site.name] += 1
        if taken[site.name] > 1:
            sites[i] = site._replace(name=f"{site.name}#{taken[site.name]}")
    return sites


def _pool(pool: Pool, flow: Dataflow, name: str) -> Site:
    refused = _inside(pool.inside)
    if pool.divisor is not None and flow.consumers[pool.key] > 1:
        refused = "the sum of its windows is also used undivided"
    keys = (pool.key,)
    return Site(name, pool.layer, pool.shape, keys, divisor=pool.divisor, refused=refused)


def _convolution(group: list[Kernel], flow: Dataflow, names: Sequence[str], number: int) -> Site:
    """Return the convolutions that have the same kernel as one site."""
    conv, value = group[0].convolution, group[0].value
    keys = tuple(kernel.key for kernel in group)
    others = {i: [use for use in flow.uses[i] if not _is_own(use, keys)] for i in value.leaves}
    by_size = sorted(value.leaves, key=lambda i: -flow.sizes[i])
    weights = [i for i in by_size if not others[i]]
    # Statistics of the kernel, which are new in every step, belong to it.
    updated = {use[1] for i in weights for use in flow.uses[i] if use[0] == "output"}
    weights += sorted(i for i in updated - set(weights) if isinstance(i, int))
    name = names[by_size[0]].rpartition("/")[0] if by_size else f"convolution_{number}"
    refused = _inside(next((k.inside for k in group if k.inside), "")) or conv.refused
    if value.data:
        refused = "its kernel depends on the input, or on random numbers"
    elif not weights:
        largest = by_size[0]
        refused = f"{names[largest]} is also used by {flow.uses[largest][others[largest][0]]}"
    elif any(kernel.convolution != conv for kernel in group):
        refused = f"{names[by_size[0]]} is the kernel of several convolutions that differ"
    site = Site(name, conv.layer, conv.shape, keys, tuple(weights), refused=refused)
    site = site._replace(border=next((k.border for k in group if k.border), ""))
    if isinstance(value.source, int):
        axes = [value.axes.index(a) if a in value.axes else -1 for a in conv.kernel_axes]
        if sorted(axes) == list(range(len(value.axes))):
            site = site._replace(axes=tuple(axes))
    return _with_bias(site._replace(through=value.through or "a reshape"), flow)


def _is_own(use: Use, keys: tuple[Key, ...]) -> bool:
    """Whether a parameter is used by one of the convolutions, or to update a statistic."""
    return use in keys or (use[0] == "output" and use[1] is not None)


def _with_bias(site: Site, flow: Dataflow) -> Site:
    """Return the site with the bias that is added to its outputs, if one is."""
    additions = [flow.additions[key] for key in site.keys if key in flow.additions]
    if not additions:
        return site
    keys, bias = tuple(addition.key for addition in additions), additions[0].bias
    if bias is None:
        return site._replace(unclear_bias=additions[0].unclear)
    if any(flow.consumers[key] > 1 for key in site.keys):
        return site._replace(unclear_bias="its output is also used without the bias")
    if len(keys) < len(site.keys) or {addition.bias for addition in additions} != {bias}:
        return site._replace(unclear_bias="its bias is not the same at all places where it runs")
    if other := [name for use, name in flow.uses[bias].items() if use not in keys]:
        return site._replace(unclear_bias=f"its bias is also used by {other[0]}")
    return site._replace(layer=site.layer.clone(use_bias=True), bias=bias, additions=keys)


def _inside(primitive: str) -> str:
    """Return why what is inside a `primitive` cannot be changed."""
    if primitive.startswith("custom"):
        return "it is inside a function with a derivative of its own"
    return f"it is inside a {primitive}" if primitive else ""
