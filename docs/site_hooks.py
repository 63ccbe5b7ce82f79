"""For the site: links that leave ``docs/`` lead to the repository; readers of a clone have the file beside them."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)((?:#[^)\s]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001 - mkdocs passes them by name
    """``](../SECURITY.md)`` as a link into the repository; called by mkdocs for each page."""
    return OUTSIDE.sub(lambda found: f"]({config['repo_url']}/blob/main/{found[1]}{found[2]})", markdown)
