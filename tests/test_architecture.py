"""Every room (folder) is on a floor, and a file imports only from floors below its own."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

FLOORS = (
    {"cnn", "cnn.errors", "cnn.html_table"},
    {"cnn.buckets", "cnn.ops", "cnn.ops.cpu", "cnn.ops.gpu"},
    {"cnn.layers", "cnn.data"},
    {"cnn.models", "cnn.geometry"},
    {"cnn.ablations", "cnn.probes"},
    {"cnn.train"},
    {"experiments", "experiments.harness", "experiments.launch"},
)
"""The rooms of every floor, ground floor first. A subfolder is a room of its own."""
SAME_FLOOR = {
    ("cnn.ops.cpu", "cnn.ops"),
    ("cnn.ops.gpu", "cnn.ops"),
    ("experiments", "experiments.harness"),
    ("experiments", "experiments.launch"),
    ("experiments.launch", "experiments.harness"),
}
"""Exceptions: the first room imports from the second, which is on the same floor."""
TABLES = {("cnn.ops.implementations", room) for room in ("cnn.ops.cpu", "cnn.ops.gpu")}
"""The one module of `cnn.ops` that imports from `cnn.ops.cpu` and `cnn.ops.gpu`."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    """An import statement, and what it imports."""

    line: int
    imported: str
    in_function: bool


class Module(NamedTuple):
    """A file and its imports."""

    file: Path
    imports: list[Import]

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"


Modules = dict[str, Module]


def read_modules(root: Path) -> Modules:
    """Return the modules of `cnn` and `experiments` by name."""
    files = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for top in ("cnn", "experiments")
        for file in sorted((root / top).rglob("*.py"))
    }
    return {
        name: Module(file, list(dict.fromkeys(imports(name, file, files.keys()))))
        for name, file in files.items()
    }


def imports(module: str, file: Path, known: Collection[str]) -> Iterator[Import]:
    """Yield all imports of a module, also those in functions, under TYPE_CHECKING, and lazy ones.

    `from package import module` imports the module, `from package import name` the package.
    """
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield Import(node.lineno, name.name, in_function)
            case ast.ImportFrom(module=source, names=names, level=level):
                base = resolve_name("." * level + (source or ""), package)
                for name in names:
                    full = f"{base}.{name.name}"
                    yield Import(node.lineno, full if full in known else base, in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), False)


def room(module: str) -> str:
    """Return the room that a module is in."""
    return module if module in FLOOR else module.rpartition(".")[0]


def wrong_floors(modules: Modules) -> Iterator[str]:
    """Describe modules without a floor, and imports from the same floor or one above."""
    for name, module in modules.items():
        here = room(name)
        if here not in FLOOR:
            yield f"{name} is on no floor: name its folder in FLOORS"
            continue
        if here == "cnn" and not module.is_package:
            yield f"{name} is at the top of cnn: move it into a room"
        for line, imported, _ in module.imports:
            there = room(imported)
            if there not in FLOOR or there == here:
                continue
            allowed = (here, there) in SAME_FLOOR or (name, there) in TABLES
            if FLOOR[there] > FLOOR[here] or (FLOOR[there] == FLOOR[here] and not allowed):
                yield f"{name}:{line} imports {imported}, which is not on a floor below"


def imports_in_functions(modules: Modules) -> Iterator[str]:
    """Describe imports inside functions, also of other packages."""
    for name, module in modules.items():
        for line, imported, in_function in module.imports:
            if in_function:
                yield (
                    f"{name}:{line} imports {imported} in a function: import it at the top, "
                    "in `with epy.lazy_imports():` if it is slow"
                )


def circles(modules: Modules) -> Iterator[str]:
    """Describe circular imports, one for each module that closes a circle."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            yield " imports ".join([*path[path.index(name) :], name])
        elif name not in done:
            targets = {one.imported for one in modules[name].imports} & modules.keys() - {name}
            for imported in sorted(targets):
                yield from walk(imported, [*path, name])
            done.add(name)

    for name in modules:
        yield from walk(name, [])


def not_programs(modules: Modules) -> Iterator[str]:
    """Describe files at the top of `experiments` that cannot be run."""
    for name, module in modules.items():
        if room(name) != "experiments" or module.is_package:
            continue
        if 'if __name__ == "__main__":' not in module.file.read_text(encoding="utf-8"):
            yield f"{name} is no program: add a main, or move it to experiments/harness"


Rule = Callable[[Modules], Iterator[str]]
RULES: list[Rule] = [wrong_floors, imports_in_functions, circles, not_programs]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_follows(rule: Rule, modules: Modules) -> None:
    broken = list(rule(modules))
    assert not broken, "\n".join(broken)


@pytest.fixture(scope="module")
def modules() -> Modules:
    return read_modules(Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("rule", "file", "text", "line"),
    [
        (wrong_floors, "cnn/other.py", "", "cnn.other is at the top of cnn"),
        (wrong_floors, "cnn/rooms/door.py", "", "cnn.rooms.door is on no floor"),
        (wrong_floors, "cnn/ops/a.py", "from cnn import layers", "cnn.ops.a:1 imports cnn.layers"),
        (wrong_floors, "cnn/ops/a.py", "import cnn.ops.cpu.b", "cnn.ops.a:1 imports cnn.ops.cpu.b"),
        (wrong_floors, "cnn/ops/a.py", "from ..layers import b", "cnn.ops.a:1 imports cnn.layers"),
        (wrong_floors, "cnn/data/a.py", "def f():\n import cnn.layers", "cnn.data.a:2 imports"),
        (wrong_floors, "cnn/train/a.py", "import experiments.train", "imports experiments.train"),
        (wrong_floors, "experiments/harness/a.py", "from experiments import train", "a:1 imports"),
        (imports_in_functions, "cnn/ops/a.py", "def f():\n import jax", "cnn.ops.a:2 imports jax"),
        (circles, "cnn/ops/c.py", "from . import b, c", "cnn.ops.b imports cnn.ops.c imports cnn."),
        (circles, "cnn/ops/b.py", "from cnn.ops import f", "cnn.ops imports cnn.ops.b imports cnn"),
        (not_programs, "experiments/a.py", "def main(): pass", "experiments.a is no program"),
    ],
)
def test_one_rule_is_broken(rule: Rule, file: str, text: str, line: str, tmp_path: Path) -> None:
    """A small repository without faults, then with one file that breaks a rule."""
    files = {
        "cnn/ops/__init__.py": "from cnn.ops.b import g",
        "cnn/ops/b.py": "if TYPE_CHECKING:\n from cnn.ops.c import d",
        "cnn/ops/c.py": "",
        "cnn/ops/implementations.py": "from cnn.ops.cpu import b",
        "cnn/ops/cpu/b.py": "from cnn.ops import c",
        "cnn/layers/__init__.py": "from cnn.ops import g",
        "experiments/train.py": 'from experiments.harness import x\nif __name__ == "__main__":\n x',
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert not [one for any_rule in RULES for one in any_rule(read_modules(tmp_path))]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    (found,) = rule(read_modules(tmp_path))
    assert line in found
