"""Count the faults that the tests cause; `make test-faults` writes them to docs/reliability.md."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
Tally = Callable[[str, int], None]


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Return `tally(fault, count)`, which adds to the table if the test passes."""
    return lambda what, count: record_property("tally", (what, count))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "tally":
                totals[value[0]] = totals.get(value[0], 0) + value[1]
    rows = [f"| {what} | {count:,} |" for what, count in sorted(totals.items())]
    table = "\n".join(["| tried, and withstood | |", "|---|--:|", *rows, ""])
    if rows:
        terminalreporter.write_line(table)
    if rows and "RELIABILITY" in os.environ:
        page = Path(os.environ["RELIABILITY"])
        before, rest = page.read_text().split(BEGIN)
        page.write_text(before + BEGIN + table + END + rest.split(END)[1])
