"""Writes a bundle completely or not at all, and packs and unpacks archives of bundles.

Standard library and numpy only; POSIX.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from ulsam_deploy.device.bundle import archive
from ulsam_deploy.device.bundle.kinds import ARCHIVE
from ulsam_deploy.device.bundle.manifest import MANIFEST, SIGNATURE, ArtifactRecord, Evidence, FileRecord, Manifest
from ulsam_deploy.device.bundle.members import check_members, load_manifest, record_file, walk
from ulsam_deploy.device.bundle.output import Output, check_folder
from ulsam_deploy.device.bundle.read import Bundle
from ulsam_deploy.device.errors import ExportError, RefusedError, UlsamError, UsageError
from ulsam_deploy.device.files import install, staging, sync, sync_tree
from ulsam_deploy.device.types import Artifact

__all__ = ["BundleWriter", "check_writable", "pack", "seal", "unpack"]

#: Errors of the disk; any other error inside the writer's block is the block's own.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)

_ELSEWHERE = "choose another folder with --output, or move what is there away"


class BundleWriter:
    """Writes a new bundle::

        with BundleWriter(Path("model.bundle")) as writer:
            (writer.folder / "onnx").mkdir()
            ...
            bundle = writer.commit(manifest)

    ``folder`` is a temporary folder next to the target. Without :meth:`commit`, and on any exception, it is removed and
    an older bundle at the target stays as it was. Disk errors are raised as :class:`ExportError` with a clear message.
    """

    folder: Path

    def __init__(self, output: Path) -> None:
        self.output = Path(output).resolve()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BundleWriter:
        check_writable(self.output)
        with _in_words(self.output):
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.folder = self._stack.enter_context(staging(self.output))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if isinstance(error, shutil.Error) or (isinstance(error, OSError) and error.errno in _DISK):
            raise _disk_error(self.output, error) from error

    def record(self, name: str) -> FileRecord:
        """The record of the file ``name`` (a path inside the bundle, with ``/``) as it is now."""
        return record_file(self.folder, name)

    def artifact(
        self, made: Artifact, subfolder: str, evidence: Evidence | None = None, effective_precision: str = ""
    ) -> ArtifactRecord:
        """The record of the artifact in ``subfolder``; without ``evidence``, with the exporter's own level."""
        return ArtifactRecord(
            target=made.target,
            precision=made.precision,
            effective_precision=effective_precision or made.precision,
            files=tuple(self.record(f"{subfolder}/{name}") for name in made.files),
            inputs=made.inputs,
            outputs=made.outputs,
            toolchain=made.toolchain,
            facts=made.facts,
            evidence=evidence or Evidence(made.level),
        )

    def commit(self, manifest: Manifest) -> Bundle:
        """Make the bundle appear at the target, replacing an older bundle there.

        Raises :class:`ExportError` if the folder isn't exactly what ``manifest`` lists or the disk fails, and
        :class:`UsageError` if something that isn't a bundle was created at the target meanwhile.
        """
        return self._commit(manifest.to_json().encode())

    def _commit(self, text: bytes) -> Bundle:
        try:
            manifest = Manifest.from_json(text)
            check_members(self.folder, manifest, sealed=False)
        except RefusedError as error:
            raise ExportError(f"the new bundle isn't sound: {error.found}", expected=error.expected) from error
        with _in_words(self.output):
            sync_tree(self.folder)
            (self.folder / MANIFEST).write_bytes(text)
            sync_tree(self.folder)
            install(self.folder, self.output, check_replaceable)
        return Bundle(self.output, manifest)


def check_writable(output: Path) -> None:
    """Raise :class:`UsageError` unless a bundle can be written at ``output``; cheap, to be called before the work."""
    output = Path(output).resolve()
    check_replaceable(output)
    if Path.cwd().is_relative_to(output):
        raise UsageError(f"{output} is the folder that you are in", expected="a name for the bundle", todo=_ELSEWHERE)
    folder = output.parent
    while not folder.exists():
        folder = folder.parent
    check_folder(folder, f"'{output}'", todo="choose another folder with --output")


def check_replaceable(output: Path) -> None:
    """Raise :class:`UsageError` if replacing ``output`` would delete anything that isn't part of a bundle."""
    while True:
        try:
            handle = os.open(output, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{output} can't be read: {error.strerror}", todo=_ELSEWHERE) from error
        try:
            return _check_replaceable(output)
        except (UlsamError, OSError):
            # If another run replaced the bundle meanwhile, what was read may be half of one and half of the other.
            if output.exists() and os.path.samestat(os.fstat(handle), output.stat()):
                raise
        finally:
            os.close(handle)


def _check_replaceable(output: Path) -> None:
    if not output.is_dir():
        raise UsageError(f"{output} is a file", expected="a folder, or nothing yet", todo=_ELSEWHERE)
    if not any(output.iterdir()):
        return
    try:
        manifest, _ = load_manifest(output)
    except (UsageError, RefusedError) as error:
        raise UsageError(f"{output} isn't a bundle: {error.found}", todo=_ELSEWHERE) from error
    known = {record.path for record in manifest.members()} | {MANIFEST, SIGNATURE}
    for name, entry in walk(output):
        if name not in known and not entry.is_dir(follow_symlinks=False):
            raise UsageError(f"{output} holds {name!a}, which isn't part of the bundle there", todo=_ELSEWHERE)


def pack(bundle: Bundle, path: Path, *, force: bool = False) -> Path:
    """Check ``bundle`` and write it to the ``.zip`` at ``path``, completely or not at all; the bytes are deterministic.

    An existing packed bundle is replaced; any other file only with ``force``. Raises :class:`UsageError` if ``path``
    can't be written or contains something else, :class:`RefusedError` if the bundle isn't valid, :class:`ExportError`
    if the disk fails.
    """
    output = Output(Path(path), ARCHIVE, force)
    output.check()
    bundle.verify_integrity()
    return output.fill(lambda partial: archive.write_archive(bundle.root, bundle.manifest, partial))


def unpack(path: Path, output: Path) -> Bundle:
    """Unpack and check the archive ``path`` into a bundle folder at ``output``, completely or not at all."""
    with BundleWriter(output) as writer:
        archive.extract(Path(path), writer.folder)
        manifest = writer.folder / MANIFEST
        text = manifest.read_bytes()
        manifest.unlink()
        return writer._commit(text)


def seal(bundle: Bundle, write: Callable[[Path], None]) -> Path:
    """Store the signature that ``write`` writes to the path it is given in ``bundle``, completely or not at all.

    An older signature is replaced. Raises :class:`ExportError` if the disk fails.
    """
    # Written next to the bundle, not in it: if this process is killed, no extra file may remain in the bundle.
    with _in_words(bundle.root), staging(bundle.root, folder=False) as partial:
        write(partial)
        sync(partial)
        partial.replace(bundle.root / SIGNATURE)
        sync(bundle.root)
    return bundle.root / SIGNATURE


@contextlib.contextmanager
def _in_words(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _disk_error(output, error) from error


def _disk_error(output: Path, error: OSError) -> ExportError:
    why = error.strerror or error
    if isinstance(error, shutil.Error):  # of a whole tree: a list of source, target and what the disk said
        why = error.args[0][0][-1]
    return ExportError(
        f"{output} couldn't be written: {why}",
        todo="free some space, or choose another folder with --output; nothing was left behind",
    )
