"""Writes ``docs/api.md``, the API reference, from the docstrings: python docs/make_api.py"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
#: What programs use, and what a backend or a network of one's own is made of.
MODULES = (
    "api",
    "device.verification",
    "exporting.options",
    "load.options",
    "device.types",
    "device.runtime",
    "graph.interfaces",
    "device.errors",
    "device.preprocessing",
    "device.bundle.manifest",
    "device.bundle.read",
    "device.bundle.judged",
    "device.parity.check",
    "device.findings.parity",
    "device.findings.agreement",
    "device.findings.statistics",
    "device.findings.engine",
    "device.findings.artifact",
)
HEAD = """# From Python

Made from the docstrings by `python docs/make_api.py`. `import ulsam_deploy as ud` gives `ud.export`, `ud.verify` and
`ud.open`; arrays are NumPy's, images NCHW and float32. Every error is an `ud.UlsamError` with the exit code of the
command line. A bundle and a verification know whether they `passed`, and `raise_if_failed()`.

In signatures, `PathLike` is a `str` or a path; `Words` one word, several with commas between them, or a list; `Shapes`
one shape such as `(3, 224, 224)` or `"3x224x224"`, or a list of such; `Batch` a number, `"dynamic"` or `None`;
`BudgetLike` a `Budget`, or a mapping such as `{"drop": 0.3, "size": "40%"}`.

"""
CONFIG = {
    "filters": ["!^_", "!^Array", "!^main$"],
    "heading_level": 2,
    "line_length": 110,
    "members_order": "source",
    "show_if_no_docstring": False,
    "show_object_full_path": False,
    "show_root_members_full_path": False,
    "show_signature_annotations": True,
    "summary": False,
}


def reference() -> str:
    """The page; imports none of the modules."""
    import griffe
    from griffe2md import default_config, render_object_docs

    loader = griffe.GriffeLoader(search_paths=[ROOT], docstring_parser=griffe.Parser.google)
    pages = [render_object_docs(loader.load(f"ulsam_deploy.{name}"), {**default_config, **CONFIG}) for name in MODULES]
    return HEAD + "\n".join(_plain(page).strip() + "\n" for page in pages)


def _plain(text: str) -> str:
    """reStructuredText's roles and literals as Markdown's."""
    text = re.sub(r":(?:func|class|meth|mod|data|attr):`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"(?<!`)``([^`\n]+)``(?!`)", r"`\1`", text)
    return text.replace("```python", "```py")  # signatures: nothing that could be run


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
