"""Make the pages of the studies from the committed lines of their results, without training.

    python -m experiments.pages                  # all pages, and their parts of the README
    python -m experiments.pages --only ladder
    python -m experiments.pages --take results   # first copy the lines that studies left there
    python -m experiments.pages --check          # write nothing, name the files that differ

Every study has a folder `docs/studies/NAME` with its lines, `results.jsonl`, and those of its
larger data set (`--full`), `full.jsonl`, with a note for readers, `full.txt`. Its page and figures
are written beside them. The README and `docs/studies/index.md` have blocks between comments that
are made from the pages; the text outside is kept.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etils import epy

from cnn.errors import InputError, RunError, unknown_name
from experiments.harness import cli, committed, larger_data, pages
from experiments.harness.larger_data import FULL
from experiments.harness.page_files import LINES, PAGE, read

with epy.lazy_imports():
    from cnn.train import files

ROOT = Path(__file__).resolve().parents[1]
STUDIES = Path("docs/studies")
LINK = r"^\| \[\w+\]\(docs/studies/(\w+)/index\.md\)"
"""Row of a study in the README."""
RUNGS = {
    "conv": "local, shared",
    "tiled-2": "local, 2 kernels in turn",
    "tiled-4": "local, 4 kernels in turn",
    "local": "one kernel per position",
    "dense": "every position sees every other",
}
"""What the README says of the rungs of the ladder."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Which pages are made, and of what."""

    only: tuple[str, ...] = ()
    """Studies whose pages are made; all by default."""
    take: Path | None = None
    """Folder with results of studies, NAME/results.jsonl: copy their lines first, and make only
    the pages of these studies."""
    check: bool = False
    """Write nothing. Name the files that differ from what would be written, and exit with 1."""


def main(flags: Flags, root: Path = ROOT) -> None:
    """Make the pages, or check them."""
    known = pages.names(root)
    if flags.take is not None:  # new ones, too
        left = {path.parent.name for path in flags.take.glob(f"*/{LINES}")}
        known += [name for name in sorted(left - {*known}) if _is_program(root, name)]
    for name in flags.only:
        if name not in known:
            raise unknown_name("study", name, known)
    names = list(flags.only) or known
    if flags.take is not None:
        if flags.check:
            raise InputError("take copies lines, and check writes nothing: leave one of them out")
        names = take(root, names, flags.take)
    made = {name: pages.make(root, name) for name in names}
    others = [name for name in pages.names(root) if name not in made]
    texts = {name: read(root / STUDIES / name / PAGE) for name in others}
    blocks = with_blocks(root, {**texts, **{name: page.text for name, page in made.items()}})
    if flags.check:
        differing = [
            p for name, page in made.items() for p in page.differing(root / STUDIES / name)
        ]
        differing += [path for path, text in blocks.items() if read(path) != text]
        for path in differing:
            print(f"{path.relative_to(root)} is not what its lines say")
        if differing:
            raise RunError(f"{len(differing)} files differ: python -m experiments.pages makes them")
        return
    for name, page in made.items():
        page.write(root / STUDIES / name)
    for path, text in blocks.items():
        files.write_atomic(path, text)
    print(f"made the pages of {', '.join(made)}")


def take(root: Path, names: Sequence[str], folder: Path) -> list[str]:
    """Copy the lines of all studies that `folder` has, and return their names.

    Lines that are committed already, and that the study would not compute again, stay.

    Raises:
        InputError: If a line is missing. Nothing is copied then.
    """
    left = [name for name in names if (folder / name / LINES).exists()]
    if not left and not any((folder / name / "full" / LINES).exists() for name in names):
        raise InputError(f"take {str(folder)!r} must hold NAME/{LINES} of a study: run one")
    taken: dict[Path, Sequence[committed.Line]] = {}
    for name in left:
        module = importlib.import_module(f"experiments.{name}")
        paths = [root / STUDIES / name / LINES, folder / name / LINES]
        taken[paths[0]] = committed.take(module.STUDY, module.Settings(), paths)
    for name in names:
        if (new := folder / name / "full" / LINES).exists():
            study = importlib.import_module(f"experiments.{name}").STUDY
            path = root / STUDIES / name / FULL
            found = [line for one in (path, new) if one.exists() for line in files.read_jsonl(one)]
            taken[path] = larger_data.tested(study, found)
    for path, lines in taken.items():
        path.parent.mkdir(exist_ok=True)
        committed.write(path, lines)
    return sorted({path.parent.name for path in taken})


def _is_program(root: Path, name: str) -> bool:
    return (root / "experiments" / f"{name}.py").exists()


def with_blocks(root: Path, texts: Mapping[str, str]) -> dict[Path, str]:
    """Return the files that have blocks, with the blocks that the pages give.

    Args:
        root: The repository.
        texts: The page of every study.
    """
    readme, index = root / "README.md", root / STUDIES / "index.md"
    old = read(readme)
    # The rows of the README, and their order, are chosen by hand; the index has all studies.
    listed = [name for name in re.findall(LINK, old, re.MULTILINE) if name in texts]
    others = sorted(set(texts) - {*listed}, key=lambda n: (pages.NOT_MEASURED in texts[n], n))
    order = [*listed, *others]
    rows = {name: " | ".join(row(name, texts[name])) for name in order}

    def table(folder: str, names: Sequence[str]) -> str:
        lines = [f"| [{name}]({folder}{name}/{PAGE}) | {rows[name]} |" for name in names]
        heads = ["| study | question | answer | claims |", "| :-- | :-- | :-- | :-- |"]
        return "\n".join([*heads, *lines])

    toctree = "\n".join(["```{toctree}", ":hidden:", "", *(f"{n}/index" for n in order), "```"])
    new = replace_block(readme, old, "studies", table(f"{STUDIES}/", listed))
    return {
        readme: replace_block(readme, new, "ladder", ladder(texts["ladder"])),
        index: replace_block(index, read(index), "studies", f"{table('', order)}\n\n{toctree}"),
    }


def replace_block(path: Path, text: str, name: str, content: str) -> str:
    """Return the text of a file with new content in the block `name`."""
    start, end = f"<!-- made by python -m experiments.pages: {name} -->\n\n", "\n\n<!-- end -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise InputError(f"{path} must have the lines {start.strip()} and {end.strip()}")
    return f"{before}{start}{content}{end}{after}"


def row(name: str, page: str) -> tuple[str, str, str]:
    """Return the question, the first sentence of the answer, and how many claims hold."""
    question = page.partition("\n")[0].removeprefix("# ")
    found = re.search(r"^## Answer\n\n\*\*(.+?)\.\*\* (.+?)\n\n", page, re.DOTALL | re.MULTILINE)
    if found is None:
        raise InputError(f"only: the page of {name} is missing, so make it, too")
    return question, pages.sentence(found[2]), found[1].replace(" claims", "")


def ladder(page: str) -> str:
    """Return what the README shows of the page of the ladder: its table and its findings."""
    parts = page.split("\n\n")
    at = next(i for i, part in enumerate(parts) if part.startswith("| rung |"))
    table = re.sub(
        r"^\| ([\w-]+) \|",
        lambda m: f"| `{m[1]}`{f': {RUNGS[m[1]]}' if m[1] in RUNGS else ''} |",
        parts[at],
        flags=re.MULTILINE,
    ).replace("| `rung` |", "| rung |")
    counted = parts[parts.index("## Answer") + 1].partition("** ")[0] + "**"
    findings = [part for part in parts[:at] if part.startswith("- ")]
    return "\n\n".join([table, f"{parts[at - 1]}.", counted, *findings])


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
