"""How an implementation is selected, with an implementation and a condition of the test."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.ops import implementations

X = jnp.arange(4.0).reshape(1, 4, 1)


@pytest.fixture(autouse=True)
def fake_max_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace each table by a row: max-pooling by windows of 2 gives -1 on a CPU, -2 on a GPU."""
    row = (lambda x, spec: jnp.full((1, *spec.out, 1), -1.0), lambda x, spec: spec.window == (2,))
    monkeypatch.setattr(implementations, "TABLE", {"max_pool": (row,)})
    on_gpu = (lambda x, spec: jnp.full((1, *spec.out, 1), -2, x.dtype), row[1])
    monkeypatch.setattr(implementations, "GPU_TABLE", {"max_pool": (on_gpu,)})
    monkeypatch.delenv("CNN_IMPLEMENTATION", raising=False)


def pooled(window: int = 2, x: jax.Array = X) -> list[float]:
    return ops.max_pool(x, window).ravel().tolist()


def test_the_condition_decides() -> None:
    assert pooled(2) == [-1, -1]
    assert pooled(4) == [3]


def test_an_operation_that_the_table_lacks_uses_the_definition() -> None:
    assert ops.conv(X, jnp.ones((4, 1, 1))).ravel().tolist() == [6]


def test_bfloat16_uses_the_definition() -> None:
    assert pooled(2, X.astype(jnp.bfloat16)) == [1, 3]


@pytest.mark.parametrize(
    ("platform", "dtype", "text"),
    [
        ("cpu", jnp.float32, "dense<-1.000000e+00>"),
        ("cuda", jnp.bfloat16, "dense<-2.000000e+00>"),
        ("cuda", jnp.float32, "reduce_window"),
        ("tpu", jnp.bfloat16, "reduce_window"),
    ],
)
def test_the_platform_selects(platform: str, dtype: jnp.dtype, text: str) -> None:
    traced = jax.jit(lambda x: ops.max_pool(x, 2)).trace(X.astype(dtype))
    assert text in traced.lower(lowering_platforms=(platform,)).as_text()


def test_the_context_selects_and_a_compiled_function_notices() -> None:
    pool = jax.jit(lambda x: ops.max_pool(x, 2))
    assert pool(X).ravel().tolist() == [-1, -1]
    with implementations.use("reference"):
        assert pool(X).ravel().tolist() == [1, 3]
    assert pool(X).ravel().tolist() == [-1, -1]


def test_the_environment_selects_and_the_context_overrides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CNN_IMPLEMENTATION", "reference")
    assert pooled() == [1, 3]
    with implementations.use("fastest"):
        assert pooled() == [-1, -1]


def test_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^implementation must be 'fastest' or .*, got 'slow'$"):
        implementations.use("slow")  # type: ignore[arg-type]
    monkeypatch.setenv("CNN_IMPLEMENTATION", "quickest")
    with pytest.raises(InputError, match=r"^CNN_IMPLEMENTATION must be .*, got 'quickest'$"):
        pooled()
