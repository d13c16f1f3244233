"""Progress with rate, time left and loss: a bar on a terminal and in notebooks, else lines."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from etils import epy

with epy.lazy_imports():
    import numpy as np
    from IPython import display as ipython_display
    from rich import console as rich_console
    from rich import progress as rich_progress
    from rich import text as rich_text


class Progress:
    """Steps that are done. `losses` is what the last line of metrics says."""

    first, every = 10.0, 30.0
    """Seconds to the first line, and between the others."""

    def __init__(self, description: str, total: int) -> None:
        self.description, self.total = description, total
        self.done, self.losses = 0, ""
        self._first: tuple[int, float] | None = None
        self._line_due = time.monotonic() + self.first

    def advance(self, steps: int) -> None:
        """Count `steps` more."""
        self.done += steps
        if self._first is None:
            self._first = self.done, time.monotonic()  # before it, programs were compiled

    def log(self, line: Mapping[str, Any]) -> None:
        """Take the losses and the model FLOP utilization from a line of metrics."""
        names = {"train_loss": "loss", "validation_loss": "validation loss"}
        found = {label: line[name] for name, label in names.items() if name in line}
        if found:
            means = {label: np.asarray(value, float).mean() for label, value in found.items()}
            parts = [f"{label} {mean:.4g}" for label, mean in means.items()]
            parts += [f"MFU {100 * line['mfu']:.1f} %"] if "mfu" in line else []
            self.losses = ", ".join(parts)

    def line(self) -> str | None:
        """Return a line with step, losses, rate and time left, if one is due."""
        now = time.monotonic()
        if now < self._line_due or self._first is None or self.done == self._first[0]:
            return None
        self._line_due = now + self.every
        rate = (self.done - self._first[0]) / max(now - self._first[1], 1e-9)
        parts = [f"{self.description}: step {self.done:,} of {self.total:,}", self.losses]
        parts += [f"{rate:,.3g} steps/s", f"{_clock((self.total - self.done) / rate)} left"]
        return ", ".join(part for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines(Progress):
    def advance(self, steps: int) -> None:
        super().advance(steps)
        if line := self.line():
            print(line, file=sys.stderr, flush=True)


class _Notebook(Progress):
    """One line of HTML that changes. The notebook needs no extension for it."""

    first, every = 0.5, 0.5

    def __init__(self, description: str, total: int) -> None:
        super().__init__(description, total)
        self._started = time.monotonic()
        self._shown = ipython_display.display(self._html("compiling"), display_id=True)

    def advance(self, steps: int) -> None:
        super().advance(steps)
        if line := self.line():
            self._shown.update(self._html(line))

    def close(self) -> None:
        """Say how many steps were done, and in what time."""
        seconds = _clock(time.monotonic() - self._started)
        self._shown.update(
            self._html(f"{self.description}: {self.done:,} of {self.total:,} steps in {seconds}")
        )

    def _html(self, line: str) -> ipython_display.HTML:
        bar = f'<progress value="{self.done}" max="{self.total}"></progress>'
        return ipython_display.HTML(f"<div>{bar} {html.escape(line)}</div>")


@contextmanager
def show_steps(description: str, total: int) -> Iterator[Progress]:
    """Show the progress of `total` steps on standard error; yield what counts them."""
    console = rich_console.Console(stderr=True)
    if console.is_jupyter and not total:  # everything is there already
        yield Progress(description, total)
        return
    if console.is_jupyter:
        notebook = _Notebook(description, total)
        try:
            yield notebook
        finally:
            notebook.close()
        return
    if not console.is_terminal:
        yield _Lines(description, total)
        return

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> rich_text.Text:
            return rich_text.Text(f"{task.speed:,.0f} steps/s" if task.speed else "compiling")

    class Bar(Progress):
        def advance(self, steps: int) -> None:
            super().advance(steps)
            bars.advance(task, steps)

        def log(self, line: Mapping[str, Any]) -> None:
            super().log(line)
            bars.update(task, losses=self.losses)

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        Rate(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[losses]}", markup=False),
    )
    with rich_progress.Progress(*columns, console=console) as bars:
        task = bars.add_task(description, total=total, losses="")
        yield Bar(description, total)
