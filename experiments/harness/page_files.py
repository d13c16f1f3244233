"""The files of a study's page, and whether they are current, by hashes that the page ends with."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epy

from experiments.harness import drawing, plots
from experiments.harness.larger_data import FULL, NOTE

with epy.lazy_imports():
    from PIL import Image, PngImagePlugin

    from cnn.train import files

LINES, PAGE = "results.jsonl", "index.md"


@dataclass(frozen=True)
class Page:
    """The page of a study as Markdown, and its figures by the names of their files."""

    body: str
    figures: Mapping[str, plots.Figure]
    sources: str
    """Hash of the files that it is made from."""

    @property
    def text(self) -> str:
        """What `index.md` holds: the body and a comment with hashes."""
        shown = "".join(f", {name}.png {values_hash(f)}" for name, f in self.figures.items())
        return f"{self.body}\n\n<!-- text {_hash(self.body)}, sources {self.sources}{shown} -->\n"

    def write(self, folder: Path) -> None:
        """Write `index.md` and the figures."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in self.figures.items():
            files.write_atomic(folder / f"{name}.png", _png(figure))
        files.write_atomic(folder / PAGE, self.text)

    def differing(self, folder: Path) -> list[Path]:
        """Return the files in `folder` that are not this page. Bytes of drawings may differ."""
        pngs = {folder / f"{name}.png": values_hash(one) for name, one in self.figures.items()}
        texts = [folder / PAGE] if read(folder / PAGE) != self.text else []
        return texts + [path for path, values in pngs.items() if not _shows(path, values)]


def stale(root: Path, name: str) -> list[str]:
    """Return why the files of a page are not current, as far as their hashes say.

    Nothing is computed but hashes. The code that all studies share is no part of them.
    """
    folder = root / "docs/studies" / name
    body, _, stamp = read(folder / PAGE).rpartition("\n\n<!-- text ")
    found = re.fullmatch(r"(\w+), sources (\w+)((?:, [\w-]+\.png \w+)*) -->\n", stamp)
    if found is None:
        return [f"{PAGE} is missing or was cut"]
    why = [] if found[1] == _hash(body) else [f"{PAGE} was changed by hand"]
    if found[2] != sources_hash(root, name):
        why.append(f"{PAGE} was made from other lines, or by another program")
    pngs = re.findall(r", ([\w-]+\.png) (\w+)", found[3])
    return why + [f"{png} shows other values" for png, h in pngs if not _shows(folder / png, h)]


def sources_hash(root: Path, name: str) -> str:
    """Return a hash of the files that only the page of this study is made from."""
    folder, programs = root / "docs/studies" / name, root / "experiments"
    paths = [folder / LINES, programs / f"{name}.py", programs / f"tuned/{name}.json"]
    paths += [path for path in (folder / FULL, folder / NOTE) if path.exists()]
    return _hash("\0".join(read(path) for path in paths))


def values_hash(figure: plots.Figure) -> str:
    """Return a hash of all that a figure shows, with numbers to six digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(one) for key, one in value.items()}
        if isinstance(value, list):
            return [rounded(one) for one in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return _hash(json.dumps(rounded(plots.to_json(figure)), sort_keys=True))


def read(path: Path) -> str:
    """Return a text, "" if there is no file."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _png(figure: plots.Figure) -> bytes:
    """Return a drawing with the hash of its values; a palette makes it three times smaller."""
    drawn = io.BytesIO(drawing.to_png(drawing.draw(figure)[0]))
    comment, image = PngImagePlugin.PngInfo(), io.BytesIO()
    comment.add_text("Comment", values_hash(figure))
    with Image.open(drawn) as colored:
        colored.convert("RGB").quantize(256).save(image, "PNG", optimize=True, pnginfo=comment)
    return image.getvalue()


def _shows(path: Path, values: str) -> bool:
    """Return whether a drawing was made of a figure with this hash of its values."""
    return path.exists() and values.encode() in path.read_bytes()
