"""A model with its weights in one safetensors file, and its value in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from cnn.errors import InputError
from cnn.layers.combinators import train_argument
from cnn.layers.serialization import differences, from_spec, to_spec
from cnn.models.from_torch import from_torch, to_torch

SUFFIX = ".safetensors"


def save(
    path: str | Path,
    model: nn.Module,
    variables: Mapping[str, PyTree],
    input_shape: Sequence[int],
    state_dict: Mapping[str, Any] | None = None,
) -> None:
    """Write a model and its variables to a `.safetensors` file, whole or not at all.

    Arrays are named as their paths, "params/layers_0/kernel". The metadata hold the model's value
    (`cnn.layers.serialization.to_spec`) and the shape of one example as JSON.

    Args:
        path: The file; one that exists is replaced.
        model: The model.
        variables: Its variables.
        input_shape: Shape of one example, `(*spatial, channels)`.
        state_dict: A torchvision `state_dict` of the same network, whose names and layout the
            arrays get (`to_torch`), for PyTorch to load.

    Raises:
        InputError: If the file has another suffix, the variables are not the model's, or it cannot
            be written.
    """
    path = Path(path).expanduser()
    if path.suffix != SUFFIX:
        raise InputError(f"path must end in {SUFFIX}, got {str(path)!r}")
    arrays = {
        "/".join(key): np.ascontiguousarray(leaf)
        for key, leaf in flatten_dict(dict(variables)).items()
    }
    _check(model, arrays, input_shape)
    metadata = {"model": json.dumps(to_spec(model)), "input_shape": json.dumps([*input_shape])}
    if state_dict is not None:
        named = to_torch(model, variables, state_dict)
        arrays = {name: np.ascontiguousarray(array) for name, array in named.items()}
        metadata["names"] = "torchvision"
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(safetensors.numpy.save(arrays, metadata))
        part.replace(path)
    except OSError as error:
        raise InputError(f"path {str(path)!r} cannot be written ({error.strerror})") from error


def load(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, dict[str, PyTree]]:
    """Return the model and the variables of a file that `save` or `Run.export` wrote.

    Args:
        path: The file.
        model: The model, where its class is not one of `cnn.layers`: the file holds only names, and
            no code that it names is imported.

    Raises:
        InputError: If the file is damaged or holds no model, or the model is another one.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in [*file.keys()]}
        spec, shape = (json.loads(metadata[key]) for key in ("model", "input_shape"))
    except Exception as error:  # a damaged file can raise almost anything
        line = " ".join(str(error).split())[:200]
        raise InputError(f"path {str(path)!r} holds no model: {line}") from error
    if model is None:
        model = from_spec(spec)
    elif other := differences(spec, to_spec(model)):
        raise InputError(f"model must be that of {str(path)!r}: {'; '.join(other[:3])}")
    if metadata.get("names") == "torchvision":
        return model, from_torch(model, arrays)
    _check(model, arrays, shape)
    nested = unflatten_dict({tuple(name.split("/")): jnp.asarray(a) for name, a in arrays.items()})
    return model, nested


def _check(model: nn.Module, arrays: Mapping[str, np.ndarray], input_shape: Any) -> None:
    """Raise `InputError` unless the arrays have the names and shapes of the model's variables."""
    fits = isinstance(input_shape, Sequence) and all(type(n) is int and n > 0 for n in input_shape)
    if not fits or len(input_shape) < 2:
        raise InputError(f"input_shape must be (*spatial, channels), got {input_shape!r}")
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)

    def init(x: jax.Array) -> PyTree:
        return model.init(jax.random.key(0), x, **train_argument(model, False))

    wanted = {"/".join(k): leaf.shape for k, leaf in flatten_dict(jax.eval_shape(init, x)).items()}
    for name in sorted({*wanted, *arrays}):
        found = arrays[name].shape if name in arrays else None
        if wanted.get(name) != found:
            raise InputError(
                f"{name} must have shape {wanted.get(name)} in this model, got {found}: give the "
                "variables of this model on inputs of this shape"
            )
