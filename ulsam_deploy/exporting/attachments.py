"""The attachments of a bundle: files besides artifacts and golden set, written from the manifest and the folder."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from ulsam_deploy.device import codec, maps
from ulsam_deploy.device.bundle import Manifest
from ulsam_deploy.device.bundle.members import record_file
from ulsam_deploy.device.cache import Cache, key, source_digest
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.invocation import extra
from ulsam_deploy.device.third_party import version
from ulsam_deploy.exporting.bom import write_bom
from ulsam_deploy.report import REPORT, page

Writer = Callable[[Manifest, Path], str]

#: Each writes at most one file into the folder and returns its name, or ``""`` if it has nothing to write.
#: The manifest's ``extras`` list the files of the writers before it.
WRITERS: tuple[Writer, ...] = (maps.complete, write_bom, page.write)
#: Writers that take seconds and whose file depends only on the manifest: cached, so that a repeated export is quick.
_SLOW = (maps.complete, page.write)


def attach(
    manifest: Manifest, folder: Path, *, cached: bool = True, say: Callable[[str], None] = lambda _: None
) -> Manifest:
    """Write the attachments of the bundle in ``folder`` and return ``manifest`` with them in its ``extras``."""
    cache = Cache() if cached else None
    for write in WRITERS:
        name = _kept(write, manifest, folder, cache) if cache and write in _SLOW else write(manifest, folder)
        if name:
            manifest = dataclasses.replace(manifest, extras=(*manifest.extras, record_file(folder, name)))
    if lacking := page.lacking():
        say(f"  note: no {REPORT} was written, it needs {lacking}: {extra('report')}")
    return manifest


def _kept(write: Writer, manifest: Manifest, folder: Path, cache: Cache) -> str:
    """Take the file that ``write`` made for an equal manifest from the cache, or make it now."""
    tools = [version(name) for name in page.NEEDS]
    entry = key("attachment", write.__module__, codec.encode(manifest, "manifest"), source_digest(), tools)
    if found := cache.get(entry):
        for file in found.iterdir():
            shutil.copyfile(file, folder / file.name)
            return file.name
        return ""
    name = write(manifest, folder)
    with scratch() as copy:
        if name:
            shutil.copyfile(folder / name, copy / name)
        cache.put(entry, copy)
    return name
