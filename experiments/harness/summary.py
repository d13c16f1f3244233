"""What a study says and shows: one JSON file, and the HTML that is made from it."""

from __future__ import annotations

import base64
import html
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from etils import epy

from experiments.harness import plots
from experiments.harness.tables import Table

with epy.lazy_imports():
    from cnn.train import run_dir

FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """What the results of a study say."""

    findings: Sequence[str]
    tables: Sequence[Table]
    figures: Mapping[str, plots.Figure]
    """By the name of their files."""


def write(folder: Path, question: str, hypothesis: str, summary: Summary, seconds: float) -> None:
    """Write the figures (PNG and SVG), `summary.json` and `report.html` into `folder`."""
    figures = {
        name: {**plots.to_json(figure), "marks": plots.save(figure, folder / name)}
        for name, figure in summary.figures.items()
    }
    content = {
        "question": question,
        "hypothesis": hypothesis,
        "findings": list(summary.findings),
        "tables": [asdict(table) for table in summary.tables],
        "figures": figures,
        "command": "python " + " ".join(sys.orig_argv[1:]),
        "seconds": round(seconds, 1),
        "environment": run_dir.environment(),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    run_dir.write_atomic(folder / FILE, text + "\n")
    run_dir.write_atomic(folder / "report.html", page(question, render(folder, open_details=True)))


def render(folder: Path, name: str = "", open_details: bool = False) -> str:
    """Return an HTML article about the study in `folder`, made from its JSON file and drawings.

    Text is escaped and drawings are images, so nothing that a folder holds is executed.

    Args:
        folder: What `write` was given.
        name: Name of the study, shown beside the question and used as the article's id.
        open_details: Whether tables and further findings are shown from the start.

    Raises:
        OSError: A file is missing.
        ValueError, KeyError, TypeError, AttributeError: The file is not a summary.
    """
    content: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
    pictures = "".join(
        _picture(folder / f"{Path(file).name}.svg", figure["marks"])
        for file, figure in content["figures"].items()
    )
    first, *rest = [html.escape(text) for text in content["findings"]] or ["No findings."]
    paragraphs = [f"<p>{text}</p>" for text in rest]
    tables = "".join(f"<div class=wide>{Table(**t).to_html()}</div>" for t in content["tables"])
    environment = content["environment"]
    facts = {
        "command": content["command"],
        "time": f"{content['seconds']:.0f} s",
        "machine": ", ".join([environment["machine"], *sorted(set(environment["devices"]))]),
        "versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        "Python": environment["python"],
    }
    listed = "".join(f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    return (
        f"<article id='{html.escape(quote(name))}'>"
        f"<h2>{html.escape(content['question'])} <small>{html.escape(name)}</small></h2>"
        f"<p class=hypothesis>Hypothesis: {html.escape(content['hypothesis'])}</p>"
        f"{pictures}<div class=answers><p class=answer>{first}</p>{''.join(paragraphs[:2])}</div>"
        f"<details{' open' * open_details}><summary>More findings, tables, command</summary>"
        f"{''.join(paragraphs[2:])}{tables}<dl>{listed}</dl></details></article>"
    )


def _picture(path: Path, marks: Sequence[plots.Mark]) -> str:
    """Return a drawing as an image, with its marks for the script of the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure data-marks='{html.escape(json.dumps(marks))}'><div>"
        f"<img alt='{html.escape(path.stem)}' src='data:image/svg+xml;base64,{data}'><i></i></div>"
        "<figcaption>Point at a value, or touch it.</figcaption></figure>"
    )


def page(title: str, body: str) -> str:
    """Return an HTML page that needs no other file."""
    return HEAD.replace("TITLE", html.escape(title)) + body + SCRIPT


HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
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
figure div { position: relative; overflow-x: auto }
figure img { display: block; max-width: 100%; min-width: min(100%, 20rem) }
figure i { position: absolute; display: none; width: 14px; height: 14px; margin: -9px 0 0 -9px;
           border: 2px solid #222; border-radius: 50%; pointer-events: none }
figcaption { min-height: 2.6em; max-width: 40rem; font-size: .85rem; color: #555 }
.answers { flex: 1 1 20rem } .answers p { margin: .8rem 0 } .answer { font-weight: 600 }
.hypothesis, li { color: #555 } .hypothesis { width: 100%; margin: .4rem 0 0 }
details { width: 100% } summary { cursor: pointer; padding: .3rem 0 } .wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem;
        margin: .5rem 0 }
caption { text-align: left; padding-bottom: .3rem }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .85rem;
     color: #555 } dd { margin: 0; overflow-wrap: anywhere }
li { overflow-wrap: anywhere }
</style></head><body>
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
