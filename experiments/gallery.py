"""All results on one page.

    python -m experiments.gallery
    python -m experiments.gallery --results results --out results/gallery.html

Reads the folders below `results` and writes one HTML file that needs no other: question, figures,
findings and tables of every study that has ended. Pointing at a figure, or touching it, shows the
nearest value. A folder that is unfinished or cannot be read gets one line. The page loads nothing
and executes nothing that a folder holds: text is escaped, drawings are images.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, summary

with epy.lazy_imports():
    from cnn.train import files, run_dir

TITLE = "What a convolution's biases are worth: what was measured here"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Input and output."""

    results: Path = Path("results")
    """Folder that holds a folder of each study, at any depth."""
    out: Path = Path("results/gallery.html")
    """The page."""


def main(settings: Gallery) -> None:
    """Write the page."""
    articles, links, lines = [], [], []
    for folder in folders(settings.results):
        name = str(folder.relative_to(settings.results))
        shown = html.escape(name)
        try:
            articles.append(summary.render(folder, name))
            links.append(f"<a href='#{html.escape(quote(quote(name)))}'>{shown}</a> ")
        except FileNotFoundError as error:
            rows = folder / "results.jsonl"
            count = rows.read_bytes().count(b"\n") if rows.is_file() else 0
            lines.append((shown, f"unfinished: no {Path(error.filename).name}, {count} results"))
        except Exception as error:  # a damaged summary can raise almost anything
            lines.append((shown, f"cannot be read: {type(error).__name__}: {error}"))
    rest = "".join(f"<li><b>{name}</b> {html.escape(' '.join(why.split()))}" for name, why in lines)
    body = f"<h1>{TITLE}</h1><nav>{''.join(links)}</nav><main>{''.join(articles)}</main>"
    body += f"<h2>Not shown</h2><ul>{rest}</ul>" if rest else ""
    run_dir.make_folder(settings.out.parent)
    # Names of files, and strings of JSON, need not be UTF-8.
    page = summary.page(TITLE, body).encode(errors="backslashreplace")
    files.write_atomic(settings.out, page)
    print(f"{len(articles)} studies, {len(lines)} not shown, in {settings.out}")


def folders(results: Path) -> list[Path]:
    """Return the folders of studies, without smoke tests. Raise `InputError` if there are none."""
    files = [path for name in (summary.FILE, "results.jsonl") for path in results.rglob(name)]
    found = sorted({p.parent for p in files if "smoke" not in p.relative_to(results).parts})
    if not found:
        raise InputError(f"results {str(results)!r} holds no study: run one, or name its folder")
    return found


if __name__ == "__main__":
    cli.run(main, Gallery, __doc__)
