"""What features tell about where they are, and where they look."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.probes.equivariance import Map


@jax.default_matmul_precision("highest")  # a read-out of rounding errors is none
def position_leak(
    features: Float[Array, "batch *spatial c"],
    held_out: Float[Array, "more *spatial c"],
    ridge: float = 1e-4,
) -> Float[Array, ""]:
    """Return R² on `held_out` features of a linear read-out of position, fitted on `features`.

    1: the features at a position tell where it is, 0: they tell nothing (below 0 where the fit is
    to chance). Take features of images that do not tell themselves: constant, or noise (Islam et
    al. 2020; Kayhan & van Gemert 2020). The read-out W is ridge regression of the coordinates t on
    the features z at all positions, both without their means:

        W = (E[zzᵀ] + λ · E[|h|²]/c · I)⁻¹ E[ztᵀ]        R² = 1 − E|t − Wᵀz|² / E|t|²

    λ, the `ridge`, is relative to the power of the features h with their mean: rounding errors of
    features that are the same everywhere are not read. Coordinates span the same range per axis.
    Raises `InputError` if the maps differ, or have one position only.
    """
    if features.shape[1:] != held_out.shape[1:] or features[0, ..., 0].size < 2:
        raise InputError(
            f"features {features.shape} and held_out {held_out.shape} need the same maps, of two "
            "positions or more"
        )
    spans = [jnp.linspace(-1.0, 1.0, n) for n in features.shape[1:-1] if n > 1]
    targets = jnp.stack(jnp.meshgrid(*spans, indexing="ij"), -1).reshape(-1, len(spans))

    def rows(h: Array) -> tuple[Array, Array]:
        return h.reshape(-1, h.shape[-1]), jnp.tile(targets, (len(h), 1))

    h, t = rows(features)
    mean = h.mean(0, keepdims=True)
    z = h - mean
    # The smallest number keeps features that are all zero from dividing by zero.
    floor = ridge * jnp.square(h).mean() + jnp.finfo(h.dtype).tiny
    covariance = z.T @ z / len(z) + floor * jnp.eye(z.shape[1], dtype=z.dtype)
    readout = jnp.linalg.solve(covariance, z.T @ t / len(z))
    h, t = rows(held_out)
    return 1 - jnp.square(t - (h - mean) @ readout).mean() / jnp.square(t).mean()


def effective_receptive_field(
    f: Map, x: Float[Array, "batch *spatial c"]
) -> Float[Array, "*spatial"]:
    """Return how strongly each input position moves the central output (Luo et al. 2016).

    E_x Σ_c |∂ Σ_o f(x)[centre, o] / ∂x[·, c]|, the mean over the inputs `x`.
    """

    def central(x: Array) -> Array:
        y = f(x)
        return y[(slice(None), *(n // 2 for n in y.shape[1:-1]))].sum()

    return jnp.abs(jax.grad(central)(x)).sum(-1).mean(0)
