"""``ulsam-deploy cache``: shows what is stored of earlier exports, and clears it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ulsam_deploy.device.commands.answer import Answer, path_text, schema_field
from ulsam_deploy.device.commands.reading import Parser

HELP = "show where finished artifacts are cached and how much there is, or clear the cache"


@dataclass(frozen=True)
class CacheDocument:
    """``cache``: sizes in bytes, with the software of ``boards`` apart; ``removed`` and ``freed`` by ``--clear``."""

    folder: str
    entries: int
    bytes: int
    limit: int
    boards: int
    boards_bytes: int
    removed: int
    freed: int
    schema: str = schema_field("cache", 2)


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    parser.words.add("--clear", action="store_true", help="remove everything that no run is using")


def run(arguments: argparse.Namespace) -> Answer:
    """Folder, entries and size; with ``--clear``, what was removed and what is left."""
    from ulsam_deploy.device.cache import BOARDS, Cache
    from ulsam_deploy.device.commands.words import size

    cache = Cache()
    boards = Cache(cache.root / BOARDS)
    removed, freed = cache.clear() if arguments.clear else (0, 0)
    if arguments.clear:
        removed, freed = (a + b for a, b in zip((removed, freed), boards.clear()))
    held, software = cache.held(), boards.held()
    document = CacheDocument(path_text(cache.root), *held, cache.limit, *software, removed, freed)
    text = [f"{cache.root}: {held[0]} entries, {size(held[1])} of at most {size(cache.limit)}"]
    text += [f"software of emulated boards: {software[0]}, {size(software[1])}"] if software[0] else []
    if arguments.clear:
        left = held[0] + software[0]
        text.append(f"removed {removed} entries, {size(freed)}" + (f"; {left} are in use" if left else ""))
    else:
        text.append("The least recently used ones go first. Another folder: ULSAM_DEPLOY_CACHE. Empty it: --clear")
    return Answer(document, text)
