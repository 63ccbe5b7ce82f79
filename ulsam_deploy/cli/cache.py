"""``ulsam-deploy cache``: what is kept of earlier exports, and how to be rid of it."""

from __future__ import annotations

import argparse

from ulsam_deploy.device.cache import BOARDS, Cache
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.printing import say


def run(arguments: argparse.Namespace) -> Exit:
    """Print folder, entries and size; with ``--clear``, what was removed and what is left."""
    cache = Cache()
    boards = Cache(cache.root / BOARDS)
    removed, freed = cache.clear() if arguments.clear else (0, 0)
    if arguments.clear:
        removed, freed = (a + b for a, b in zip((removed, freed), boards.clear()))
    count, size = cache.held()
    systems, system_size = boards.held()
    if arguments.json:
        found = {"folder": str(cache.root), "entries": count, "bytes": size, "limit": cache.limit}
        found |= {"boards": systems, "boards_bytes": system_size}
        words.print_json("cache", {**found, "removed": removed, "freed": freed})
        return Exit.OK
    say(f"{cache.root}: {count} entries, {words.size(size)} of at most {words.size(cache.limit)}")
    if systems:
        say(f"software of emulated boards: {systems}, {words.size(system_size)}")
    if arguments.clear:
        say(
            f"removed {removed} entries, {words.size(freed)}"
            + (f"; {count + systems} are in use" if count + systems else "")
        )
    else:
        say("The least recently used ones go first. Another folder: ULSAM_DEPLOY_CACHE. Empty it: --clear")
    return Exit.OK
