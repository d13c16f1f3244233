"""What benchmarks write: a Markdown table between two markers of a page, JSON, and a figure."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn.train.run_dir import make_folder, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = Path("docs/performance.md")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(numbers: Sequence[float], scale: float = 1e3) -> str:
    """Return median [least – most], by default of seconds in milliseconds.

    >>> spread([0.0012, 0.0015, 0.0021])
    '1.50 [1.20 – 2.10]'
    """
    middle, least, most = (scale * f(numbers) for f in (statistics.median, min, max))
    digits = sum(middle < most for most in (1, 10, 100))
    return f"{middle:.{digits}f} [{least:.{digits}f} – {most:.{digits}f}]"


def machine() -> str:
    """Say on what it was measured, which is what JAX computes on in this process."""
    import jax

    device = jax.devices()[0]
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{cores if device.platform == 'cpu' else device.device_kind}, jax {jax.__version__}"


def publish(
    name: str, page: Path, out: Path, result: Any, text: str, figure: Figure | None = None
) -> None:
    """Write `out/name.json`, the figure beside `page`, and `text` between the markers `name`."""
    make_folder(out)
    write_atomic(out / f"{name}.json", json.dumps(result, indent=1) + "\n")
    make_folder(page.parent)
    if figure is not None:
        figure.savefig(page.parent / f"{name}.png", dpi=130, bbox_inches="tight")
    write_atomic(page, between(page.read_text() if page.exists() else "# Speed\n", name, text))


def between(old: str, name: str, text: str) -> str:
    """Put `text` between the markers `name` of a page, which gets them at its end if it has none.

    >>> print(between("# Speed", "ops", "| op |"))
    # Speed
    <BLANKLINE>
    <!-- ops: begin -->
    | op |
    <!-- ops: end -->
    <BLANKLINE>
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    head, _, rest = old.partition(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
