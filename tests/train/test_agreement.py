"""What process 0 finds out, or fails at, reaches the other processes as the same value or line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from cnn.errors import InputError, LayerError, RunError
from cnn.train import agreement
from cnn.train.agreement import on_process_zero


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], list[Any]]:
    """Return what each of two processes gets, a value or an error; they run one after the other."""

    def run(find: Callable[[], Any]) -> list[Any]:
        sent: list[bytes] = []

        def broadcast(content: bytes) -> bytes:
            sent.append(content)
            return sent[0]

        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(agreement, "broadcast", broadcast)
        got: list[Any] = []
        for index in range(2):
            monkeypatch.setattr(jax, "process_index", lambda index=index: index)
            try:
                got.append(on_process_zero(find))
            except Exception as error:
                got.append(error)
        assert len(sent) == 2
        assert sent[1] == b""
        return got

    return run


def test_only_process_zero_finds(outcomes: Callable[..., list[Any]]) -> None:
    calls: list[None] = []
    values = [{"step": 3, "loss": [0.1, None]}, "ü" * 9000, None]
    for value in values:
        assert outcomes(lambda value=value: calls.append(None) or value) == [value, value]
    assert len(calls) == len(values)


@pytest.mark.parametrize("kind", [InputError, RunError])
def test_an_error_is_one_line_in_all(
    kind: type[Exception], outcomes: Callable[..., list[Any]]
) -> None:
    def fail() -> None:
        raise kind("out 's3://b/run' is in use")

    for error in outcomes(fail):
        assert type(error) is kind
        assert str(error) == "out 's3://b/run' is in use"


def test_other_errors_keep_their_type_where_they_happen(
    outcomes: Callable[..., list[Any]],
) -> None:
    def layer() -> None:
        raise LayerError("a", "too wide")

    assert [type(error) for error in outcomes(layer)] == [LayerError, InputError]
    first, second = outcomes(lambda: 1 // 0)
    assert type(first) is ZeroDivisionError
    assert type(second) is RunError
    assert str(second) == "process 0 failed (ZeroDivisionError: integer division or modulo by zero)"


def test_one_process_needs_no_json() -> None:
    value = object()
    assert on_process_zero(lambda: value) is value


def test_bytes_are_sent_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum makes 0.0 of -0.0, so the bytes are what is summed; the others give zeros."""
    given: list[np.ndarray] = []

    def summed(array: np.ndarray) -> np.ndarray:
        given.append(np.asarray(array))
        return given[len(given) % 2 - 2] if len(given) > 2 else given[-1]

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", summed)
    content = np.array([-0.0, np.nan, 1.5], np.float32).tobytes()
    assert agreement.broadcast(content) == content
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    given[:] = []
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda a: given.append(a) or 12)
    agreement.broadcast(b"")
    assert given[1].tolist() == [0] * 12
    assert given[1].dtype == np.uint8
