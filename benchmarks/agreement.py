"""Whether a network here and its twin in PyTorch compute the same.

    python -m benchmarks.agreement --network random-1-0

Both get the same random weights and the same batch, in training mode. Prints one line of JSON: the
relative difference of the logits, of the loss's gradient by the input, and of the norms of its
gradients by each weight. A difference is the norm of the difference, by the norm.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass

from etils import epy

from benchmarks.random_draw import Network, by_name
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    import torch

    from benchmarks import steps, torch_twin

LOGITS, GRADIENTS = 1e-3, 2e-2
"""The largest differences of twins. A few values close to 0 in a ReLU differ in sign, and the
gradient with them."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The network."""

    network: str
    """Network by name; random-SEED-INDEX is a drawn one."""


def differences(network: Network) -> dict[str, float]:
    """Return the relative differences of logits, input gradient and norms of weight gradients."""
    model = network.build()
    x, y = steps.random_batch(network)
    variables = _random(jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x[:2]))

    def loss(params, x):  # type: ignore[no-untyped-def]
        tree = {**variables, "params": params}
        logits, _ = model.apply(tree, x, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

    ours, (weights, inputs) = jax.jit(
        lambda p, x: (loss(p, x)[1], jax.grad(lambda *a: loss(*a)[0], argnums=(0, 1))(p, x))
    )(variables["params"], x)
    *size, c_in = network.shape
    twin = torch_twin.in_torch(model, size, c_in, variables)
    images = torch.tensor(np.moveaxis(x, -1, 1)).contiguous().requires_grad_()
    theirs = twin(images)
    torch.nn.functional.cross_entropy(theirs, torch.tensor(y).long()).backward()
    norms = [float(jnp.linalg.norm(g)) for g in jax.tree.leaves(weights)]
    norms_there = [float(p.grad.norm()) for p in twin.parameters()]
    return {
        "logits": _difference(ours, theirs.detach().numpy()),
        "input": _difference(inputs, np.moveaxis(images.grad.numpy(), 1, -1)),
        "weights": _difference(np.sort(norms), np.sort(norms_there)),
    }


def _random(shapes):  # type: ignore[no-untyped-def]
    """Return random variables: no bias is 0, no scale or variance 1."""
    rng = np.random.default_rng(0)

    def one(path, leaf):  # type: ignore[no-untyped-def]
        noise = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key in ("scale", "var"):
            return 1 + 0.1 * np.abs(noise)
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 100
        return noise * np.float32((2 / fan_in) ** 0.5)

    return jax.tree_util.tree_map_with_path(one, shapes)


def _difference(a: object, b: object) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def agree(found: dict[str, float]) -> bool:
    """Return whether all differences are within the bounds for rounding."""
    return found["logits"] <= LOGITS and max(found["input"], found["weights"]) <= GRADIENTS


def main(flags: Flags) -> None:
    """Compare, and print the differences."""
    network = by_name(flags.network)
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is not installed: run make install EXTRA=torch")
    print(json.dumps(differences(network)))


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
