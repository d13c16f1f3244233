"""Weights trained with PyTorch, as the variables of a model."""

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epy
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnn.errors import InputError
from cnn.layers import BatchNorm, Conv, Dense, Flatten, GroupNorm

with epy.lazy_imports():
    import safetensors.numpy

_Path = tuple[str, ...]

MAX_UNPACKED = 2**34
"""The most bytes that the packed arrays of a .npz file may have."""
_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def from_torch(
    model: nn.Module, state_dict: str | Path | Mapping[str, np.ndarray]
) -> dict[str, PyTree]:
    """Return variables of `model`, float32, with the weights of a torchvision `state_dict`.

    The layers of both are paired in the order in which they run. Convolutions are transposed from
    OIHW to HWIO, dense kernels as well, and the inputs of the one after `Flatten` are reordered
    from (c, h, w) to (h, w, c). Auxiliary heads are left out. torchvision's pretrained GoogLeNet
    rescales its input (`transform_input`); this does not.

    `model` is `alexnet`, a `vgg*`, `googlenet(torchvision_compatible=True)` or `resnet18`;
    `state_dict` a `.npz` or `.safetensors` file, or arrays by name. Raises `InputError` if a file
    cannot be read without executing code, or weights are missing, misshapen or unused.
    """
    arrays = _arrays(state_dict)
    layout = _layout(model, arrays)
    variables = {
        key: jnp.asarray(_channels_last(arrays[name], channels), jnp.float32)
        for name, (key, channels) in layout.items()
    }
    result: dict[str, PyTree] = unflatten_dict(variables)
    return result


def to_torch(
    model: nn.Module,
    variables: Mapping[str, PyTree],
    state_dict: str | Path | Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return a torchvision `state_dict` of `variables`, the inverse of `from_torch`.

    `state_dict` is one of the same network, `torchvision.models.vgg16().state_dict()` for example.
    Its names and dtypes are taken, and what `from_torch` leaves out is kept: auxiliary heads, and
    counts of batches. Raises `InputError` as `from_torch`, and if `variables` are not the model's.
    """
    arrays = _arrays(state_dict)
    flat = flatten_dict(dict(variables))
    filled = dict(arrays)
    for name, (key, channels) in _layout(model, arrays).items():
        shape = _channels_last(arrays[name], channels).shape
        if key not in flat or flat[key].shape != shape:
            found = flat[key].shape if key in flat else "nothing"
            raise InputError(f"variables must have {'/'.join(key)} of shape {shape}, got {found}")
        value = _channels_first(np.asarray(flat[key]), channels)
        filled[name] = value.astype(arrays[name].dtype)
    return filled


def _arrays(state_dict: str | Path | Mapping[str, Any]) -> dict[str, np.ndarray]:
    if isinstance(state_dict, str | Path):
        state_dict = _read(Path(state_dict))
    elif not isinstance(state_dict, Mapping):
        kind = type(state_dict).__name__
        raise InputError(f"state_dict must be a file or arrays by name, got a {kind}")
    return {key: _array(key, value) for key, value in state_dict.items()}


def _layout(
    model: nn.Module, arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[_Path, int | None]]:
    """Return the path in the variables of each array, and the channels of `_channels_last`."""
    torch_layers = _torch_layers(arrays)
    flax_layers, shapes = _flax_layers(model, _input_channels(torch_layers))
    if len(flax_layers) != len(torch_layers):
        raise InputError(
            f"state_dict has {len(torch_layers)} layers with weights but the model has "
            f"{len(flax_layers)}: build the model that the weights were saved from"
        )
    layout: dict[str, tuple[_Path, int | None]] = {}
    pairs = zip(torch_layers.items(), flax_layers.items(), strict=True)
    for (prefix, layer), (path, channels) in pairs:
        own = (key for key in shapes if key[1 : 1 + len(path)] == path)
        keys = {_TORCH_NAMES.get(key[-1], key[-1]): key for key in own}
        if layer.keys() != keys.keys():
            raise InputError(
                f"{prefix} in state_dict has {sorted(layer)} but {'/'.join(path)} in the model "
                f"needs {sorted(keys)}: build the model that the weights were saved from"
            )
        for name, key in sorted(keys.items(), reverse=True):  # weights before biases
            shape = _channels_last(layer[name], channels).shape
            if shape != shapes[key]:
                raise InputError(
                    f"{prefix}.{name} has shape {shape}, channels last, but {'/'.join(key)} "
                    f"needs {shapes[key]}: give the model the num_classes and width of the weights"
                )
            layout[f"{prefix}.{name}"] = key, channels
    if missing := shapes.keys() - {key for key, _ in layout.values()}:
        raise InputError(
            f"{'/'.join(min(missing))} has no counterpart in torchvision: leave that layer out"
        )
    return layout


def _array(name: object, value: Any) -> np.ndarray:
    """Return a value of a state_dict as an array. Raise `InputError` if it is not of numbers."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # uneven lists, tensors on a GPU or with gradient
        array = np.array(None)
    is_real = any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer))
    if not (is_real and isinstance(name, str) and name.isprintable()):
        raise InputError(
            "state_dict must hold arrays of real numbers under printable names, got "
            f"{type(value).__name__} under {name!r}: save arrays, as in "
            "{k: v.detach().cpu().numpy() for k, v in state_dict.items()}"
        )
    return array


