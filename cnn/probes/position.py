"""What features encode about their position, and which inputs the central output depends on."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.probes.equivariance import ArrayFn


@jax.default_matmul_precision("highest")  # else the regression fits rounding errors
def position_leak(
    features: Float[Array, "batch *spatial c"],
    held_out: Float[Array, "more *spatial c"],
    ridge: float = 1e-4,
) -> Float[Array, ""]:
    """Return R² on `held_out` of a linear regression of position on `features`.

    1 if the features at a position determine it, 0 if they say nothing about it (below 0 if the
    fit is to noise). Ridge regression of the coordinates t on the features z at all positions,
    both with their means subtracted:

        W = (E[zzᵀ] + λ · E[|h|²]/c · I)⁻¹ E[ztᵀ]        R² = 1 − E|t − Wᵀz|² / E|t|²

    `ridge` is λ, relative to the power of the features h before their mean is subtracted, so that
    rounding errors of constant features are not fitted. The images must not reveal position
    themselves: constant or noise (Islam et al. 2020; Kayhan & van Gemert 2020).
    """
    if features.shape[1:] != held_out.shape[1:] or features[0, ..., 0].size < 2:
        raise InputError(
            f"features {features.shape} and held_out {held_out.shape} must have maps of the same "
            "size, of two positions or more"
        )
    spans = [jnp.linspace(-1.0, 1.0, n) for n in features.shape[1:-1] if n > 1]
    targets = jnp.stack(jnp.meshgrid(*spans, indexing="ij"), -1).reshape(-1, len(spans))

    def rows(h: Array) -> tuple[Array, Array]:
        return h.reshape(-1, h.shape[-1]), jnp.tile(targets, (len(h), 1))

    h, t = rows(features)
    mean = h.mean(0, keepdims=True)
    z = h - mean
    # `tiny` avoids a division by zero where all features are zero.
    floor = ridge * jnp.square(h).mean() + jnp.finfo(h.dtype).tiny
    covariance = z.T @ z / len(z) + floor * jnp.eye(z.shape[1], dtype=z.dtype)
    weights = jnp.linalg.solve(covariance, z.T @ t / len(z))
    h, t = rows(held_out)
    return 1 - jnp.square(t - (h - mean) @ weights).mean() / jnp.square(t).mean()


def effective_receptive_field(
    f: ArrayFn, x: Float[Array, "batch *spatial c"], power: float = 1.0
) -> Float[Array, "*spatial"]:
    """Return the mean absolute gradient of the central output at each position (Luo et al. 2016).

    E_x Σ_c |∂ Σ_o f(x)[centre, o] / ∂x[·, c]|^power, the mean over the inputs `x`. For independent
    random weights it is `power` 2 that adds up: the variances of n windows of size k have the sum
    n (k² − 1) / 12.
    """

    def central(x: Array) -> Array:
        y = f(x)
        return y[(slice(None), *(n // 2 for n in y.shape[1:-1]))].sum()

    return (jnp.abs(jax.grad(central)(x)) ** power).sum(-1).mean(0)
