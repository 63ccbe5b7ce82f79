"""Keeps what the disk holds before every write of a whole export: that is what a SIGKILL at that moment would leave.

A script (``test_crash.py`` runs it in a process of its own, because it forks): ``crash_walk.py FOLDER TARGETS
STRIDE``, where a stride of n keeps every n-th moment. At each, the old bundle or the new one has to be whole, and the
next run, which finds the cache of a finished one, has to leave the new one and no litter. Prints the number of moments.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import read_bundle

PLACES = ("out", "tmp", "cache")
#: What changes the disk; each is told before it happens.
WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


def digest(root: Path) -> str:
    """Of all names and bytes of a folder; an empty text where there is none."""
    if not root.exists():
        return ""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(str(f.relative_to(root)).encode() + hashlib.sha256(f.read_bytes()).digest() for f in files)
    ).hexdigest()


class Moments:
    """The audit hook: counts writes below ``root`` and keeps every ``stride``-th state of it in ``kept``."""

    def __init__(self, root: Path, kept: Path, stride: int) -> None:
        self.root, self.kept, self.stride = root, kept, stride
        self.count, self.busy, self.on = 0, False, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or self.busy or not self._is_write(event, arguments):
            return
        self.count += 1
        if self.count % self.stride == 0:
            self.busy = True
            shutil.copytree(self.root, self.kept / f"{self.count:05}", symlinks=True, ignore_dangling_symlinks=True)
            self.busy = False

    def _is_write(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return False
        elif event not in WRITES:
            return False
        path = arguments[0]
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(str(self.root))


def use(root: Path) -> None:
    """Work in ``root`` from now on."""
    os.environ["TMPDIR"], os.environ["ULSAM_DEPLOY_CACHE"] = str(root / "tmp"), str(root / "cache")
    tempfile.tempdir = None


def export(checkpoint: Path, targets: str, root: Path) -> int:
    """The run itself, in a fork; its exit code."""
    process = os.fork()
    if process == 0:
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        use(root)
        code = 99
        try:
            code = main(["export", str(checkpoint), "--target", targets, "--output", str(root / "out/net.bundle")])
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def litter(root: Path) -> list[str]:
    """What should not be there after a run; PyTorch keeps a cache of its own there for all programs of one user."""
    lying = [path for place in ("out", "tmp") for path in (root / place).iterdir()]
    return [path.name for path in lying if path.name != "net.bundle" and not path.name.startswith("torchinductor_")]


def walk(folder: Path, checkpoint: Path, old: Path, targets: str, stride: int) -> int:
    """The number of moments that were looked at."""
    live, kept = folder / "live", folder / "kept"
    for place in PLACES:
        (live / place).mkdir(parents=True, mode=0o700)
    kept.mkdir()
    shutil.copytree(old, live / "out/net.bundle")
    before = digest(live / "out/net.bundle")
    moments = Moments(live, kept, stride)
    sys.addaudithook(moments)
    use(live)
    moments.on = True
    code = main(["export", str(checkpoint), "--target", targets, "--output", str(live / "out/net.bundle")])
    moments.on = False
    assert code == 0, code
    assert not litter(live), litter(live)
    members = {record.path for record in read_bundle(live / "out/net.bundle").manifest.members()}
    for state in sorted(kept.iterdir()):
        _look(state, before, members)
        for entry in (live / "cache").iterdir():
            if not (state / "cache" / entry.name).exists():
                shutil.copytree(entry, state / "cache" / entry.name)
        code = export(checkpoint, targets, state)
        assert code == 0, f"{state.name}: the next run ended with {code}"
        assert not litter(state), f"{state.name}: the next run left {litter(state)}"
        found = read_bundle(state / "out/net.bundle")
        found.verify_integrity()
        assert {record.path for record in found.manifest.members()} == members, state.name
        shutil.rmtree(state)
    return moments.count


def _look(state: Path, before: str, members: set[str]) -> None:
    """The old bundle, or the new one, or, for a moment where names can't be exchanged, the old one set aside."""
    target = state / "out/net.bundle"
    if digest(target) == before:
        return
    bundle = read_bundle(target)
    bundle.verify_integrity()
    assert {record.path for record in bundle.manifest.members()} == members, f"{state.name}: neither old nor new"


if __name__ == "__main__":
    place, network, older = map(Path, sys.argv[1:4])
    print(json.dumps({"moments": walk(place, network, older, sys.argv[4], int(sys.argv[5]))}), file=sys.__stdout__)
