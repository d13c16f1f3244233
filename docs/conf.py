"""How Sphinx builds the documentation: `make docs`. Nothing is loaded from the network."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

project = "cnn-biases"
author = copyright = "The cnn-biases contributors"
version = release = installed("cnn-biases")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "studies/*/measured.md"]

# Pages whose code cells run at every build: an example that fails stops it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
kernel = ROOT / "docs" / "_build" / "ipython"  # not the user's settings of IPython
(kernel / "profile_default").mkdir(parents=True, exist_ok=True)
(kernel / "profile_default" / "ipython_kernel_config.py").write_text(
    'get_config().IPKernelApp.log_level = "ERROR"\n'
)
os.environ["IPYTHONDIR"] = str(kernel)
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True  # pages may leave runs and results
nb_render_markdown_format = "myst"  # of outputs, which may have tables
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings put names in single backticks. Arrays' shapes are types of jaxtyping.
default_role = "py:obj"
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Reference", "notes_style")]
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = "cnn-biases"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "navbar_persistent": [],
}
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_copyright = False
html_copy_source = False


def to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make reStructuredText of a docstring, in place, before napoleon reads its sections.

    Docstrings write indented blocks without `::`, and `*`, `|` and `_` as they are.
    """
    result: list[str] = []
    literal, last = False, ""  # last: the last line that is not blank
    for line in lines:
        indented = line.startswith("    ")
        after_blank = bool(result) and not result[-1]
        if line and not indented:
            literal = False
        elif indented and after_blank and not last.startswith(" ") and not literal:
            literal = True
            result += ["::", ""]
        example = line.lstrip().startswith((">>>", "...")) or (
            last.lstrip().startswith(">>>") and not after_blank
        )
        last = line or last
        if not literal and not example:
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            line = "".join(parts)
        result.append(line)
    lines[:] = result


def shorten(app: Any, what: str, name: str, obj: Any, options: Any, *texts: str | None) -> Any:
    """Shorten a signature: the type of JAX's arrays, and the last two fields of a Linen module."""
    pairs = {
        r"jaxlib\.[\w.]*Array\b": "Array",
        r",? ?parent: [^=]*= <flax[^>]*>, name: str \| None = None": "",
        r"~(collections\.abc|typing|flax\.[a-z.]*)\.": "",
    }
    for pattern, text in pairs.items():
        texts = tuple(old and re.sub(pattern, text, old) for old in texts)
    return texts


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple, of which Python says only their number."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", to_rst, priority=400)
