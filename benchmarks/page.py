"""The output of benchmarks: JSON, a Markdown table between two markers of a page, and a figure."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

with epy.lazy_imports():
    import jax

    from cnn.train import run_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results are written."""

    out: Path = Path("results")
    """Folder for the numbers."""
    page: Path = Path("docs/performance.md")
    """The Markdown file whose table is replaced; it is created if needed."""


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
    digits = sum(middle < limit for limit in (1, 10, 100))
    return f"{middle:.{digits}f} [{least:.{digits}f} – {most:.{digits}f}]"


def machine() -> str:
    """Return a description of the device that JAX uses in this process."""
    device = jax.devices()[0]
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{cores if device.platform == 'cpu' else device.device_kind}, jax {jax.__version__}"


def publish(
    name: str, output: Output, result: Any, text: str, figure: Figure | None = None
) -> None:
    """Write `name.json`, the figure beside the page, and `text` between the page's markers."""
    page = output.page
    run_dir.make_folder(output.out)
    run_dir.write_atomic(output.out / f"{name}.json", json.dumps(result, indent=1) + "\n")
    run_dir.make_folder(page.parent)
    if figure is not None:
        figure.savefig(page.parent / f"{name}.png", dpi=130, bbox_inches="tight")
    old = page.read_text() if page.exists() else "# Speed\n"
    run_dir.write_atomic(page, replace_section(old, name, text))


def replace_section(page: str, name: str, text: str) -> str:
    """Return the page with `text` between the markers `name`, which are appended if missing.

    >>> print(replace_section("# Speed", "ops", "| op |"))
    # Speed
    <BLANKLINE>
    <!-- ops: begin -->
    | op |
    <!-- ops: end -->
    <BLANKLINE>
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    head, _, rest = page.partition(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
