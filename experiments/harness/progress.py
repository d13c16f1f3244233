"""A progress bar on a terminal, with rate and time left; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from etils import epy

with epy.lazy_imports():
    from rich import console as rich_console
    from rich import progress as rich_progress
    from rich import text as rich_text


@contextmanager
def show_steps(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total` steps on standard error; yield the function that advances it."""

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> rich_text.Text:
            return rich_text.Text(f"{task.speed:,.0f} steps/s" if task.speed else "compiling")

    console = rich_console.Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        Rate(),
        rich_progress.TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with rich_progress.Progress(*columns, console=console, disable=not shown) as progress:
        task = progress.add_task(description, total=total)
        yield lambda steps: progress.advance(task, steps)
