"""A trace holds the calls that it should; a run too short for one says so."""

from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.harness.profiler import SKIPPED, TRACED, tracing


def products(folder: Path) -> Counter[str]:
    """How often each operation stands in the trace."""
    (path,) = folder.rglob("*.xplane.pb")
    return Counter(
        str(operation)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if (operation := dict(event.stats).get("hlo_op"))
    )


@pytest.mark.parametrize(("calls", "traced"), [(SKIPPED + 4, 4), (40, TRACED)])
def test_the_calls_after_the_first_are_traced(calls: int, traced: int, tmp_path: Path) -> None:
    f = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.eye(64)
    with tracing(tmp_path) as called:
        for _ in range(calls):
            x = f(x)
            called()
    found = products(tmp_path)
    assert found
    assert set(found.values()) == {traced}


def test_a_run_too_short_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tracing(tmp_path) as called:
        called()
    assert capsys.readouterr().err == "profile: no trace, the program was called only 1 times\n"
    assert not list(tmp_path.iterdir())


def test_nothing_is_traced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    with tracing(None) as called:
        for _ in range(SKIPPED + 1):
            called()
    with pytest.raises(RuntimeError, match="No profile started"):
        jax.profiler.stop_trace()
    assert capsys.readouterr().err == ""
