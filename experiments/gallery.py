"""All results on one page.

    python -m experiments.gallery
    python -m experiments.gallery --results results --out results/gallery.html

Reads the folders below `results` and writes one HTML file, which stands by itself: question,
picture, answer and tables of every study that has been told. Pointing at a picture, or touching it,
gives the value that is nearest. A folder that is unfinished or cannot be read gets one line. The
page loads nothing, and nothing that it shows is executed: texts are escaped, pictures are images.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from experiments.harness import cli

if TYPE_CHECKING:
    from experiments.harness.summary import Mark


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Where from and where to."""

    results: Path = Path("results")
    """Folder in which each study has left a folder of its own, at any depth."""
    out: Path = Path("results/gallery.html")
    """The page."""


def main(settings: Gallery) -> None:
    """Write the page."""
    from cnn.train.run_dir import make_folder, write_atomic

    shown: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for folder in folders(settings.results):
        name = str(folder.relative_to(settings.results))
        found = exhibit(folder, name, settings)
        (shown if found.startswith("<article") else others).append((name, found))
    make_folder(settings.out.parent)
    write_atomic(settings.out, page(shown, [line for _, line in others]))
    print(f"{len(shown)} studies, {len(others)} not told, in {settings.out}")


def folders(results: Path) -> list[Path]:
    """Return the folders of studies, those of smoke tests left out.

    Raises `InputError` where there are none.
    """
    from cnn.errors import InputError
    from experiments.harness import summary

    files = [p for name in (summary.FILE, "results.jsonl") for p in results.rglob(name)]
    found = sorted({p.parent for p in files if "smoke" not in p.relative_to(results).parts})
    if not found:
        raise InputError(f"results {str(results)!r} holds no study: run one, or name the folder")
    return found


def exhibit(folder: Path, name: str, settings: Gallery) -> str:
    """Return the article about a study, or a line about why there is none."""
    from experiments.harness import summary

    try:
        told = summary.read(folder)
        pictures = [picture(folder / f"{n}.svg", marks) for n, marks in told.figures.items()]
    except FileNotFoundError as error:
        rows = folder / "results.jsonl"
        count = rows.read_bytes().count(b"\n") if rows.is_file() else 0
        return line(name, f"not told yet: {Path(error.filename).name} missing, {count} results")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return line(name, f"cannot be read: {type(error).__name__}: {error}")
    hypothesis, answers = "", list(told.findings)
    if answers and answers[0].startswith("Hypothesis: "):
        hypothesis = f"<p class=hypothesis>{html.escape(answers.pop(0))}</p>"
    first, *rest = answers or ["No finding."]
    tables = "".join(f"<div class=wide>{table.to_html()}</div>" for table in told.tables)
    report = ""
    if (folder / "report.html").is_file():
        where = quote(os.path.relpath(folder, settings.out.parent))
        report = f"<p><a href='{where}/report.html'>The report: command, time, versions</a></p>"
    paragraphs = [f"<p>{html.escape(text)}</p>" for text in rest]
    beside, more = "".join(paragraphs[:2]), "".join(paragraphs[2:])
    return (
        f"<article id='{html.escape(quote(name))}'>"
        f"<h2>{html.escape(told.question)} <small>{html.escape(name)}</small></h2>"
        f"{''.join(pictures)}<div class=answers><p class=answer>{html.escape(first)}</p>"
        f"{beside}</div><details><summary>More findings and tables</summary>"
        f"{hypothesis}{more}{tables}{report}</details></article>"
    )


def picture(path: Path, marks: Sequence[Mark]) -> str:
    """Return a drawing as an image, in which nothing runs, with the marks beside it.

    It shrinks to nine tenths of its size at most, for its text to stay readable; from there on it
    is moved sideways.
    """
    drawing = path.read_bytes()
    data = base64.b64encode(drawing).decode()
    values = html.escape(json.dumps(marks))
    width = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', drawing)
    least = f" style='min-width:{0.9 * float(width[1]):.0f}pt'" if width else ""
    return (
        f"<figure data-marks='{values}'><div><img alt='{html.escape(path.stem)}'{least} "
        f"src='data:image/svg+xml;base64,{data}'><i></i></div>"
        "<figcaption>Point at a value, or touch it.</figcaption></figure>"
    )


def line(name: str, why: str) -> str:
    """Return the one line that a folder without a story gets."""
    return f"<li><b>{html.escape(name)}</b> {html.escape(' '.join(why.split()))}</li>"


def page(articles: Sequence[tuple[str, str]], lines: Sequence[str]) -> str:
    """Return the page."""
    links = "".join(
        f"<a href='#{html.escape(quote(quote(name)))}'>{html.escape(name)}</a> "
        for name, _ in articles
    )
    body = "".join(article for _, article in articles)
    rest = f"<h2>Not shown</h2><ul>{''.join(lines)}</ul>" if lines else ""
    return HEAD + f"<nav>{links}</nav><main>{body}</main><section>{rest}</section>" + SCRIPT


HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>What a convolution's biases are worth</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 1.5rem auto;
       padding: 0 .6rem; color: #222; background: #fff }
h1 { font-size: 1.6rem; line-height: 1.25 }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0; width: 100% }
small { font-weight: 400; color: #555; white-space: nowrap }
nav a { display: inline-block; margin: 0 .6rem .2rem 0; padding: .3rem 0 } a { color: #0072B2 }
article { display: flex; flex-wrap: wrap; gap: 0 1.5rem; margin: 1.2rem 0; padding: .7rem;
          border: 1px solid #ddd; border-radius: .4rem }
figure { margin: .8rem 0; min-width: 0; max-width: 100% }
figure div { position: relative; overflow-x: auto } figure img { display: block; max-width: 100% }
figure i { position: absolute; display: none; width: 14px; height: 14px; margin: -9px 0 0 -9px;
           border: 2px solid #222; border-radius: 50%; pointer-events: none }
figcaption { min-height: 2.6em; max-width: 40rem; font-size: .85rem; color: #555 }
.answers { flex: 1 1 20rem } .answers p { margin: .8rem 0 } .answer { font-weight: 600 }
.hypothesis, li { color: #555 }
details { width: 100% } summary { cursor: pointer; padding: .3rem 0 } .wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem;
        margin: .5rem 0 }
caption { text-align: left; padding-bottom: .3rem }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
li { overflow-wrap: anywhere }
</style></head><body><h1>What a convolution's biases are worth: what was measured here</h1>
"""
SCRIPT = """<script>
for (const figure of document.querySelectorAll("figure")) {
  const marks = JSON.parse(figure.dataset.marks), image = figure.querySelector("img");
  const ring = figure.querySelector("i"), caption = figure.querySelector("figcaption");
  if (!marks.length) caption.remove();
  const show = event => {
    const box = image.getBoundingClientRect();
    let best = 40, found = null;
    for (const [x, y, text] of marks) {
      const at = [x * box.width, y * box.height];
      const far = Math.hypot(at[0] - event.clientX + box.left, at[1] - event.clientY + box.top);
      if (far < best) { best = far; found = [at, text]; }
    }
    if (!found) return;
    ring.style.display = "block";
    ring.style.left = found[0][0] + "px";
    ring.style.top = found[0][1] + "px";
    caption.textContent = found[1];
  };
  figure.addEventListener("pointermove", show);
  figure.addEventListener("pointerdown", show);
}
</script></body></html>
"""


if __name__ == "__main__":
    cli.run(main, Gallery, __doc__)
