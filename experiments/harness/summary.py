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

from experiments.harness import claims, drawing, plots
from experiments.harness.claims import Verdict
from experiments.harness.tables import Table

with epy.lazy_imports():
    from cnn.train import files, run_dir

FILE, REPORT = "summary.json", "report.html"


@dataclass(frozen=True)
class Summary:
    """What the results of a study say."""

    findings: Sequence[str]
    tables: Sequence[Table]
    figures: Mapping[str, plots.Figure]
    """By the name of their files."""
    verdicts: Sequence[Verdict] = ()
    """Of the study's claims; the harness adds them."""
    notes: Sequence[str] = ()
    """What a reader of the numbers has to know."""

    def lines(self) -> list[str]:
        """Return verdicts, findings and notes as lines of text."""
        lines = [f"- {one}" + f" ({one.advice})" * bool(one.advice) for one in self.verdicts]
        protocol = [claims.protocol(self.verdicts) + "."] if self.verdicts else []
        return [*lines, *protocol, *self.findings, *self.notes]

    def __repr__(self) -> str:
        return "\n".join(self.lines()) or f"Summary({len(self.tables)} tables)"

    def _repr_html_(self) -> str:
        findings = claims.table(self.verdicts).to_html() if self.verdicts else ""
        texts = [*self.findings, *self.notes]
        findings += "".join(f"<p>{html.escape(text)}</p>" for text in texts)
        images = {name: drawing.to_png(drawing.draw(one)[0]) for name, one in self.figures.items()}
        pictures = "".join(
            f"<p><img alt='{html.escape(name)}' style='width: {1.4 * figure.width:.2f}in' "
            f"src='data:image/png;base64,{base64.b64encode(images[name]).decode()}'></p>"
            for name, figure in self.figures.items()
        )
        return findings + pictures + "".join(table.to_html() for table in self.tables)


def write(folder: Path, question: str, hypothesis: str, summary: Summary, seconds: float) -> None:
    """Write the figures (PNG and SVG), `summary.json` and `report.html` into `folder`."""
    figures = {
        name: {**plots.to_json(figure), "marks": drawing.save(figure, folder / name)}
        for name, figure in summary.figures.items()
    }
    content = {
        "question": question,
        "hypothesis": hypothesis,
        "verdicts": asdict(claims.table(summary.verdicts)) if summary.verdicts else None,
        "findings": [*summary.findings, *summary.notes],
        "tables": [asdict(table) for table in summary.tables],
        "figures": figures,
        "command": "python " + " ".join(sys.orig_argv[1:]),
        "seconds": round(seconds, 1),
        "environment": run_dir.environment(),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    files.write_atomic(folder / FILE, text + "\n")
    files.write_atomic(folder / REPORT, page(question, render(folder, open_details=True)))


def render(folder: Path, name: str = "", open_details: bool = False) -> str:
    """Return an HTML article about the study in `folder`, with its `name` as id.

    Text is escaped and drawings are images, so nothing that a folder holds is executed. A file that
    is not a summary raises almost anything.
    """
    content: Any = files.read_json(folder / FILE)
    pictures = "".join(
        _picture(folder / f"{Path(file).name}.svg", figure["marks"], figure["width"])
        for file, figure in content["figures"].items()
    )
    verdicts = content.get("verdicts")  # None, or missing in results of version 0.2.0
    judged = f"<div class=wide>{Table(**verdicts).to_html()}</div>" if verdicts else ""
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
        f"{judged}{pictures}<div class=answers><p class=answer>{first}</p>"
        f"{''.join(paragraphs[:2])}</div>"
        f"<details{' open' * open_details}><summary>More findings, tables, command</summary>"
        f"{''.join(paragraphs[2:])}{tables}<dl>{listed}</dl></details></article>"
    )


def _picture(path: Path, marks: Sequence[drawing.Mark], inches: float) -> str:
    """Return a drawing as an image, with its marks for the script of the page.

    It shrinks to nine tenths of its size at most, to stay readable, and scrolls on small screens.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure data-marks='{html.escape(json.dumps(marks))}'><div>"
        f"<img alt='{html.escape(path.stem)}' style='min-width:{0.9 * inches:.2f}in' "
        f"src='data:image/svg+xml;base64,{data}'><i></i></div>"
        "<figcaption>Point at a value, or touch it.</figcaption></figure>"
    )


def page(title: str, body: str) -> str:
    """Return an HTML page that needs no other file."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    head, _, tail = template.partition("BODY")
    return head.replace("TITLE", html.escape(title)) + body + tail