def _channels_last(weight: np.ndarray, channels: int | None) -> np.ndarray:
    """Return (o, i, *window) as (*window, i, o), and (o, i) as (i, o).

    Where `channels` is given, i is (c, h, w) flattened, and becomes (h, w, c).
    """
    if weight.ndim == 2:
        out, flat = weight.shape
        c = channels if channels and flat % channels == 0 else flat
        return weight.reshape(out, c, flat // c if c else 0).transpose(2, 1, 0).reshape(flat, out)
    return np.moveaxis(weight, (1, 0), (-2, -1)) if weight.ndim > 2 else weight


def _channels_first(value: np.ndarray, channels: int | None) -> np.ndarray:
    """Return the inverse of `_channels_last`."""
    if value.ndim == 2:
        flat, out = value.shape
        c = channels if channels and flat % channels == 0 else flat
        return value.reshape(flat // c if c else 0, c, out).transpose(2, 1, 0).reshape(out, flat)
    return np.moveaxis(value, (-2, -1), (1, 0)) if value.ndim > 2 else value


def _flax_layers(
    model: nn.Module, c_in: int
) -> tuple[dict[_Path, int | None], dict[_Path, tuple[int, ...]]]:
    """Return the layers with weights in running order, and the shapes of all variables.

    The value of a layer is the number of channels before the `Flatten` in front of it, if there
    is one. The image is 224×224; the variables of these networks do not depend on its size.
    """
    layers: dict[_Path, int | None] = {}
    flattened: int | None = None

    def record(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        nonlocal flattened
        if isinstance(context.module, Flatten):
            flattened = args[0].shape[-1]
        if isinstance(context.module, Conv | Dense | BatchNorm | GroupNorm):
            layers[context.module.path], flattened = flattened, None
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        image = jax.ShapeDtypeStruct((1, 224, 224, c_in), jnp.float32)
        # A new function object, so that JAX does not reuse an earlier trace without `record`.
        variables = jax.eval_shape(lambda key, x: model.init(key, x), jax.random.key(0), image)
    return layers, {key: leaf.shape for key, leaf in flatten_dict(variables).items()}


def _torch_layers(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays by layer, in running order, whatever the order in the file."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(tensors, key=_running_order):
        prefix, _, last = name.rpartition(".")
        if not name.startswith("aux") and last != "num_batches_tracked":
            layers.setdefault(prefix, {})[last] = tensors[name]
    return layers


def _running_order(name: str) -> list[tuple[float, int, str]]:
    """Return the sort key of a torchvision name: its number, then what runs first under it."""
    words = ("features", "conv", "bn", "layer", "inception", "classifier", "fc")
    key = []
    # A downsampling shortcut runs before the body, as in `Residual`.
    for part in name.replace("downsample", "0").split(".")[:-1]:
        word, *number = re.split(r"(\d+)", part, maxsplit=1)  # "inception3a": inception, 3, a
        rank = words.index(word) if word in words else len(words)
        key.append((float(number[0]) if number else math.inf, rank, part))
    return key


def _input_channels(layers: dict[str, dict[str, np.ndarray]]) -> int:
    weight = next(iter(layers.values()), {}).get("weight")
    if weight is None or weight.ndim != 4 or weight.size == 0:
        raise InputError("state_dict must start with a convolution, under torchvision's names")
    return int(weight.shape[1])


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix not in (".npz", ".safetensors"):
        raise InputError(
            f"state_dict must be a .npz or .safetensors file, got {path}; a pickle is not read "
            "because that executes code: save with safetensors.torch.save_file(state_dict, "
            "'x.safetensors') or np.savez('x.npz', **{k: v.numpy() for k, v in state_dict.items()})"
        )
    try:
        if not path.is_file():
            raise InputError(f"state_dict {path} does not exist: give the path of a saved file")
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_npz(path)
    except InputError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"state_dict {path} is not readable: save it again ({reason})") from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        packed = [one for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
    size = sum(one.file_size for one in packed)  # no more is read, whatever the members hold
    if size > MAX_UNPACKED:
        raise InputError(
            f"state_dict {path} must unpack to at most {MAX_UNPACKED / 2**30:g} GiB, got "
            f"{size / 2**30:.3g} GiB: save it with np.savez, or as safetensors"
        )
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(path)
