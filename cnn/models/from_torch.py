"""Weights trained with PyTorch, as the variables of a model."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnn.errors import InputError
from cnn.layers import BatchNorm, Conv, Dense, Flatten, GroupNorm

_Path = tuple[str, ...]

_TORCH_NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def from_torch(
    model: nn.Module, state_dict: str | Path | Mapping[str, np.ndarray]
) -> dict[str, PyTree]:
    """Return variables of `model`, float32, with the weights of a torchvision-style `state_dict`.

    `model` is `alexnet`, a `vgg*`, `googlenet(torchvision_compatible=True)` or `resnet18`; the
    weights are a `.npz` or `.safetensors` file, or arrays by name. Both sides are listed in the
    order in which their layers run and paired in this order. Convolutions turn from OIHW to HWIO,
    dense kernels are transposed, and the inputs of the one behind `Flatten` are reordered from
    (c, h, w) to (h, w, c). Auxiliary heads are left out.

    torchvision's pretrained GoogLeNet first rescales its input (`transform_input`): this is for the
    data to do and not done here.

    Raises `InputError` for a file that cannot be read without executing it, and for the first name
    whose weights are missing, of another shape, or of no use to the model.
    """
    tensors = state_dict if isinstance(state_dict, Mapping) else _read(Path(state_dict))
    theirs = _their_layers(tensors)
    ours, shapes = _our_layers(model, _input_channels(theirs))
    if len(ours) != len(theirs):
        raise InputError(
            f"state_dict has {len(theirs)} layers with weights and the model {len(ours)}: build "
            "the model that the weights were saved from"
        )
    variables: dict[_Path, jax.Array] = {}
    for (prefix, layer), (path, channels) in zip(theirs.items(), ours.items(), strict=True):
        keys = {_TORCH_NAMES[key[-1]]: key for key in shapes if key[1 : 1 + len(path)] == path}
        if layer.keys() != keys.keys():
            raise InputError(
                f"{prefix} in state_dict has {sorted(layer)} but {'/'.join(path)} in the model "
                f"needs {sorted(keys)}: build the model that the weights were saved from"
            )
        for name, key in sorted(keys.items(), reverse=True):  # weights before biases
            value = _channels_last(layer[name], channels)
            if value.shape != shapes[key]:
                raise InputError(
                    f"{prefix}.{name} has shape {value.shape}, channels last, but {'/'.join(key)} "
                    f"needs {shapes[key]}: give the model num_classes and width of the weights"
                )
            variables[key] = jnp.asarray(value, jnp.float32)
    if missing := shapes.keys() - variables.keys():
        raise InputError(
            f"{'/'.join(min(missing))} has no counterpart in torchvision: leave that layer out"
        )
    result: dict[str, PyTree] = unflatten_dict(variables)
    return result


def _channels_last(weight: np.ndarray, channels: int | None) -> np.ndarray:
    """(o, i, *window) to (*window, i, o); (o, i) to (i, o), where i may be (c, h, w) flattened."""
    if weight.ndim == 2:
        out, flat = weight.shape
        c = channels if channels and flat % channels == 0 else flat
        return weight.reshape(out, c, flat // c).transpose(2, 1, 0).reshape(flat, out)
    return np.moveaxis(weight, (1, 0), (-2, -1)) if weight.ndim > 2 else weight


def _our_layers(
    model: nn.Module, c_in: int
) -> tuple[dict[_Path, int | None], dict[_Path, tuple[int, ...]]]:
    """Return the layers with weights as they run, and the shapes of all variables.

    A layer's value is the number of channels that `Flatten` hid in its input, if it did. The image
    is 224×224, as published: what these networks hold does not depend on its size.
    """
    layers: dict[_Path, int | None] = {}
    hidden: int | None = None

    def record(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        nonlocal hidden
        if isinstance(context.module, Flatten):
            hidden = args[0].shape[-1]
        if isinstance(context.module, Conv | Dense | BatchNorm | GroupNorm):
            layers[context.module.path], hidden = hidden, None
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        image = jax.ShapeDtypeStruct((1, 224, 224, c_in), jnp.float32)
        # A function of its own, for which no earlier trace can stand in.
        variables = jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), image)
    return layers, {key: leaf.shape for key, leaf in flatten_dict(variables).items()}


def _their_layers(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays by layer, and the layers as they run, in whatever order they were saved."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(tensors, key=_running_order):
        prefix, _, last = name.rpartition(".")
        if not name.startswith("aux") and last != "num_batches_tracked":
            layers.setdefault(prefix, {})[last] = np.asarray(tensors[name])
    return layers


def _running_order(name: str) -> list[tuple[float, int, str]]:
    """Sort key of a torchvision name: by number, then by what runs first under one number."""
    words = ("features", "conv", "bn", "layer", "inception", "classifier", "fc")
    key = []
    # A downsampling shortcut runs before the body that it goes around, as in our `Residual`.
    for part in name.replace("downsample", "0").split(".")[:-1]:
        word, *number = re.split(r"(\d+)", part, maxsplit=1)  # "inception3a": inception, 3, a
        rank = words.index(word) if word in words else len(words)
        key.append((float(number[0]) if number else math.inf, rank, part))
    return key


def _input_channels(layers: dict[str, dict[str, np.ndarray]]) -> int:
    weight = next(iter(layers.values()), {}).get("weight")
    if weight is None or weight.ndim != 4:
        raise InputError("state_dict begins with no convolution: give one in torchvision's names")
    return int(weight.shape[1])


def _read(path: Path) -> dict[str, np.ndarray]:
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise InputError(
            f"state_dict {path} is neither .npz nor .safetensors, and a pickle is not read because "
            "that executes it: save with safetensors.torch.save_file(state_dict, 'x.safetensors') "
            "or np.savez('x.npz', **{k: v.numpy() for k, v in state_dict.items()})"
        )
    if not path.is_file():
        raise InputError(f"state_dict {path} does not exist: give the path of a saved file")
    return readers[path.suffix](path)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"state_dict {path} is no readable .npz: save it anew ({error})") from None


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise InputError(
            f"state_dict {path} needs a package to be read: pip install safetensors, or save a .npz"
        ) from None
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"state_dict {path} is no readable .safetensors: save it anew ({error})"
        ) from None
