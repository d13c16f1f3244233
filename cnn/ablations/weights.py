"""Where the parameters of a changed convolution are: in the place of those of the original.

- A kernel for each position has the positions in front. The parameter keeps its own axes behind
  them, and what is computed from it is computed at each position.
- A kernel of another shape replaces the parameter, in its own order of axes. Nothing but moves and
  casts may then stand between the parameter and the convolution.
- `DenseSpatial` has its own order, and several kernels become a dictionary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from cnn.ablations.sites import Site
from cnn.errors import InputError
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial, PositionalAttention
from cnn.layers.tree import join_path, leaf_layers
from cnn.ops import resolve_padding

Shape = tuple[int, ...]


class Weights(NamedTuple):
    """The parameters of a site whose layer was exchanged for `layer`."""

    site: Site
    layer: nn.Module
    params: dict[str, jax.ShapeDtypeStruct]
    """The shapes of the layer's parameters, by path."""
    positions: Shape
    """The leading axes of its kernel that count positions."""
    stacked: bool
    """Whether the parameters keep their shapes behind the positions."""
    bias: str
    """The path of its bias."""

    @property
    def replaced(self) -> list[int]:
        """The parameters that the program does not get: the layer takes them in."""
        kernel = () if self.stacked else self.site.weights
        return [*kernel, *(() if self.site.bias is None else (self.site.bias,))]

    def pack(self, params: Mapping[str, Array], leaves: Sequence[Any]) -> dict[int, Any]:
        """Return the network's parameters from the layer's; `leaves` are the original ones.

        A kernel that is stacked is not among them.
        """
        kernels = {path: value for path, value in params.items() if path != self.bias}
        packed: dict[int, Any] = {}
        if not self.stacked and kernels:
            (leaf,) = self.site.weights
            if isinstance(self.layer, Conv | ConvTiled | ConvLocal):
                axes, count = self.site.axes, len(self.positions)
                order = (count + axes.index(a) for a in range(len(axes)))
                packed[leaf] = jnp.transpose(kernels["kernel"], (*range(count), *order))
            elif isinstance(self.layer, ConvBase) and kernels.keys() == {"kernel"}:
                packed[leaf] = kernels["kernel"]
            else:
                packed[leaf] = unflatten_dict(kernels, sep="/")
        if self.site.bias is not None and self.bias in params:
            bias, own = params[self.bias], leaves[self.site.bias].shape
            packed[self.site.bias] = jnp.reshape(bias, (*bias.shape[:-1], *own))
        return packed

    def unpack(self, leaves: Sequence[Any]) -> dict[str, Array]:
        """Return the layer's parameters from the network's, without a kernel that is stacked."""
        params: dict[str, Array] = {}
        if not self.stacked:
            value = leaves[self.site.weights[0]]
            if isinstance(self.layer, Conv | ConvTiled | ConvLocal):
                count = len(self.positions)
                order = (count + axis for axis in self.site.axes)
                params["kernel"] = jnp.transpose(value, (*range(count), *order))
            else:
                kernels = value if isinstance(value, dict) else {"kernel": value}
                params |= flatten_dict(kernels, sep="/")
        if self.site.bias is not None:
            params[self.bias] = leaves[self.site.bias].reshape(self.params[self.bias].shape)
        return params


def find_weights(site: Site, layer: nn.Module) -> Weights:
    """Return where the parameters of `layer` are in the place of a site.

    Raises `InputError` where the layer does not fit.
    """
    if site.refused:
        raise InputError(f"{site.refused}, and cannot be changed: leave it out by `where`")
    x = jax.ShapeDtypeStruct((1, *site.shape), jnp.float32)
    old, made_before = jax.eval_shape(site.layer.init_with_output, jax.random.key(0), x)
    y, made = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    if y.shape != old.shape:
        raise InputError(
            f"the output must keep its shape {old.shape[1:]}, got {y.shape[1:]}: the rest of the "
            "network was made for it"
        )
    if site.border and _sees_border(site, layer):
        raise InputError(
            f"its input is padded by {site.border} before the convolution, and this ablation would "
            "change what is beyond the border"
        )
    params = flatten_dict(made.get("params", {}), sep="/")
    convs = [name for name, part in leaf_layers(layer).items() if isinstance(part, ConvBase)]
    bias = join_path(convs[-1], "bias") if convs else ""
    positions: Shape = ()
    if isinstance(layer, ConvBase):
        positions = layer.positions(site.shape[:-1])
        if site.unclear_bias and positions and not getattr(layer, "tied_bias", False):
            remedy = "" if isinstance(layer, DenseSpatial) else ": pass bias='tied'"
            raise InputError(f"{site.unclear_bias}, and cannot get positions{remedy}")
    if stacked := isinstance(layer, Conv | ConvTiled | ConvLocal):
        own = made_before["params"]["kernel"].shape
        stacked = params["kernel"].shape == (*positions, *own)
    stacked = stacked or not convs  # a pooling has no kernel
    if not stacked and not (site.axes and len(site.weights) == 1):
        raise InputError(
            f"its kernel passes through {site.through} before the convolution, and cannot have "
            "another shape"
        )
    return Weights(site, layer, params, positions, stacked, bias)


def _sees_border(site: Site, layer: nn.Module) -> bool:
    """Whether `layer` depends on what is beyond the border in another way than that of the site."""
    convs = [part for part in leaf_layers(layer).values() if isinstance(part, ConvBase)]
    sees_all = (DenseSpatial, PositionalAttention)
    if any(isinstance(c, sees_all) or c.padding_mode != "zeros" for c in convs):
        return True
    old, new = (
        np.array(resolve_padding(c.padding, site.shape[:-1], c.window, c.strides, c.dilation))
        for c in (site.layer, convs[0])
        if isinstance(c, ConvBase)
    )
    return site.border != "pad" and bool(np.any(new > old))
