"""Opens a bundle from a folder or a ``.zip``, and checks that it is what its manifest says.

Standard library and numpy only; device-safe.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.device.bundle import archive
from ulsam_deploy.device.bundle.judged import CODES, Finding, Judged
from ulsam_deploy.device.bundle.manifest import ArtifactRecord, Manifest
from ulsam_deploy.device.bundle.members import check_members, load_manifest
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.files import scratch
from ulsam_deploy.device.spelling import unknown
from ulsam_deploy.device.targets import canonical

__all__ = ["Bundle", "read_bundle"]


@dataclass(frozen=True)
class Bundle(Judged):
    """An opened bundle, and the findings of its export.

    For a bundle from a ``.zip``, ``root`` is a temporary folder that exists as long as this object.
    """

    root: Path
    manifest: Manifest

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the export, from the manifest; :func:`ulsam_deploy.verify` repeats the checks here."""
        return tuple(
            Finding(
                record.target,
                record.precision,
                record.evidence.level,
                record.evidence.verdict,
                CODES[record.evidence.verdict],
                " ".join(reason.text for reason in record.evidence.reasons),
            )
            for record in self.manifest.artifacts
        )

    def __repr__(self) -> str:
        return f"<Bundle {str(self.root)!r} of {self.manifest.model.name!r}: {self._words()}>"

    def _repr_html_(self) -> str:
        return self._table(f"{self.root} of {self.manifest.model.name}")

    def verify_integrity(self) -> None:
        """Check every member; raises :class:`RefusedError` naming the first that is extra, missing, linked or altered.

        An engine reads the files again afterwards: this protects against a bundle that was altered in transit, not
        against someone who can write to the folder at the same time.
        """
        check_members(self.root, self.manifest)

    def artifact(self, target: str, precision: str = "") -> ArtifactRecord:
        """The artifact for ``target`` (the first one unless ``precision`` chooses); raises :class:`UsageError`."""
        name = canonical(target)
        for record in self.manifest.artifacts:
            if record.target == name and precision in ("", record.precision):
                return record
        asked = f"{target} {precision}".strip()
        present = [f"{record.target} {record.precision}" for record in self.manifest.artifacts]
        near = present if precision else [record.target for record in self.manifest.artifacts]
        raise unknown(f"the bundle has no artifact for '{asked}'", asked, near, expected=", ".join(present))

    def chosen(self, targets: Iterable[str]) -> tuple[ArtifactRecord, ...]:
        """The artifacts of some targets.

        Args:
            targets: Their names or aliases; empty: all artifacts.

        Returns:
            The artifacts, in the bundle's order.

        Raises:
            UsageError: The bundle has no artifact of one of the targets.
        """
        wanted = {self.artifact(target).target for target in targets}
        return tuple(record for record in self.manifest.artifacts if not wanted or record.target in wanted)

    def files(self, record: ArtifactRecord) -> tuple[Path, ...]:
        """The paths of the files of ``record``; the runtime opens the first one."""
        return tuple(self.root / file.path for file in record.files)

    @property
    def golden(self) -> Path | None:
        """The path of the golden set, if the bundle has one."""
        return None if self.manifest.golden is None else self.root / self.manifest.golden.path


def read_bundle(path: Path) -> Bundle:
    """Open the bundle folder or ``.zip`` at ``path``.

    A ``.zip`` is unpacked and its members are checked at once; for a folder only the manifest is read, so call
    :meth:`Bundle.verify_integrity` before an engine opens anything. Raises :class:`UsageError` if there is no
    bundle, :class:`RefusedError` if it isn't valid.
    """
    path = Path(path)
    if path.is_dir():
        return Bundle(path.resolve(), load_manifest(path)[0])
    if not path.exists():
        raise UsageError(f"there is no bundle at {path}", expected="a bundle folder, or a .zip made from one")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch())
            bundle = Bundle(folder, archive.extract(path, folder))
        except OSError as error:
            todo = "free some space, or set TMPDIR to another folder"
            raise UsageError(f"{path} couldn't be unpacked: {error.strerror}", todo=todo) from error
        weakref.finalize(bundle, stack.pop_all().close)
    return bundle
